"""Everything that cannot be published, retired or labelled is refused in one sentence, and changes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tidegate.training_hooks import ArtifactError, list_models, publish, remove_label, retire, save_model, set_label
from tidegate.training_hooks.__main__ import main
from tidegate.training_hooks.publishing import reservation
from tidegate.training_hooks.staging import exclusive

from .repositories import BucketPlace, FolderPlace, Place, served, write_model
from .s3_server import S3, environment, nothing, serving


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as s3, environment(s3.environment):
        yield s3


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A repository with one version, which has a label."""
    empty: Place
    if request.param == "folder":
        empty = FolderPlace(tmp_path / "repository")
    else:
        empty = BucketPlace(request.getfixturevalue("s3"), tmp_path.name)
    publish(write_model(tmp_path / "model", "first"), empty.address, "net", labels="stable")
    return empty


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", "second")


Break = Callable[[Path], object]


def changed(directory: Path) -> None:
    (directory / "model.pth").write_bytes(b"x" * (directory / "model.pth").stat().st_size)


def of_another_size(directory: Path) -> None:
    (directory / "model.pth").write_bytes(b"short")


def incomplete(directory: Path) -> None:
    (directory / "model.pth").unlink()


def linked(directory: Path) -> None:
    (directory / "link").symlink_to("/etc/hostname")


def of_another_format(directory: Path) -> None:
    (directory / "manifest.json").write_text('{"format_version": 99}')


def no_manifest(directory: Path) -> None:
    (directory / "manifest.json").write_text("[")


def marked(directory: Path) -> None:
    (directory / ".unfinished").touch()


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (changed, "model.pth has changed since it was saved: its SHA-256"),
        (of_another_size, "model.pth has 5 bytes, but manifest.json says"),
        (incomplete, "'model.pth' is listed in manifest.json but missing"),
        (linked, "link is a symbolic link to /etc/hostname"),
        (of_another_format, "has the format version 99; this release knows 1"),
        (no_manifest, "manifest.json cannot be read as JSON"),
        (marked, "holds .unfinished, which marks what is not published yet"),
    ],
)
def test_a_broken_model_is_not_published(place: Place, tmp_path: Path, broken: Break, sentence: str) -> None:
    saved = save_model(torch.nn.Linear(2, 2), model_dir=tmp_path / "saved")
    broken(saved)
    before = place.files()
    with pytest.raises(ArtifactError) as caught:
        publish(saved, place.address, "net")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert place.files() == before


def test_what_is_no_directory_with_files_is_not_published(place: Place, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.tar.gz").touch()
    before = place.files()
    for name, sentence in {"empty": "holds no files", "model.tar.gz": "is not a directory", "no": "is not a"}.items():
        with pytest.raises(ArtifactError, match=sentence):
            publish(tmp_path / name, place.address, "net")
    assert place.files() == before


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "7", "code", "a b", "a;b", "é", "net.tar.gz", "a" * 129, None])
def test_names_that_no_header_or_path_can_hold_are_refused(place: Place, model_dir: Path, name: object) -> None:
    before = place.files()
    with pytest.raises(ArtifactError, match="the model's name is "):
        publish(model_dir, place.address, name)  # type: ignore[arg-type]
    assert place.files() == before


@pytest.mark.parametrize("version", ["", "latest", "007", "-1", "1.0", "²", "1" * 16, -1, True, None, 10**15])
def test_versions_that_are_no_plain_numbers_are_refused(place: Place, model_dir: Path, version: object) -> None:
    before = place.files()
    for call in (
        lambda: publish(model_dir, place.address, "net", version=version),  # type: ignore[arg-type]
        lambda: retire(place.address, "net", version),  # type: ignore[arg-type]
        lambda: set_label(place.address, "net", version, "stable"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ArtifactError, match="the version is "):
            call()
    assert place.files() == before


@pytest.mark.parametrize("label", ["", "latest", "3", "a b", "a=b", "-a", "a" * 65, None])
def test_labels_that_mean_something_else_are_refused(place: Place, model_dir: Path, label: object) -> None:
    """Before anything is uploaded."""
    before = place.files()
    for call in (
        lambda: publish(model_dir, place.address, "net", labels=[label]),  # type: ignore[list-item]
        lambda: set_label(place.address, "net", 1, label),  # type: ignore[arg-type]
        lambda: remove_label(place.address, "net", label),  # type: ignore[arg-type]
    ):
        with pytest.raises(ArtifactError, match="the label is "):
            call()
    assert place.files() == before


@pytest.mark.parametrize(
    "repository", ["", "s3:/models", "s3://", "s3://UPPER/x", "s3://models/a//b", "gs://bucket/x", "https://x/y", None]
)
def test_repositories_that_are_neither_a_folder_nor_in_s3_are_refused(model_dir: Path, repository: object) -> None:
    with pytest.raises(ArtifactError, match="the repository is "):
        publish(model_dir, repository, "net")  # type: ignore[arg-type]


def test_what_is_not_there_is_said_with_what_is(place: Place) -> None:
    """A model, a version, a label."""
    before = place.files()
    for call, sentence in (
        (lambda: retire(place.address, "net", 4), "/net has no version 4; its versions are 1"),
        (lambda: set_label(place.address, "net", 4, "stable"), "/net has no version 4; its versions are 1"),
        (lambda: retire(place.address, "nut", 1), "has no model 'nut' with versions"),
        (lambda: set_label(place.address, "nut", 1, "stable"), "has no model 'nut' with versions"),
        (lambda: remove_label(place.address, "net", "canary"), "/net has no label 'canary'; its labels are stable"),
    ):
        with pytest.raises(ArtifactError, match=sentence):
            call()
    assert place.files() == before


def test_a_labels_file_that_cannot_be_read_is_left_to_a_person(place: Place, model_dir: Path) -> None:
    """Nothing is uploaded, labelled or retired meanwhile; a publish without a label works."""
    place.put("net/labels.json", b'{"stable": "3"}')
    before = place.files()
    for call in (
        lambda: publish(model_dir, place.address, "net", labels="stable"),
        lambda: set_label(place.address, "net", 1, "stable"),
        lambda: retire(place.address, "net", 1),
    ):
        with pytest.raises(ArtifactError, match=r"labels.json of .*/net cannot be read: it should be an object"):
            call()
    assert place.files() == before
    assert publish(model_dir, place.address, "net").version == 2


def test_an_unversioned_model_gets_no_versions(place: Place, model_dir: Path) -> None:
    """Its files would lie beside the versions, and belong to none."""
    place.put("whole/model.pt", b"")
    place.put("packed.tar.gz", b"")
    before = place.files()
    with pytest.raises(ArtifactError, match=r"holds an unversioned model \(model.pt\); publish under another name"):
        publish(model_dir, place.address, "whole")
    with pytest.raises(ArtifactError, match=r"packed.tar.gz is an unversioned model; publish under another name"):
        publish(model_dir, place.address, "packed")
    assert place.files() == before


def test_a_model_is_no_repository(place: Place, model_dir: Path) -> None:
    """REPOSITORY/NAME given as the repository would hide a model in a model."""
    before = place.files()
    for call in (
        lambda: publish(model_dir, f"{place.address}/net", "net"),
        lambda: publish(model_dir, f"{place.address}/net/1", "net"),
        lambda: set_label(f"{place.address}/net", "net", 1, "stable"),
        lambda: retire(f"{place.address}/net", "net", 1),
    ):
        with pytest.raises(ArtifactError, match=r"is a model itself; give the (folder|prefix) above it as the repos"):
            call()
    assert place.files() == before


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """Only publish makes one: a slip of the pen in the others is an error."""
    for call in (
        lambda: list_models(tmp_path / "no"),
        lambda: retire(tmp_path / "no", "net", 1),
        lambda: set_label(tmp_path / "no", "net", 1, "stable"),
    ):
        with pytest.raises(ArtifactError, match="there is no repository"):
            call()
    assert not (tmp_path / "no").exists()


def test_a_repository_in_the_model_directory_would_publish_itself(model_dir: Path) -> None:
    with pytest.raises(ArtifactError, match="lies inside"):
        publish(model_dir, model_dir / "repository", "net")


def test_a_bucket_that_is_not_there_is_said_in_one_sentence(
    s3: S3, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(model_dir), "s3://not-there/x", "net"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tidegate: error: s3://not-there/x does not answer as it should: ")
    assert "NoSuchBucket" in error
    assert error.count("\n") == 1


def test_a_bucket_without_credentials_is_said_in_one_sentence(model_dir: Path, s3: S3) -> None:
    """In a process of its own, as boto3 keeps what it found."""
    program = "import sys; from tidegate.training_hooks.__main__ import main; sys.exit(main(sys.argv[1:]))"
    variables = {name: value for name, value in s3.environment.items() if not name.endswith(("_ID", "_KEY"))}
    done = subprocess.run(
        [sys.executable, "-c", program, "publish", str(model_dir), "s3://models/x", "net"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "tidegate: error: s3://models/x does not answer as it should: Unable to locate credentials\n"
    )


def test_without_boto3_a_bucket_is_refused_and_a_folder_works(model_dir: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['boto3'] = None\n"
        "from tidegate.training_hooks.__main__ import main\n"
        "print(main(['publish', sys.argv[1], 's3://models/x', 'net']), main(['publish', *sys.argv[1:], 'net']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model_dir), str(tmp_path / "other")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr == "tidegate: error: s3://models/x needs boto3: pip install boto3\n"
    assert done.stdout.splitlines()[-1] == "1 0"


@pytest.fixture
def half(s3: S3, tmp_path: Path) -> BucketPlace:
    """A bucket in which somebody publishes version 2, or did until he was killed."""
    place = BucketPlace(s3, tmp_path.name)
    publish(write_model(tmp_path / "model", "first"), place.address, "net")
    place.put("net/2/.unfinished", b'{"purpose": "publish", "host": "trainer-7", "token": "of another"}')
    place.put("net/2/weights", b"half")
    place.put("net/2/left", b"over")
    return place


def test_a_number_that_is_under_way_is_neither_given_nor_removed(half: BucketPlace, model_dir: Path) -> None:
    """It says whose it is and when it may be taken; the next number is free."""
    before = half.files()
    with pytest.raises(ArtifactError, match=r"version 2 of .* is under way: a publish on trainer-7 wrote .* in 15 min"):
        publish(model_dir, half.address, "net", version=2)
    with pytest.raises(ArtifactError, match=r"version 2 of .* is under way: a publish on trainer-7 wrote .* in 15 min"):
        retire(half.address, "net", 2)
    with pytest.raises(ArtifactError, match="has no version 2"):
        set_label(half.address, "net", 2, "stable")
    assert half.files() == before
    assert publish(model_dir, half.address, "net").version == 3
    assert served(half.files()) == {"1": "first", "3": "second"}


def test_a_number_that_was_left_behind_is_taken_over(
    half: BucketPlace, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing of what its first holder left."""
    monkeypatch.setattr(reservation, "ABANDONED_S", -10.0)
    publish(model_dir, half.address, "net", version=2)
    assert served(half.files()) == {"1": "first", "2": "second"}
    assert "net/2/left" not in half.files()


def test_what_was_left_behind_can_be_removed(half: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservation, "ABANDONED_S", -10.0)
    retire(half.address, "net", 2)
    assert [name for name in half.files() if name.startswith("net/2/")] == []
    assert served(half.files()) == {"1": "first"}


def test_a_publisher_that_was_taken_for_dead_publishes_nothing(
    s3: S3, tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop that slept in the middle of the upload: what the other one wrote stays as it is."""
    place = BucketPlace(s3, tmp_path.name)
    other = write_model(tmp_path / "other", "of the other")
    monkeypatch.setattr(reservation, "ABANDONED_S", -10.0)

    def slept(method: str, path: str) -> None:
        if path.endswith("/net/1/weights"):
            s3.before = nothing
            publish(other, place.address, "net", version=1)

    monkeypatch.setattr(s3, "before", slept)
    with pytest.raises(ArtifactError, match="is not this process's any more"):
        publish(model_dir, place.address, "net", version=1)
    assert "net/1/manifest.json" in place.files()
    assert publish(model_dir, place.address, "net").version == 2


@pytest.mark.parametrize("written", ["/.unfinished", "/weights", "/manifest.json"])
@pytest.mark.parametrize("refusal", ["403 AccessDenied", "500 InternalError"])
def test_a_refusal_of_the_bucket_in_the_middle_leaves_nothing(
    s3: S3, tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch, written: str, refusal: str
) -> None:
    """What was uploaded until then is removed, and the sentence says what S3 said."""
    place = BucketPlace(s3, tmp_path.name)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    monkeypatch.setattr(
        s3, "before", lambda method, path: refusal if method == "PUT" and path.endswith(written) else None
    )
    with pytest.raises(ArtifactError, match="does not answer as it should") as caught:
        publish(model_dir, place.address, "net")
    assert refusal.split()[1] in str(caught.value)
    assert place.files() == {}


def test_a_bucket_that_is_throttled_or_in_conflict_for_a_while_is_asked_again(
    s3: S3, tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 SlowDown is tried again by boto3; 409 of a conditional write, which says to, by us."""
    place = BucketPlace(s3, tmp_path.name)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    refused: dict[str, int] = {}

    def refuse(method: str, path: str) -> str | None:
        if method != "PUT" or refused.setdefault(path, 0) == 2:
            return None
        refused[path] += 1
        return "409 ConditionalRequestConflict" if path.endswith(("ed", ".json")) else "503 SlowDown"

    monkeypatch.setattr(s3, "before", refuse)
    assert publish(model_dir, place.address, "net", labels="stable").version == 1
    assert set(refused.values()) == {2}
    assert len(refused) == 6
    assert served(place.files()) == {"1": "second"}


def test_a_directory_that_is_being_saved_is_not_published(place: Place, model_dir: Path) -> None:
    """While save_model writes to it; afterwards it is."""
    before = place.files()
    with exclusive(model_dir), pytest.raises(ArtifactError, match="another process is saving or packing"):
        publish(model_dir, place.address, "net")
    assert place.files() == before
    assert publish(model_dir, place.address, "net").version == 2
