"""Weights as safetensors and in several files: read by the libraries they are for, and by none of our own code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, load_model
from torch import nn

from tidegate.training_hooks import ArtifactError, Example, save_model
from tidegate.training_hooks.shards import Entry, checked_shard_bytes, divided

from .artifacts import manifest_of, mismatches, names_below

NETS = """\
import torch

class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.output = torch.nn.Linear(4, 5, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, ids):
        return self.output(self.norm(self.embedding(ids.long().flatten())))
"""


def tied_net() -> Any:
    space: dict[str, Any] = {}
    exec(NETS, space)  # noqa: S102 - the class that the artifact's own code has
    torch.manual_seed(0)
    return space["Tied"]()


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/nets.py").write_text(NETS)
    return tmp_path / "code"


def test_a_file_of_safetensors_is_read_by_the_library_tied_weights_included(tmp_path: Path) -> None:
    net = tied_net()
    save_model(net, model_dir=tmp_path, format="safetensors")
    assert names_below(tmp_path) == ["manifest.json", "model.safetensors"]
    assert manifest_of(tmp_path)["weights"] == {"file": "model.safetensors", "format": "safetensors"}
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "output.weight": "embedding.weight"}
        assert "output.weight" not in list(file.keys())
    other = tied_net()
    nn.init.zeros_(other.output.weight)
    load_model(other, str(tmp_path / "model.safetensors"))
    assert torch.equal(other.output.weight, net.output.weight)
    assert mismatches(tmp_path) == []


@pytest.mark.parametrize("kind", ["state_dict", "safetensors"])
def test_weights_larger_than_the_limit_are_several_files_with_an_index(tmp_path: Path, kind: str) -> None:
    state = {f"w{number}": torch.full((10,), float(number)) for number in range(5)}
    save_model(state, model_dir=tmp_path, format=kind, max_shard_size=80)
    name = manifest_of(tmp_path)["weights"]["file"]
    assert name == {"state_dict": "pytorch_model.bin.index.json", "safetensors": "model.safetensors.index.json"}[kind]
    index = json.loads((tmp_path / name).read_bytes())
    assert index["metadata"] == {"total_size": 200}
    found: dict[str, torch.Tensor] = {}
    for file in sorted(set(index["weight_map"].values())):
        part = load_file(tmp_path / file) if kind == "safetensors" else torch.load(tmp_path / file, weights_only=True)
        assert all(index["weight_map"][name] == file for name in part)
        found |= part
    assert len(set(index["weight_map"].values())) == 3
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert mismatches(tmp_path) == []


@pytest.mark.parametrize("kind", ["state_dict", "safetensors"])
def test_tied_weights_stay_in_one_file_and_count_once(tmp_path: Path, kind: str) -> None:
    shared = torch.ones(10)
    save_model({"a": shared, "b": torch.ones(10), "c": shared}, model_dir=tmp_path, format=kind, max_shard_size="40B")
    index = json.loads((tmp_path / manifest_of(tmp_path)["weights"]["file"]).read_bytes())
    assert index["metadata"] == {"total_size": 80}
    assert index["weight_map"].get("c", index["weight_map"]["a"]) == index["weight_map"]["a"]
    assert len(set(index["weight_map"].values())) == 2


def test_weights_within_the_limit_are_one_file(tmp_path: Path) -> None:
    save_model(nn.Linear(2, 2), model_dir=tmp_path, max_shard_size=True)
    assert names_below(tmp_path) == ["manifest.json", "model.pth"]


@pytest.mark.parametrize("options", [{"format": "safetensors"}, {"max_shard_size": 40}])
def test_a_named_architecture_is_filled_and_answers_from_every_form(
    tmp_path: Path, nets: Path, options: dict[str, Any]
) -> None:
    if "max_shard_size" in options:
        options = {**options, "format": "safetensors"}
    net = tied_net().eval()
    save_model(
        net,
        model_dir=tmp_path / "m",
        code_dir=nets,
        architecture="nets:Tied",
        example=Example(request=[[1, 2]]),
        **options,
    )
    answer = json.loads((tmp_path / "m/example/response.json").read_bytes())
    torch.testing.assert_close(torch.tensor(answer), net(torch.tensor([[1, 2]])).detach())


def test_weights_in_several_files_that_do_not_fit_are_found_at_the_save(tmp_path: Path, nets: Path) -> None:
    state = tied_net().state_dict()
    del state["norm.bias"]
    with pytest.raises(ArtifactError, match=r"the weights do not fit 'nets:Tied': .*norm\.bias"):
        save_model(
            state,
            model_dir=tmp_path / "m",
            code_dir=nets,
            architecture="nets:Tied",
            format="safetensors",
            max_shard_size=40,
        )
    assert names_below(tmp_path / "m") == []


def test_a_later_save_in_another_form_leaves_nothing_of_the_earlier_one(tmp_path: Path) -> None:
    state = {"a": torch.ones(10), "b": torch.ones(10)}
    save_model(state, model_dir=tmp_path, format="safetensors", max_shard_size=40)
    assert len(names_below(tmp_path)) == 4
    save_model(state, model_dir=tmp_path)
    assert names_below(tmp_path) == ["manifest.json", "model.pth"]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (
            {"w": torch.eye(2).to_sparse()},
            "'w' is a tensor of the layout torch.sparse_coo, and safetensors holds dense",
        ),
        (
            {"w": torch.ones(1), "q._extra_state": {"bits": 8}},
            "'q._extra_state' is dict, and safetensors holds tensors alone; use format='state_dict'",
        ),
        (
            {"__metadata__": torch.ones(1)},
            "a weight is called '__metadata__', which safetensors keeps for itself; rename",
        ),
        ({"w": torch.ones(1, dtype=torch.complex128)}, "'w' is a tensor of complex128, which safetensors cannot hold"),
        ({"w": torch.ones(1, device="meta")}, "'w' is on the meta device"),
        ({"w": torch.tensor([float("nan")])}, "'w' holds 1 NaN or infinite numbers of 1"),
    ],
)
@pytest.mark.parametrize("limit", [None, 4])
def test_what_safetensors_cannot_hold_is_named_and_nothing_is_written(
    tmp_path: Path, state: dict[str, Any], sentence: str, limit: int | None
) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        save_model(state, model_dir=tmp_path, format="safetensors", max_shard_size=limit)
    assert names_below(tmp_path) == []


@pytest.mark.parametrize(
    ("given_", "size_bytes"),
    [
        ("5GB", 5 * 10**9),
        ("5 gb", 5 * 10**9),
        ("500MB", 500 * 10**6),
        ("1.5GiB", 3 << 29),
        ("7B", 7),
        ("1234", 1234),
        (12, 12),
        (True, 5 * 10**9),
        (False, None),
        (None, None),
    ],
)
def test_sizes_are_written_as_people_write_them(given_: object, size_bytes: int | None) -> None:
    assert checked_shard_bytes(given_) == size_bytes


@given(
    sizes=st.lists(st.tuples(st.integers(0, 100), st.sampled_from([None, None, "x", "y"])), max_size=30),
    limit=st.integers(1, 120),
)
def test_every_weight_is_in_one_file_and_no_file_is_larger_than_it_has_to_be(
    sizes: list[tuple[int, str | None]], limit: int
) -> None:
    bytes_of = {"x": 7, "y": 9}
    entries = [
        Entry(name=str(number), size_bytes=bytes_of.get(shared or "", size), shared=shared)
        for number, (size, shared) in enumerate(sizes)
    ]
    files = divided(entries, limit)
    by_name = {entry.name: entry for entry in entries}
    assert sorted(name for names in files for name in names) == sorted(by_name)
    for names in files:
        groups = {by_name[name].shared or name: by_name[name].size_bytes for name in names}
        assert sum(groups.values()) <= limit or len([size for size in groups.values() if size]) == 1
    for shared in bytes_of:
        assert len([names for names in files if any(by_name[name].shared == shared for name in names)]) <= 1


MEMORY = """
import re, sys, torch
from pathlib import Path
from tidegate.training_hooks import save_model

def largest():   # of this program alone, in KiB; getrusage would count what its parent had
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

state = {f"w{i}": torch.ones(8 << 20) for i in range(8)}   # 256 MiB
before = largest()
save_model(state, model_dir=sys.argv[1], format=sys.argv[2], max_shard_size=sys.argv[3] or None)
print(largest() - before)
"""


@pytest.mark.parametrize(("kind", "limit"), [("state_dict", ""), ("state_dict", "64MB"), ("safetensors", "64MB")])
def test_a_save_holds_no_second_copy_of_the_weights(tmp_path: Path, kind: str, limit: str) -> None:
    """The largest memory of a process of its own grows by less than half of them."""
    words = [sys.executable, "-c", MEMORY, str(tmp_path / "m"), kind, limit]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 128 << 10  # KiB
