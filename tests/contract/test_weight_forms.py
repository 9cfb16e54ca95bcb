"""Weights in every form that `save_model` writes are what the server loads: nobody names the form to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.running import running
from tests.contract.test_artifact import check
from tidegate.training_hooks import save_model

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(5, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.output = torch.nn.Linear(4, 5, bias=False)
        self.output.weight = self.embedding.weight
        self.register_buffer("scale", torch.arange(1.0, 6.0), persistent=False)

    def forward(self, ids):
        return self.output(self.norm(self.embedding(ids.long().flatten()))) * self.scale
"""

FORMS = [
    pytest.param({}, id="state dict"),
    pytest.param({"max_shard_size": 80}, id="state dict in several files"),
    pytest.param({"format": "safetensors"}, id="safetensors"),
    pytest.param({"format": "safetensors", "max_shard_size": "80B"}, id="safetensors in several files"),
]


def saved(tmp_path: Path, **form: Any) -> tuple[Path, torch.nn.Module]:
    """A network with tied weights, a buffer that is not saved, and statistics that training left."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/nets.py").write_text(NETS)
    space: dict[str, Any] = {}
    exec(NETS, space)  # noqa: S102 - the class that the artifact's own code has
    torch.manual_seed(0)
    net: torch.nn.Module = space["Net"]()
    net(torch.tensor([0, 1, 2, 3]))
    model_dir = save_model(
        net,
        model_dir=tmp_path / "m",
        code_dir=tmp_path / "code",
        architecture="nets:Net",
        example=[[1, 2]],
        **form,
    )
    return model_dir, net.eval()


@pytest.mark.parametrize("form", FORMS)
def test_what_was_saved_is_served(tmp_path: Path, form: dict[str, Any]) -> None:
    model_dir, net = saved(tmp_path, **form)
    name = json.loads((model_dir / "manifest.json").read_bytes())["weights"]["file"]
    assert name.endswith(".index.json") is ("max_shard_size" in form)
    files = {str(path.relative_to(model_dir)): path.read_bytes() for path in model_dir.rglob("*") if path.is_file()}
    with running(files) as server:
        answer = torch.tensor(server.post(b"[[3, 4, 0]]").json())
        assert "the archive's example is answered as expected" in server.log()
    torch.testing.assert_close(answer, net(torch.tensor([[3, 4, 0]])).detach())


def test_an_archive_that_needs_peft_says_so_where_it_is_not_there(tmp_path: Path) -> None:
    """With the package it is served: tests/ecosystem/adapters."""
    model_dir, _ = saved(tmp_path)
    (model_dir / "adapter").mkdir()
    (model_dir / "adapter/adapter_config.json").write_text("{}")
    manifest = json.loads((model_dir / "manifest.json").read_bytes())
    for described, sentence in (
        ({"directory": "adapter"}, "is an adapter of peft: name the package peft in code/requirements.txt."),
        ({"directory": "nowhere"}, "has no adapter_config.json, although the manifest names it as weights.adapter."),
        ({"directory": "../code"}, "names '../code', which is outside the model directory."),
        ("adapter", "weights.adapter is an object with the directory of the adapter; it is 'adapter'."),
    ):
        manifest["weights"]["adapter"] = described
        (model_dir / "manifest.json").write_text(json.dumps(manifest))
        done = check(model_dir)
        assert done.returncode == 1
        assert done.stderr.strip().endswith(sentence)
