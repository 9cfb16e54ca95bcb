"""What a worker says that it holds of its GPU. There is none here: torch.cuda and the driver are stand-ins."""

from __future__ import annotations

import pytest
import torch

from tidegate.inference.worker import gpu_memory
from tidegate.inference.worker.gpu_memory import MOST_BESIDE_BYTES, GpuMemory

MIB = 1 << 20


@pytest.fixture
def _cuda(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 500 * MIB)


def measured(*in_use: int | None) -> int:
    said = iter(in_use)
    memory = GpuMemory(1, lambda gpu_id: next(said) if gpu_id == 1 else None)
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
    memory = GpuMemory(None)
    memory.settle()
    assert memory.held_bytes() == 0


def test_a_machine_without_the_drivers_library_knows_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_memory, "_LIBRARY", "libtidegate-has-no-such-library.so.1")
    assert gpu_memory._in_use(0) is None
