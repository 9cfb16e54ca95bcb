"""What `export` writes, the server serves: each kind of form of a toy network, in the place of the network itself."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.running import running
from tests.inference.forms import toy_forms
from tidegate.inference.worker.forms.choosing import FormChoice
from tidegate.inference.worker.forms.served_form import ServedForm
from tidegate.training_hooks import save_model

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(x).relu().mean((2, 3))
"""
WORDS = """
import torch

class Words(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(20, 4)

    def forward(self, tokens):
        vectors = self.table(tokens["ids"]) * tokens["mask"].unsqueeze(-1)
        return {"mean": vectors.mean(1), "length": tokens["mask"].sum(1)}
"""
READS_WORDS = """
import json
import torch

def input_fn(input_data, content_type):
    return {name: torch.tensor(rows) for name, rows in json.loads(input_data).items()}

def output_fn(prediction, accept):
    return json.dumps({name: value.tolist() for name, value in prediction.items()})
"""


def made(source: str, name: str) -> torch.nn.Module:
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102 - the text is the archive's code, too
    torch.manual_seed(0)
    net: torch.nn.Module = names[name]().eval()
    return net


def exported(root: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The forms that the command has written into a model directory, by name."""
    command = [sys.executable, "-m", "training_hooks", "export", str(root), "--force", "--threads", "1", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    forms = json.loads((root / "manifest.json").read_text()).get("forms", [])
    assert forms, done.stdout + done.stderr
    return {form["name"]: form for form in forms}


def opened(root: Path, name: str, net: torch.nn.Module) -> ServedForm:
    """A form of the manifest, as a server opens it that is asked for this one."""
    manifest = json.loads((root / "manifest.json").read_text())
    form = FormChoice(
        root, manifest, place=CPU, make_eager=lambda: copy.deepcopy(net), wanted=name, trusted=True
    ).serve()
    assert form is not None
    return form


def save(root: Path, source: str, architecture: str, net: torch.nn.Module, example: Any, script: str = "") -> None:
    code = root.parent / "code"
    code.mkdir()
    if script:
        (code / "inference.py").write_text(script)
    (code / "net.py").write_text(source)
    save_model(net, model_dir=root, code_dir=code, architecture=architecture, example=example)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module, dict[str, Any]]:
    """A network of pictures with a form of each kind that this machine can make."""
    root, net = tmp_path_factory.mktemp("pictures") / "model", made(NET, "Net")
    torch.manual_seed(1)
    save(root, NET, "net:Net", net, torch.rand(2, 3, 8, 8))
    names = "onnx,pt2,channels_last,bfloat16-channels_last"
    return root, net, exported(root, "--to", names, "--atol", "0.05")


@pytest.mark.parametrize("name", ["onnx", "pt2", "channels_last", "bfloat16-channels_last"])
def test_a_form_that_was_exported_stands_for_the_network(
    pictures: tuple[Path, torch.nn.Module, dict[str, Any]], name: str
) -> None:
    root, net, forms = pictures
    if name not in forms:
        pytest.skip("this processor computes no bfloat16")
    form = opened(root, name, net)
    for rows in (1, 2, 5, 0):
        given = torch.rand(rows, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(form(given), net(given), rtol=0, atol=0.05)
    with pytest.raises(ValueError, match=r"the input 'x' has the shape \(1, 3, 9, 8\)"):
        form(torch.rand(1, 3, 9, 8))


def test_a_network_of_named_tensors_is_exported_with_its_names_and_its_axes(tmp_path: Path) -> None:
    root, net = tmp_path / "model", made(WORDS, "Words")
    example = {"ids": torch.arange(10).reshape(2, 5).tolist(), "mask": torch.ones(2, 5).long().tolist()}
    save(root, WORDS, "net:Words", net, example, READS_WORDS)
    exported(root, "--to", "onnx", "--dynamic", "ids:1=9", "--dynamic", "mask:1=9")
    form = opened(root, "onnx", net)
    for rows, length in ((1, 3), (3, 9)):
        tokens = {
            "ids": torch.arange(rows * length).reshape(rows, length) % 20,
            "mask": torch.ones(rows, length).long(),
        }
        with torch.no_grad():
            torch.testing.assert_close(form(tokens), net(tokens))
    for odd, said in (
        ({"ids": torch.ones(1, 10).long(), "mask": torch.ones(1, 10).long()}, "which must be from 1 to 9"),
        ({"ids": torch.ones(1, 3).long(), "mask": torch.ones(1, 4).long()}, "where another input has 3"),
        ({"ids": torch.full((1, 3), 0.5), "mask": torch.ones(1, 3).long()}, "it must be of int64"),
        ({"ids": torch.ones(1, 3).long()}, "the input 'mask' is missing"),
    ):
        with pytest.raises(ValueError, match=said):
            form(odd)


def test_the_server_answers_by_what_was_exported_and_says_so(
    pictures: tuple[Path, torch.nn.Module, dict[str, Any]],
) -> None:
    """Compiled kinds are passed over without trust; of the others the fastest is the first."""
    root, net, forms = pictures
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with running(files) as server:
        found = server.request("GET", "/models/model").json()["form"]
        wanted = next(name for name, form in forms.items() if form["kind"] != "pt2")
        assert found["name"] == wanted
        given = torch.rand(3, 3, 8, 8)
        reply = server.post(json.dumps(given.tolist()))
        assert reply.status == 200, reply.body
        with torch.no_grad():
            torch.testing.assert_close(torch.tensor(reply.json()), net(given), rtol=0, atol=0.05)


def test_a_form_is_stale_once_the_model_is_saved_again(tmp_path: Path) -> None:
    """Also where somebody has kept the files and their entries."""
    root = tmp_path / "model"
    toy_forms.write_onnx(root / "forms" / "onnx" / "model.onnx", toy_forms.network())
    toy_forms.archive(root, [toy_forms.form()])
    manifest = json.loads((root / "manifest.json").read_text())
    torch.save(toy_forms.network(1).state_dict(), root / "model.pth")
    toy_forms.seal(root, manifest)
    found = FormChoice(root, manifest, place=CPU, make_eager=lambda: toy_forms.network(1))
    assert found.serve() is None
    assert "it was made of other weights" in found.passed_over[0][1]
