"""What training_hooks publishes, the repository's process finds: they share no code, and meet in the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference.repository.driving import Driven
from tests.training_hooks.repositories import BucketPlace, FolderPlace, Place, write_model
from tests.training_hooks.s3_server import S3, environment, serving
from tidegate.inference.repository.catalogue import VersionState
from tidegate.inference.repository.messages import Fetched
from tidegate.training_hooks import list_models, publish, retire, set_label

AVAILABLE, INCOMPLETE = VersionState.AVAILABLE, VersionState.INCOMPLETE


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as s3, environment(s3.environment):
        yield s3


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        (tmp_path / "repository").mkdir()
        return FolderPlace(tmp_path / "repository")
    return BucketPlace(request.getfixturevalue("s3"), tmp_path.name)


@pytest.fixture
def driven(place: Place, tmp_path: Path) -> Iterator[Driven]:
    with Driven(place.address, tmp_path / "cache") as driven:
        yield driven


def states(driven: Driven, model: str = "net") -> dict[int, VersionState]:
    found = driven.models.get(model)
    return {version.number: version.state for version in found.versions} if found else {}


def test_a_published_version_is_found_and_fetched_whole(place: Place, driven: Driven, tmp_path: Path) -> None:
    """Every file with its content, and the labels; the number is the one that publish said."""
    model_dir = write_model(tmp_path / "model", "first")
    published = publish(model_dir, place.address, "net", labels="stable")
    driven.await_true(lambda: states(driven) == {published.version: AVAILABLE}, "version 1 is found")
    driven.await_true(lambda: driven.models["net"].labels == {"stable": 1}, "and its label")
    assert driven.models["net"].reason == ""
    fetched = driven.fetch(driven.await_version("net", published.version))
    assert isinstance(fetched, Fetched)
    for name in published.files:
        assert Path(fetched.directory, name).read_bytes() == (model_dir / name).read_bytes()


def test_a_version_that_is_under_way_is_never_found_however_long_it_stays(
    place: Place, driven: Driven, tmp_path: Path
) -> None:
    """What a killed publish or retire leaves in a bucket, and the hidden folder that it leaves in a folder."""
    if isinstance(place, BucketPlace):
        place.put("net/1/.unfinished", b"{}")
        place.put("net/1/code/inference.py", b"# four functions")
        place.put("net/1/weights", b"half")
        wanted = {1: INCOMPLETE}
    else:
        place.put("net/.publishing.trainer-7.0123456789ab.tmp/code/inference.py", b"# four functions")
        place.put("net/.publishing.trainer-7.0123456789ab.tmp/manifest.json", b"{}")
        wanted = {}
    driven.await_listings(4)
    assert states(driven) == wanted
    published = publish(write_model(tmp_path / "model", "second"), place.address, "net")
    driven.await_true(lambda: states(driven).get(published.version) is AVAILABLE, "the next publish works")
    assert states(driven) == wanted | {published.version: AVAILABLE}


def test_a_retired_version_is_found_no_more(place: Place, driven: Driven, tmp_path: Path) -> None:
    """Nor is what retire remembers, or labels.json, taken for a model when all versions are gone."""
    model_dir = write_model(tmp_path / "model", "w")
    for _ in range(2):
        publish(model_dir, place.address, "net")
    driven.await_true(lambda: states(driven) == {1: AVAILABLE, 2: AVAILABLE}, "both are found")
    set_label(place.address, "net", 1, "stable")
    retire(place.address, "net", 2)
    driven.await_true(lambda: states(driven) == {1: AVAILABLE}, "version 2 is gone")
    retire(place.address, "net", 1, drop_labels=True)
    driven.await_true(lambda: states(driven) == {}, "version 1 is gone")
    driven.await_listings(4)
    assert states(driven) == {}


def test_the_command_and_the_server_see_the_same_versions(place: Place, driven: Driven, tmp_path: Path) -> None:
    """Of what other tools wrote, too."""
    publish(write_model(tmp_path / "model", "w"), place.address, "net", version=10)
    place.put("whole/code/inference.py", b"")
    place.put("packed/3.tar.gz", b"no archive, as it turns out when it is fetched")
    place.put("single.tar.gz", b"neither")
    place.put("code/inference.py", b"shared")
    place.put("net/README.md", b"stray")
    names = {"net", "whole", "packed", "single"}
    driven.await_true(lambda: driven.models.keys() == names, "all are found")
    listed = {model.name: model for model in list_models(place.address)}
    assert listed.keys() == names
    for name in names:
        found = driven.models[name]
        assert [version.number for version in listed[name].versions] == [each.number for each in found.versions]
        assert listed[name].versioned == found.versioned
        assert bool(listed[name].reason) == bool(found.reason)
