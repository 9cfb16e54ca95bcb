"""What publish, retire and the labels leave in a repository, be it a folder or a bucket."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tidegate.training_hooks import (
    ArtifactError,
    Example,
    list_models,
    publish,
    remove_label,
    retire,
    save_model,
    set_label,
)
from tidegate.training_hooks.__main__ import main
from tidegate.training_hooks.publishing import folder, objects

from .artifacts import manifest_of
from .repositories import BucketPlace, FolderPlace, Place, served, write_model
from .s3_server import S3, environment, serving


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as s3, environment(s3.environment):
        yield s3


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty repository of each kind."""
    if request.param == "folder":
        return FolderPlace(tmp_path / "repository")
    return BucketPlace(request.getfixturevalue("s3"), f"{tmp_path.name}/models")


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", "first")


def versions(place: Place, model: str = "net") -> dict[int, str]:
    """The state of each version."""
    return {
        version.number: version.state.value
        for each in list_models(place.address)
        if each.name == model
        for version in each.versions
    }


def test_a_version_is_its_files_and_a_manifest_of_them(place: Place, model_dir: Path) -> None:
    """Any folder of a model: every file under its name, with its size and its SHA-256 in manifest.json."""
    published = publish(model_dir, place.address, "net")
    assert (published.version, published.location) == (1, f"{place.address}/net/1")
    assert published.files == ("code/inference.py", "empty", "weights")
    assert published.warnings == ()
    files = place.files()
    manifest = json.loads(files.pop("net/1/manifest.json"))
    assert files == {f"net/1/{name}": (model_dir / name).read_bytes() for name in published.files}
    assert manifest == {
        "format_version": 1,
        "files": {
            name.removeprefix("net/1/"): {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
            for name, data in files.items()
        },
    }
    assert not (model_dir / "manifest.json").exists()


def test_what_save_model_wrote_arrives_as_it_is(place: Place, tmp_path: Path, code_dir: Path) -> None:
    """Its own manifest, with labels, example and metrics, is the version's; a file put beside it is listed, too."""
    saved = save_model(
        torch.nn.Linear(2, 2), model_dir=tmp_path / "saved", code_dir=code_dir, example=Example(request=[1])
    )
    publish(saved, place.address, "net")
    assert place.files()["net/1/manifest.json"] == (saved / "manifest.json").read_bytes()
    (saved / "notes.txt").write_text("trained on a Monday")
    publish(saved, place.address, "net")
    manifest = json.loads(place.files()["net/2/manifest.json"])
    assert manifest["files"].pop("notes.txt")["size_bytes"] == 19
    assert manifest == manifest_of(saved)


def test_the_next_number_is_one_more_than_the_highest(place: Place, model_dir: Path) -> None:
    """Compared as numbers, and never one that was retired: a client that asked for it would get another model."""
    numbers = [
        publish(model_dir, place.address, "net", version=version).version for version in (9, "next", "2", "next")
    ]
    assert numbers == [9, 10, 2, 11]
    retire(place.address, "net", 11)
    assert publish(model_dir, place.address, "net").version == 12
    for version in (12, 10):
        retire(place.address, "net", version)
    assert publish(model_dir, place.address, "net").version == 13
    assert publish(model_dir, place.address, "net", version=0).version == 0
    assert set(served(place.files())) == {"0", "2", "9", "13"}


def test_a_version_that_exists_is_never_changed(place: Place, tmp_path: Path, model_dir: Path) -> None:
    """Neither one of ours nor one that other tools wrote, in files or as an archive."""
    publish(model_dir, place.address, "net")
    place.put("net/2/model.pt", b"of another tool")
    place.put("net/3.tar.gz", b"an archive")
    before = place.files()
    for version in (1, 2, 3):
        with pytest.raises(ArtifactError, match=f"version {version} of .*/net exists already, and a version never"):
            publish(write_model(tmp_path / "other", "other"), place.address, "net", version=version)
    assert place.files() == before
    assert publish(model_dir, place.address, "net").version == 4
    assert versions(place) == {1: "published", 2: "no manifest", 3: "archive", 4: "published"}


def test_labels_move_between_versions(place: Place, model_dir: Path) -> None:
    """At the publish, later, and away again; what else is in labels.json stays."""
    publish(model_dir, place.address, "net", labels="stable")
    place.put("net/labels.json", b'{"stable": 1, "by-hand": 1}')
    publish(model_dir, place.address, "net", labels=["canary", "newest"])

    def labels() -> dict[str, int]:
        found: dict[str, int] = json.loads(place.files()["net/labels.json"])
        return found

    assert labels() == {"stable": 1, "by-hand": 1, "canary": 2, "newest": 2}
    set_label(place.address, "net", 2, "stable")
    remove_label(place.address, "net", "canary")
    assert labels() == {"stable": 2, "by-hand": 1, "newest": 2}
    (model,) = list_models(place.address)
    assert model.labels == labels()
    assert [version.labels for version in model.versions] == [("by-hand",), ("newest", "stable")]


def test_a_version_with_a_label_is_retired_only_when_the_label_may_go(place: Place, model_dir: Path) -> None:
    """Who asks for the label would get nothing."""
    publish(model_dir, place.address, "net", labels=["stable", "canary"])
    publish(model_dir, place.address, "net", labels="newest")
    with pytest.raises(ArtifactError, match=r"version 1 of .*/net is 'canary' and 'stable'; give the label to another"):
        retire(place.address, "net", 1)
    assert set(served(place.files())) == {"1", "2"}
    retire(place.address, "net", 1, drop_labels=True)
    files = place.files()
    assert set(served(files)) == {"2"}
    assert json.loads(files["net/labels.json"]) == {"newest": 2}
    assert [name for name in files if name.startswith("net/1")] == []


def test_archives_of_other_tools_are_retired_and_labelled_too(place: Place, model_dir: Path) -> None:
    place.put("net/1.tar.gz", b"an archive")
    publish(model_dir, place.address, "net")
    set_label(place.address, "net", 1, "stable")
    retire(place.address, "net", 1, drop_labels=True)
    assert versions(place) == {2: "published"}


def test_everything_that_lies_in_a_repository_is_listed(place: Place, model_dir: Path) -> None:
    """What others put there, too, and what is wrong with it."""
    publish(model_dir, place.address, "net")
    place.put("net/README.md", b"stray")
    place.put("net/2/.unfinished", b"{}")
    place.put("net/2/weights", b"half")
    place.put("whole/model.pt", b"12345")
    place.put("packed.tar.gz", b"1234567")
    place.put("odd/labels.json", b"[]")
    place.put("code/inference.py", b"shared")
    place.put(".hidden", b"no model")
    found = {model.name: model for model in list_models(place.address)}
    assert list(found) == ["net", "odd", "packed", "whole"]
    assert versions(place) == {1: "published", 2: "unfinished"}
    assert found["net"].reason == "README.md beside its versions belongs to none of them"
    assert "labels.json of odd cannot be read" in found["odd"].reason
    assert (found["odd"].versions, found["whole"].versioned) == ((), False)
    sizes = {name: [(each.number, each.size_bytes, each.files) for each in found[name].versions] for name in found}
    assert (sizes["whole"], sizes["packed"]) == ([(1, 5, 1)], [(1, 7, 1)])


def test_the_commands_say_what_they_did(place: Place, model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, a table or JSON for the listing, exit status 0."""
    address = place.address

    def said(*arguments: str) -> str:
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    assert said("publish", str(model_dir), address, "net", "--label", "stable", "--label", "b").startswith(
        f"{address}/net/1  21 bytes  3 files"
    )
    assert said("publish", str(model_dir), address, "net", "--version", "7").startswith(f"{address}/net/7  ")
    assert said("label", address, "net", "7", "stable") == "stable is version 7 of net\n"
    assert said("unlabel", address, "net", "b") == "b is no label of net any more\n"
    lines = said("list", address).splitlines()
    assert [line.split() for line in lines] == [
        ["MODEL", "VERSION", "STATE", "BYTES", "FILES", "LABELS"],
        ["net", "1", "published", lines[1].split()[3], "4"],
        ["net", "7", "published", lines[2].split()[3], "4", "stable"],
    ]
    (listed,) = json.loads(said("list", address, "--json"))["models"]
    assert (listed["name"], listed["labels"]) == ("net", {"stable": 7})
    assert [(each["version"], each["state"], each["labels"]) for each in listed["versions"]] == [
        (1, "published", []),
        (7, "published", ["stable"]),
    ]
    assert said("retire", address, "net", "1") == "retired version 1 of net\n"
    assert set(served(place.files())) == {"7"}


def test_a_model_without_a_script_is_published_with_a_warning(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unless the repository shares one."""
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "weights").write_text("w")
    assert main(["publish", str(bare), place.address, "net"]) == 0
    assert "warning: the model has no code/inference.py, the repository shares none" in capsys.readouterr().err
    place.put("code/inference.py", b"shared")
    assert publish(bare, place.address, "net").warnings == ()


def test_a_file_that_changes_between_its_hash_and_its_copy_is_not_published(
    place: Place, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read twice, and what was sent has to be what was verified."""
    for module, name in ((folder, "_copy"), (objects.Objects, "upload")):
        original = getattr(module, name)

        def late(*arguments: object, original: object = original) -> object:
            (model_dir / "weights").write_text("other")
            return original(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(module, name, late)
    with pytest.raises(ArtifactError, match=r"weights changed while it was published; publish again when nothing"):
        publish(model_dir, place.address, "net")
    assert place.files() == {}


def test_a_large_file_goes_up_in_parts_and_arrives_whole(place: Place, tmp_path: Path) -> None:
    """20 MiB and a byte: three parts of a multipart upload."""
    large = tmp_path / "large"
    (large / "code").mkdir(parents=True)
    (large / "code/inference.py").write_text("")
    data = os.urandom((20 << 20) + 1)
    (large / "weights").write_bytes(data)
    published = publish(large, place.address, "net")
    assert published.size_bytes == len(data)
    assert place.files()["net/1/weights"] == data


def test_the_next_publish_works_where_a_folder_is_left_empty(place: Place, model_dir: Path, tmp_path: Path) -> None:
    """All versions retired, and an empty folder of a number, are no obstacle."""
    publish(model_dir, place.address, "net")
    retire(place.address, "net", 1)
    assert [model.versions for model in list_models(place.address) if model.name == "net"] in ([], [()])
    if isinstance(place, FolderPlace):
        (place.root / "net" / "5").mkdir()
        assert publish(model_dir, place.address, "net", version=5).version == 5
        assert publish(model_dir, place.address, "net").version == 6
    else:
        assert publish(model_dir, place.address, "net").version == 2


def test_other_users_of_the_machine_can_read_what_was_published(model_dir: Path, tmp_path: Path) -> None:
    """A server runs as another user: the folder's mode is the one that the umask says."""
    publish(model_dir, tmp_path / "repository", "net")
    wanted = tmp_path / "ordinary"
    wanted.mkdir()
    (wanted / "file").touch()
    version = tmp_path / "repository" / "net" / "1"
    assert version.stat().st_mode == wanted.stat().st_mode
    assert (version / "weights").stat().st_mode == (wanted / "file").stat().st_mode


def test_both_command_lines_start(tmp_path: Path, model_dir: Path) -> None:
    """`python -m training_hooks publish` and `tidegate publish`."""
    for number, command in enumerate(
        ([sys.executable, "-m", "training_hooks"], [sys.executable, "-m", "tidegate"]), start=1
    ):
        done = subprocess.run(
            [*command, "publish", str(model_dir), str(tmp_path / "repository"), "net"],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{tmp_path}/repository/net/{number}  ")
