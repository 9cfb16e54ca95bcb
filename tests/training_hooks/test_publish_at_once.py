"""Several processes publish and label at once: no number is given twice, no label is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidegate.training_hooks import ArtifactError, publish, retire, set_label
from tidegate.training_hooks.publishing import objects

from .repositories import BucketPlace, FolderPlace, Place, served, write_model
from .s3_server import S3, environment, serving


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as s3, environment(s3.environment):
        yield s3


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return FolderPlace(tmp_path / "repository")
    return BucketPlace(request.getfixturevalue("s3"), tmp_path.name)


PUBLISHING = """\
import pathlib, sys
from tidegate.training_hooks import ArtifactError, publish
together, address, own, shared = map(str, sys.argv[1:])
(pathlib.Path(together) / f"ready-{pathlib.Path(own).name}").touch()
while len(list(pathlib.Path(together).glob("ready-*"))) < 2:
    pass
for _ in range(8):
    print(publish(own, address, "net").version)
for version in range(8):
    try:
        print(publish(own, address, "net", version=version).version)
    except ArtifactError as error:
        assert "exists already" in str(error) or "is under way" in str(error) or "was taken" in str(error), error
for _ in range(4):
    print(publish(shared, address, "net").version)
"""


def test_two_processes_are_never_given_one_number(place: Place, tmp_path: Path) -> None:
    """`next` gives each its own, a number that both ask for goes to one, and one directory can be published by both."""
    shared = write_model(tmp_path / "shared", "shared")
    publish(shared, place.address, "net", version=100)  # so that the next ones are none of those asked for by number
    owns = [write_model(tmp_path / name, name) for name in ("a", "b")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISHING, str(tmp_path), place.address, str(own), str(shared)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in owns
    ]
    numbers = []
    for process, own in zip(processes, owns, strict=True):
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        given = output.split()
        files = place.files()
        found = served(files)
        assert {found[number] for number in given[:-4]} == {own.name}
        assert {found[number] for number in given[-4:]} == {"shared"}
        numbers += given
    assert len(numbers) == len(set(numbers)) == 8 * 2 + 8 + 4 * 2
    assert served(place.files()).keys() == {*numbers, "100"}
    assert {int(number) for number in numbers} == {*range(8), *range(101, 101 + 8 * 2 + 4 * 2)}


def at_once(*calls: Callable[[], object]) -> None:
    """Run each in a thread of its own; what one raises is raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        start.wait()
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def test_labels_that_are_set_at_once_are_all_kept(place: Place, tmp_path: Path) -> None:
    """labels.json is one file: who was slower reads it again."""
    publish(write_model(tmp_path / "model", "w"), place.address, "net")

    def label(who: int) -> None:
        for number in range(4):
            set_label(place.address, "net", 1, f"label-{who}-{number}")

    at_once(*(lambda who=who: label(who) for who in range(4)))  # type: ignore[misc]
    labels = json.loads(place.files()["net/labels.json"])
    assert labels == {f"label-{who}-{number}": 1 for who in range(4) for number in range(4)}


@pytest.fixture
def two(s3: S3, tmp_path: Path) -> Iterator[BucketPlace]:
    """Two versions in a bucket, none with a label."""
    place = BucketPlace(s3, tmp_path.name)
    for name in ("first", "second"):
        publish(write_model(tmp_path / name, name), place.address, "net")
    yield place
    s3.before = lambda *_: None


def meanwhile(s3: S3, request: str, action: Callable[[], object]) -> None:
    """Do something between the last request before that one, and that one."""

    def look(method: str, path: str) -> None:
        if f"{method} {path}".endswith(request):
            s3.before = lambda *_: None
            action()

    s3.before = look


def labels_of(place: Place) -> object:
    return json.loads(place.files().get("net/labels.json", b"{}"))


def test_a_label_that_is_set_while_its_version_is_retired_keeps_the_version(s3: S3, two: BucketPlace) -> None:
    """The retire had seen no label; it looks again when the manifest is gone, and puts it back."""
    meanwhile(s3, "PUT /models/" + two.prefix + "net/2/.unfinished", lambda: set_label(two.address, "net", 2, "stable"))
    with pytest.raises(ArtifactError, match=r"version 2 of .* is 'stable'"):
        retire(two.address, "net", 2)
    assert served(two.files()) == {"1": "first", "2": "second"}
    assert labels_of(two) == {"stable": 2}


def test_a_version_that_is_retired_while_it_gets_a_label_gets_none(s3: S3, two: BucketPlace) -> None:
    """The label had seen the version; it looks again when it is written, and means what it meant before."""
    set_label(two.address, "net", 1, "stable")
    meanwhile(s3, "PUT /models/" + two.prefix + "net/labels.json", lambda: retire(two.address, "net", 2))
    with pytest.raises(ArtifactError, match="has no version 2; its versions are 1"):
        set_label(two.address, "net", 2, "stable")
    assert served(two.files()) == {"1": "first"}
    assert labels_of(two) == {"stable": 1}


def test_a_number_that_was_published_between_the_look_and_the_mark_is_left_alone(
    s3: S3, two: BucketPlace, tmp_path: Path
) -> None:
    """The other one has removed its mark already."""
    meanwhile(
        s3,
        "PUT /models/" + two.prefix + "net/3/.unfinished",
        lambda: publish(tmp_path / "first", two.address, "net", version=3),
    )
    assert publish(tmp_path / "second", two.address, "net").version == 4
    assert served(two.files()) == {"1": "first", "2": "second", "3": "first", "4": "second"}
    assert [name for name in two.files() if name.endswith(".unfinished")] == []


def test_an_answer_that_was_lost_is_no_conflict_with_oneself(
    two: BucketPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark and the manifest were written, the connection broke, and the second try finds that they are there."""
    put_if = objects.Objects.put_if
    lost: list[str] = []

    def twice(self: objects.Objects, key: str, data: bytes, *, etag: str | None) -> bool:
        if key not in lost and etag is None:
            lost.append(key)
            put_if(self, key, data, etag=etag)
        return put_if(self, key, data, etag=etag)

    monkeypatch.setattr(objects.Objects, "put_if", twice)
    assert publish(tmp_path / "second", two.address, "net").version == 3
    assert lost == ["net/3/.unfinished", "net/3/manifest.json"]
    assert served(two.files())["3"] == "second"


def test_a_publisher_that_goes_on_is_not_taken_for_a_killed_one(tmp_path: Path) -> None:
    """In a folder, while its process lives: another publish of the model leaves its copy alone."""
    model_dir = write_model(tmp_path / "model", "w")
    os.mkfifo(tmp_path / "go")
    program = (
        "import sys\nfrom tidegate.training_hooks import publish\n"
        "from tidegate.training_hooks.publishing import folder\n"
        "copy = folder._copy\n"
        "def late(model, stage, on_bytes):\n    copy(model, stage, on_bytes)\n    print(stage, flush=True)\n"
        "    open(sys.argv[3]).read()\n"
        "folder._copy = late\n"
        "print(publish(sys.argv[1], sys.argv[2], 'net').version)\n"
    )
    slow = subprocess.Popen(
        [sys.executable, "-c", program, str(model_dir), str(tmp_path / "repository"), str(tmp_path / "go")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert slow.stdout is not None
    try:
        stage = Path(slow.stdout.readline().strip())
        assert publish(model_dir, tmp_path / "repository", "net").version == 1
        assert stage.is_dir()
        (tmp_path / "go").write_text("on")
        assert slow.communicate(timeout=300)[0] == "2\n"
    finally:
        slow.kill()
        slow.wait()
    assert served(FolderPlace(tmp_path / "repository").files()) == {"1": "w", "2": "w"}
