"""When the driver that an image brings comes before the host's; needs no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from container.entrypoint import cuda_compatibility

OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.163.01  Release Build  (builder)\nGCC version: 12\n"
)
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\n"


@pytest.fixture
def compatibility_dir(tmp_path: Path) -> Path:
    """What the package cuda-compat leaves: the library with its version, and the link that the loader looks for."""
    directory = tmp_path / "compat"
    directory.mkdir()
    (directory / "libcuda.so.580.65.06").touch()
    (directory / "libcuda.so.1").symlink_to("libcuda.so.580.65.06")
    return directory


def path_after(tmp_path: Path, compatibility_dir: Path, driver: str | None, **environment: str) -> str | None:
    kernel_driver = tmp_path / "version"
    if driver is not None:
        kernel_driver.write_text(driver)
    cuda_compatibility.apply(environment, compatibility_dir, kernel_driver)
    return environment.get("LD_LIBRARY_PATH")


@pytest.mark.parametrize("driver", [OPEN, CLOSED])
def test_an_older_host_driver_gets_the_image_s_in_front(tmp_path: Path, compatibility_dir: Path, driver: str) -> None:
    assert path_after(tmp_path, compatibility_dir, driver) == str(compatibility_dir)


def test_what_was_on_the_path_stays_behind_it(tmp_path: Path, compatibility_dir: Path) -> None:
    found = path_after(tmp_path, compatibility_dir, OPEN, LD_LIBRARY_PATH=f"/a:{compatibility_dir}:/b")
    assert found == f"{compatibility_dir}:/a:/b"


@pytest.mark.parametrize("version", ["580.65.06", "580.95.05", "600.1"])
def test_a_host_driver_that_is_not_older_is_left_alone(tmp_path: Path, compatibility_dir: Path, version: str) -> None:
    assert path_after(tmp_path, compatibility_dir, OPEN.replace("550.163.01", version)) is None


def test_without_a_driver_or_without_the_package_nothing_changes(tmp_path: Path, compatibility_dir: Path) -> None:
    assert path_after(tmp_path, compatibility_dir, None) is None
    assert path_after(tmp_path, tmp_path / "absent", OPEN) is None
