"""The cores and the memory of a container, from the files that each version of cgroups shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidegate.inference.frontend.models.capacity import file_bytes
from tidegate.inference.frontend.models.container_limits import copies_that_fit, free_memory_bytes, usable_cores

MIB = 1024 * 1024


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("150000 100000", 1), ("400000 100000", 4), ("50000 100000", 1)]
)
def test_a_quota_of_version_2_bounds_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    assert usable_cores(write(tmp_path, cpu_DOT_max=quota)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("150000", 1), ("400000", 4), ("900000", 8)])
def test_a_quota_of_version_1_bounds_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    files = {"cpu__cpu_DOT_cfs_quota_us": quota, "cpu__cpu_DOT_cfs_period_us": "100000"}
    assert usable_cores(write(tmp_path, **files)) == cores


def test_without_cgroups_all_cores_may_be_used(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


def test_the_memory_left_by_version_2_counts_droppable_cache_as_free(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        memory_DOT_max=str(100 * MIB),
        memory_DOT_current=str(80 * MIB),
        memory_DOT_stat=f"anon 5\ninactive_file {30 * MIB}",
    )
    assert free_memory_bytes(root) == 50 * MIB


def test_the_memory_left_by_version_1_counts_droppable_cache_as_free(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        memory__memory_DOT_limit_in_bytes=str(100 * MIB),
        memory__memory_DOT_usage_in_bytes=str(80 * MIB),
        memory__memory_DOT_stat=f"inactive_file 7\ntotal_inactive_file {30 * MIB}",
    )
    assert free_memory_bytes(root) == 50 * MIB


def test_a_group_without_a_limit_leaves_what_the_machine_has(tmp_path: Path) -> None:
    unlimited = write(
        tmp_path,
        memory__memory_DOT_limit_in_bytes="9223372036854771712",
        memory__memory_DOT_usage_in_bytes=str(80 * MIB),
    )
    assert 0 < free_memory_bytes(unlimited) < 9223372036854771712 // 2


@pytest.mark.parametrize(
    ("model_mib", "free_mib", "copies"), [(0, 10_000, 4), (936, 2000, 2), (936, 999, 1), (5000, 100, 1)]
)
def test_as_many_copies_start_as_the_memory_holds_and_at_least_one(model_mib: int, free_mib: int, copies: int) -> None:
    assert copies_that_fit(4, model_mib * MIB, free_mib * MIB) == copies


def test_files_are_counted_and_what_cannot_be_looked_at_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, a="x" * 99, b__c="y" * 9)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert file_bytes(tmp_path) == 110
    assert file_bytes(tmp_path / "absent") == 0
