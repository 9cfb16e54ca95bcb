"""Which GPUs a worker sees, by the variable that the driver reads."""

from __future__ import annotations

import pytest

from tidegate.inference.worker.own_gpus import see_own, visible


@pytest.mark.parametrize(
    ("given", "own", "expected"),
    [
        (None, [0, 1], "0,1"),
        (None, [2, 3], "2,3"),
        ("4,5,6,7", [2, 3], "6,7"),
        (" 7, 5 ,3,1 ", [0, 1], "7,5"),
        ("GPU-8932f937-d72c,GPU-1e,GPU-77", [1, 2], "GPU-1e,GPU-77"),
        ("MIG-c7384736-a75d,MIG-GPU-8932f937/1/0", [0, 1], "MIG-c7384736-a75d,MIG-GPU-8932f937/1/0"),
        ("0,1,-1,2", [0, 1], "0,1"),
    ],
)
def test_a_worker_of_several_gpus_sees_these_alone_by_the_names_that_the_container_has_for_them(
    given, own, expected
) -> None:
    assert visible(own, given) == expected


def test_a_worker_of_several_gpus_counts_them_from_0() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "OTHER": "x"}
    assert see_own([2, 3], environment) == [0, 1]
    assert environment == {"CUDA_VISIBLE_DEVICES": "6,7", "OTHER": "x"}


@pytest.mark.parametrize("own", [[], [3]])
def test_a_worker_of_one_gpu_or_none_sees_what_the_container_sees(own) -> None:
    environment: dict[str, str] = {}
    assert see_own(own, environment) == own
    assert environment == {}
