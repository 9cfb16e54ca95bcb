"""A network that is filled by the file's own memory is the same network: else it is built and filled as ever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tidegate.inference.worker.formats.unfilled import Unfilled, Unsuitable


def saved(make: Callable[[], nn.Module], tmp_path: Path) -> dict[str, Any]:
    torch.save(make().state_dict(), tmp_path / "model.pth")
    state: dict[str, Any] = torch.load(tmp_path / "model.pth", mmap=True)
    return state


def filled(make: Callable[[], nn.Module], state: dict[str, Any]) -> nn.Module:
    unfilled = Unfilled()
    with unfilled:
        model = make()
    unfilled.fill(model, state)
    return model


class HasTables(nn.Module):
    """Has what no file of its weights holds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        nn.init.trunc_normal_(self.layer.weight, std=0.02)
        self.layer.weight.data.normal_(0, 0.1).mul_(2)
        nn.init.constant_(self.layer.bias, 5)
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.plain = torch.linspace(0, 1, 3)
        self.numbers = [x.item() for x in torch.linspace(0, 1, 3)]
        self.norm = nn.BatchNorm1d(2)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.other.weight = self.one.weight


@pytest.mark.parametrize(
    "make",
    [HasTables, lambda: nn.LSTM(3, 2, 2), lambda: nn.TransformerEncoderLayer(4, 2, 8), lambda: nn.Embedding(9, 2, 0)],
)
def test_weights_are_the_files_and_all_else_is_as_it_was_built(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    state = saved(make, tmp_path)
    before = torch.get_rng_state()
    model = filled(make, state)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
        assert value.data_ptr() == state[name].data_ptr()
    if isinstance(model, HasTables):
        assert model.table.tolist() == [0, 1, 2, 3]
        assert model.plain.tolist() == model.numbers == [0, 0.5, 1]


def test_a_recurrent_layer_computes_with_its_new_weights(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.GRU(3, 2)

    state = saved(make, tmp_path)
    ordinary = make()
    ordinary.load_state_dict(state)
    x = torch.randn(4, 1, 3)
    assert torch.equal(filled(make, state)(x)[0], ordinary(x)[0])


def test_tied_weights_stay_one(tmp_path: Path) -> None:
    model = filled(Tied, saved(Tied, tmp_path))
    assert isinstance(model, Tied)
    assert model.one.weight is model.other.weight
    apart = {"one.weight": torch.zeros(2, 2), "other.weight": torch.ones(2, 2)}
    model = filled(Tied, apart)
    assert isinstance(model, Tied)
    assert model.one.weight is model.other.weight
    assert model.one.weight.tolist() == [[1, 1], [1, 1]]
    assert apart["one.weight"].sum() == 0


def test_two_weights_that_share_memory_in_the_file_do_not_share_it_in_the_network() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))

    same, whole = torch.ones(2, 2), torch.arange(8.0)
    one, other = filled(make, {"0.weight": same, "1.weight": same}).parameters()
    assert one.data_ptr() != other.data_ptr()
    assert torch.equal(one, other)
    one, other = filled(make, {"0.weight": whole[:4].view(2, 2), "1.weight": whole[2:6].view(2, 2)}).parameters()
    assert other.tolist() == [[2, 3], [4, 5]]
    assert whole.data_ptr() not in (one.data_ptr(), other.data_ptr() - 8)


def test_numbers_of_another_type_or_layout_are_copied() -> None:
    state = {"weight": torch.ones(3, 2, dtype=torch.float16), "bias": torch.ones(6)[::2]}
    model = filled(lambda: nn.Linear(2, 3), state)
    assert model.weight.dtype is torch.float32
    assert model.weight.sum() == 6
    assert model.bias.is_contiguous()  # type: ignore[union-attr, operator]


class Seeded(nn.Module):
    """Draws a table whose numbers depend on all that was drawn before."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 2)
            self.table = torch.randn(2)


class OwnGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer = nn.Linear(2, 2)
        nn.init.normal_(self.layer.weight, generator=generator)
        self.table = torch.randn(2, generator=generator)


class HoldsMemory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.view = self.layer.weight.detach().view(-1)


class LeavesOneOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.hidden = [nn.Linear(2, 2)]


class Waits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        while not self.layer.weight.any():
            self.layer.weight.data.normal_()


class DrawsAnother(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.table = torch.randn(2)


@pytest.mark.parametrize("make", [Seeded, OwnGenerator, HoldsMemory, LeavesOneOut, Waits, DrawsAnother])
def test_a_network_that_could_differ_is_left_to_the_ordinary_way(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    with pytest.raises(Unsuitable):
        filled(make, saved(make, tmp_path))


BUILDS = """
import os
import torch
from torch import nn
from tidegate.inference.worker.allocator import keep_freed_memory
from tidegate.inference.worker.formats.unfilled import Unfilled

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

keep_freed_memory()
with Unfilled():
    nn.Linear(8, 8)
holes = [torch.empty(size << 20, dtype=torch.uint8) for size in (64, 1, 64, 1, 64, 1)]
del holes[::2]
before = resident_mib()
with Unfilled():
    layer = nn.Linear(4096, 4000, bias=False)
print(resident_mib() - before)
"""


def test_a_parameter_that_is_to_be_filled_takes_no_memory_whatever_the_allocator_would_reuse() -> None:
    """What was freed before it, and never written, must not be written for it: a worker's allocator keeps that."""
    done = subprocess.run([sys.executable, "-c", BUILDS], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 30, "of 62 MiB"
