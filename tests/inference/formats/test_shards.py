"""Weights in several files with an index: exactly what the index says, from below the model directory alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.inference.test_weights import CPU, NETWORK, describe, message
from tidegate.inference.worker import weights

PARTS = {"part-1": {"a.weight": torch.ones(1, 2)}, "part-2": {"b.weight": torch.full((1, 1), 3.0)}}
TWO = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(2, 1, bias=False)
        self.b = torch.nn.Linear(1, 1, bias=False)

    def forward(self, x):
        return self.b(self.a(x))
"""


@pytest.fixture(params=["safetensors", "bin"])
def sharded(archive: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive whose weights are in two files; returns the index."""
    monkeypatch.delitem(sys.modules, "tiny_net", raising=False)
    suffix: str = request.param
    (archive / "code" / "tiny_net.py").write_text(NETWORK + TWO)
    for name, tensors in PARTS.items():
        write = safetensors.torch.save_file if suffix == "safetensors" else torch.save
        write(tensors, archive / f"{name}.{suffix}")
    index = archive / f"model.{suffix}.index.json"
    named = {tensor: f"{name}.{suffix}" for name, tensors in PARTS.items() for tensor in tensors}
    index.write_text(json.dumps({"metadata": {"total_size": 12}, "weight_map": named}))
    describe(archive, file=index.name, architecture="tiny_net:Two")
    return index


def change(index: Path, **names: str | None) -> None:
    mapping = json.loads(index.read_text())["weight_map"]
    mapping |= {name.replace("__", "."): file for name, file in names.items()}
    index.write_text(json.dumps({"weight_map": {name: file for name, file in mapping.items() if file}}))


def test_all_files_of_the_index_make_one_network(sharded: Path) -> None:
    assert weights.load(sharded.parent, CPU)(torch.ones(1, 2)).tolist() == [[6]]


@pytest.mark.parametrize("other", ["{index}", "./{index}", "other.safetensors.index.json", "{index}/"])
def test_an_index_in_the_place_of_a_file_is_refused_and_read_no_further(sharded: Path, other: str) -> None:
    """One that named itself would be read for ever."""
    named = other.format(index=sharded.name)
    change(sharded, a__weight=named)
    (sharded.parent / "other.safetensors.index.json").write_text(sharded.read_text())
    assert message(sharded.parent) == (
        f"{{dir}}/{sharded.name} names {named!r} as the file of 'a.weight', which is an index and holds no weights."
    )


def test_a_file_that_is_missing_or_leads_out_is_named(sharded: Path) -> None:
    suffix = sharded.name.split(".")[1]
    change(sharded, a__weight="gone.bin")
    assert message(sharded.parent) == f"{{dir}}/gone.bin is missing, although {sharded.name} names it."
    outside = sharded.parent.parent / "outside"
    (sharded.parent / f"part-1.{suffix}").rename(outside)
    (sharded.parent / f"part-1.{suffix}").symlink_to(outside)
    change(sharded, a__weight=f"part-1.{suffix}")
    assert message(sharded.parent).endswith(f"names 'part-1.{suffix}', which leads out of the model directory.")
    change(sharded, a__weight="../outside")
    assert "which leads out of the model directory" in message(sharded.parent)


def test_a_tensor_too_few_or_too_many_is_named(sharded: Path) -> None:
    suffix = sharded.name.split(".")[1]
    change(sharded, c__weight=f"part-2.{suffix}")
    assert message(sharded.parent) == f"{{dir}}/part-2.{suffix} lacks c.weight, which {sharded.name} says it has."
    change(sharded, c__weight=None, b__weight=f"part-1.{suffix}", d__weight=f"part-2.{suffix}")
    assert "lacks b.weight" in message(sharded.parent)
    torch.save({"a.weight": torch.ones(1), "b.weight": torch.ones(1)}, sharded.parent / f"part-1.{suffix}")
    change(sharded, d__weight=None, b__weight=None)
    assert message(sharded.parent) == (
        f"{{dir}}/part-1.{suffix} has b.weight, which {sharded.name} does not name there."
    )


def test_parts_that_would_run_code_are_refused_even_of_a_trusted_archive(sharded: Path) -> None:
    torch.save(torch.nn.ReLU(), sharded.parent / f"part-1.{sharded.name.split('.')[1]}")
    assert "holds more than weights" in message(sharded.parent, trust_pickle=True)
