"""A weight that a file holds under the name of another one is filled from there; a real gap is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.inference.test_weights import CPU, describe, message
from tidegate.inference.state_dicts import tied_weights
from tidegate.inference.worker import weights

TIED = """
import torch

class Net(torch.nn.Module):
    tied = True

    def __init__(self):
        super().__init__()
        self.emb = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.norm = torch.nn.LayerNorm(3)
        if self.tied:
            self.head.weight = self.emb.weight

    def forward(self, x):
        return self.head(self.norm(self.emb(x)))

class Apart(Net):
    tied = False
"""


@pytest.fixture
def net(archive: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """A network whose head is its embedding, trained enough to be no fresh one; its class is in the archive."""
    (archive / "code" / "tied_net.py").write_text(TIED)
    monkeypatch.delitem(sys.modules, "tied_net", raising=False)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(TIED, names)  # noqa: S102 - as a training script has it
    net = names["Net"]().eval()
    torch.nn.init.uniform_(net.emb.weight)
    return net


def answers(archive: Path) -> object:
    return weights.load(archive, CPU)(torch.arange(5)).tolist()


@pytest.mark.parametrize("architecture", ["tied_net:Net", "tied_net:Apart"])
def test_what_save_model_of_safetensors_leaves_out_is_filled_by_the_files_own_metadata(
    archive: Path, net: torch.nn.Module, architecture: str
) -> None:
    safetensors.torch.save_model(net, str(archive / "model.safetensors"))
    describe(archive, file="model.safetensors", architecture=architecture)
    assert answers(archive) == net(torch.arange(5)).tolist()


@pytest.mark.parametrize("dropped", ["head.weight", "emb.weight"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_save_pretrained_leaves_out_is_filled_by_the_tie_of_the_network(
    archive: Path, net: torch.nn.Module, dropped: str, suffix: str
) -> None:
    state = {name: value for name, value in net.state_dict().items() if name != dropped}
    path = archive / f"model{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path, metadata={"format": "pt"})
    describe(archive, file=path.name, architecture="tied_net:Net")
    assert answers(archive) == net(torch.arange(5)).tolist()


@pytest.mark.parametrize(
    ("architecture", "dropped", "metadata"),
    [
        ("tied_net:Apart", ["head.weight"], {"format": "pt"}),
        ("tied_net:Apart", ["head.weight"], {"head.weight": "no.such.weight"}),
        ("tied_net:Net", ["norm.bias"], {}),
        ("tied_net:Net", ["head.weight", "emb.weight"], {}),
        ("tied_net:Net", ["norm.bias"], {"norm.bias": "emb.weight"}),  # of another shape
    ],
)
def test_a_weight_that_is_nowhere_in_the_file_is_refused(
    archive: Path, net: torch.nn.Module, architecture: str, dropped: list[str], metadata: dict[str, str]
) -> None:
    state = {name: value.clone() for name, value in net.state_dict().items() if name not in dropped}
    safetensors.torch.save_file(state, archive / "model.safetensors", metadata=metadata)
    describe(archive, file="model.safetensors", architecture=architecture)
    assert message(archive).startswith(f"{{dir}}/model.safetensors does not fit '{architecture}': ")
    assert dropped[0] in message(archive)


def test_weights_without_memory_are_nobodys_twins() -> None:
    with torch.device("meta"):
        net = torch.nn.Linear(2, 2)
        net.other = torch.nn.Linear(2, 2)
    state = {"weight": torch.ones(2, 2)}
    tied_weights.fill(state, net, {})
    assert list(state) == ["weight"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_names_of_one_tensor_with_different_values_are_a_warning_that_says_which_are_taken(
    archive: Path, net: torch.nn.Module, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    state = {name: value.clone() for name, value in net.state_dict().items()}
    path = archive / f"model{suffix}"
    describe(archive, file=path.name, architecture="tied_net:Net")

    def save() -> None:
        torch.save(state, path) if suffix == ".pth" else safetensors.torch.save_file(state, path)

    save()
    weights.load(archive, CPU)
    assert caplog.messages == []
    state["head.weight"] += 1
    save()
    model = weights.load(archive, CPU)
    assert torch.equal(model.emb.weight, state["head.weight"])
    assert caplog.messages == [
        f"{path} has other values for emb.weight than for head.weight, which is the same tensor in the network: those "
        "of head.weight are taken"
    ]


def test_one_tensor_of_the_file_under_both_names_is_no_contradiction_though_it_has_nan(
    archive: Path, net: torch.nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    torch.nn.init.constant_(net.emb.weight, float("nan"))
    torch.save(net.state_dict(), archive / "model.pth")
    describe(archive, file="model.pth", architecture="tied_net:Net")
    weights.load(archive, CPU)
    assert caplog.messages == []
