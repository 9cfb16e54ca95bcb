"""Two installations, made once: a wheel, and a checkout as `make env` installs it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.tidegate.installations import Installation, build, copy_of_the_checkout, install


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel of a checkout, and the wheel of its source archive."""
    root = tmp_path_factory.mktemp("wheels")
    checkout = copy_of_the_checkout(root / "checkout")
    left_over = checkout / "build" / "lib" / "client" / "__init__.py"  # by a build of an older version
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    archive = build("sdist", checkout, root / "archives")
    unpacked = root / "unpacked"
    unpacked.mkdir()
    with tarfile.open(archive) as tar:
        tar.extraction_filter = lambda member, _: member
        tar.extractall(unpacked)  # noqa: S202
    (source,) = unpacked.iterdir()
    return build("wheel", checkout, root / "of_the_checkout"), build("wheel", source, root / "of_the_archive")


@pytest.fixture(scope="session")
def from_a_wheel(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("from_a_wheel"), wheels[1])


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    root = tmp_path_factory.mktemp("editable")
    return install(root, copy_of_the_checkout(root / "checkout"), editable=True)


@pytest.fixture(params=["from_a_wheel", "editable"])
def installed(request: pytest.FixtureRequest) -> Installation:
    """Each of the two."""
    found: Installation = request.getfixturevalue(request.param)
    return found
