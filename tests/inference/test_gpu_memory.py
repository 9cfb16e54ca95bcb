"""What a worker says that it holds of its GPUs. There are none here: torch.cuda and the driver are stand-ins."""

from __future__ import annotations

import pytest
import torch

from tidegate.inference.protocol import Held
from tidegate.inference.worker import gpu_memory
from tidegate.inference.worker.gpu_memory import MOST_BESIDE_BYTES, GpuMemory

MIB = 1 << 20


@pytest.fixture
def _cuda(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", {0: 0, 1: 500 * MIB, 2: 40 * MIB}.__getitem__)


def measured(*in_use: int | None) -> int:
    said = iter(in_use)
    memory = GpuMemory([1], lambda gpu_id: next(said) if gpu_id == 1 else None)
    memory.settle()
    return memory.held_bytes()


@pytest.mark.usefixtures("_cuda")
def test_the_context_counts_beside_the_pool_of_torch():
    assert measured(2000 * MIB, 2900 * MIB) == 900 * MIB


@pytest.mark.usefixtures("_cuda")
def test_what_others_load_at_the_same_time_is_not_all_taken_for_the_context():
    assert measured(0, 40_000 * MIB) == 500 * MIB + MOST_BESIDE_BYTES
    assert measured(40_000 * MIB, 0) == 500 * MIB


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize("in_use", [(None,), (0, None)])
def test_the_pool_alone_counts_where_the_driver_says_nothing(in_use: tuple[int | None, ...]):
    assert measured(*in_use) == 500 * MIB


def test_a_worker_without_a_gpu_holds_nothing_and_asks_no_device():
    memory = GpuMemory()
    memory.settle()
    assert memory.held_bytes() == 0
    assert not memory.news()


@pytest.mark.usefixtures("_cuda")
def test_each_of_several_gpus_is_measured_by_itself():
    said = {1: iter([1000 * MIB, 1800 * MIB]), 2: iter([0, 50 * MIB])}
    memory = GpuMemory([1, 2], lambda gpu_id: next(said[gpu_id]))
    memory.settle()
    assert memory.held_by_gpu() == (800 * MIB, 50 * MIB)
    assert memory.held_bytes() == 850 * MIB


@pytest.mark.usefixtures("_cuda")
def test_what_is_held_is_news_once_and_again_when_it_has_changed(monkeypatch: pytest.MonkeyPatch):
    memory = GpuMemory([1, 2], lambda _: None)
    assert memory.news() == (Held((500 * MIB, 40 * MIB)),)
    assert not memory.news()
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu_id: gpu_id * MIB)
    assert memory.news() == (Held((MIB, 2 * MIB)),)
    assert not memory.news()


@pytest.mark.usefixtures("_cuda")
def test_a_gpu_of_several_of_which_torch_has_nothing_is_unused():
    assert GpuMemory([0, 1, 2], lambda _: None).unused() == [0]
    assert GpuMemory([0], lambda _: None).unused() == [], "a model on the CPU beside a GPU is nothing to warn of"


def test_no_gpu_counts_as_unused_where_none_is_used():
    assert GpuMemory([0, 1], lambda _: None).unused() == []


def test_a_machine_without_the_drivers_library_knows_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_memory, "_LIBRARY", "libtidegate-has-no-such-library.so.1")
    assert gpu_memory._in_use(0) is None
