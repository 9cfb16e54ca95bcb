"""Programs of torch.export as the model: only of an archive that is trusted, and with their inputs checked."""

from __future__ import annotations

import gzip
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

from tests.inference.model_files.test_kinds import save_onnx, save_package
from tests.inference.test_weights import CPU, describe, message
from tidegate.inference.errors import BadRequest
from tidegate.inference.worker import defaults, weights
from tidegate.inference.worker.formats import aot_inductor

CAN_RUN_CODE = "is an exported program and may run code: set TIDEGATE_TRUST_COMPILED_MODEL=on if you trust the archive"

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 5\n"


class Lookup(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(5, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids).sum(1)


def save(path: Path, model: torch.nn.Module, example: torch.Tensor) -> None:
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: Dim("batch", min=1, max=8)},))
    with path.open("wb") as file:
        torch.export.save(program, file)


def test_a_program_is_served_where_the_deployer_trusts_it(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    save(tmp_path / "model.pt2", network, torch.ones(2, 3))
    model = defaults.model_fn(str(tmp_path), trust_compiled=True)
    for batch in (1, 5):
        x = torch.randn(batch, 3)
        assert torch.equal(defaults.predict_fn(x, model), network(x))
    assert message(tmp_path) == f"{{dir}} holds nothing that can be served but model.pt2, which {CAN_RUN_CODE}."


def test_beside_another_model_it_is_passed_over_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "model.pt2", torch.nn.Linear(3, 2), torch.ones(2, 3))
    save_onnx(tmp_path / "model.onnx")
    with caplog.at_level(logging.WARNING, "tidegate.worker"):
        weights.load(tmp_path, CPU)
    assert [record.getMessage() for record in caplog.records if record.name == "tidegate.worker"] == [
        f"{tmp_path}/model.pt2 is not served: it {CAN_RUN_CODE}"
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.ones(2, 4), "the input 'ids' has the shape [2, 4]; the model takes [any, 3]"),
        (torch.ones(3), "the input 'ids' has the shape [3]; the model takes [any, 3]"),
        (torch.full((2, 3), 0.5), "the input 'ids' is of int64, to which these numbers of float32 cannot be cast"),
        (torch.zeros(9, 3), "Guard failed: ids.size()[0] <= 8"),
        (torch.full((2, 3), 7.0), "index out of range in self"),
        ({"a": [1]}, "the input 'ids' must be Tensor"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, ""),
    ],
)
def test_what_does_not_fit_is_the_clients_mistake(tmp_path: Path, data: Any, said: str) -> None:
    save(tmp_path / "model.pt2", Lookup(), torch.zeros(2, 3, dtype=torch.int64))
    model = weights.load(tmp_path, CPU, trust_compiled=True)
    assert defaults.predict_fn(torch.tensor([[1.0, 2, 3]]), model).shape == (1, 2)
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(data, model)
    assert said in str(caught.value)


def test_a_package_of_aotinductor_leaves_nothing_of_what_torch_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one that cannot be loaded; tests/ecosystem/compiled has one that can."""
    below = tmp_path / "temporary"
    below.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(below))
    monkeypatch.setenv("TMPDIR", str(below))
    save_package(tmp_path / "model.pt2")
    with pytest.raises(Exception, match="wrapper"):
        aot_inductor.opened(tmp_path / "model.pt2", CPU)
    assert list(below.iterdir()) == []
    assert os.environ["TMPDIR"] == str(below)


def test_a_package_of_aotinductor_needs_its_signature_in_the_manifest(tmp_path: Path) -> None:
    save_package(tmp_path / "model.pt2")
    assert "may run code: set TIDEGATE_TRUST_COMPILED_MODEL=on" in message(tmp_path)
    assert message(tmp_path, trust_compiled=True) == (
        "{dir}/model.pt2 is a package of AOTInductor, whose code checks nothing of what it is given: say as "
        "weights.signature in manifest.json which tensors it takes, or export the model as a form, which says it."
    )
    describe(tmp_path, file="model.pt2", signature={"inputs": 7})
    assert message(tmp_path, trust_compiled=True).startswith("{dir}/manifest.json: weights.signature.inputs is 7;")
    one = [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}]
    describe(tmp_path, file="model.pt2", signature={"inputs": one, "outputs": one})
    assert message(tmp_path, trust_compiled=True).startswith("{dir}/model.pt2 cannot be loaded as a package of AOTIn")


USES_AN_OPERATOR = """
import sys, torch
library = torch.library.Library("torchvision", "DEF")
library.define("toy(Tensor x) -> Tensor")
torch.library.impl("torchvision::toy", "CompositeExplicitAutograd", lib=library)(lambda x: x * 2)
torch.library.register_fake("torchvision::toy", lib=library)(lambda x: torch.empty_like(x))

class Net(torch.nn.Module):
    def forward(self, x):
        return torch.ops.torchvision.toy(x)

torch.export.save(torch.export.export(Net(), (torch.ones(2),)), sys.argv[1])
"""


def test_an_operator_that_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(USES_AN_OPERATOR)
    subprocess.run([sys.executable, "-W", "ignore", "train.py", "model.pt2"], check=True, cwd=tmp_path)
    assert message(tmp_path, trust_compiled=True) == (
        "{dir}/model.pt2 cannot be loaded as an exported program: it needs the operator torchvision::toy, which "
        "nothing here has registered; import torchvision in code/inference.py, and name it in code/requirements.txt."
    )


def test_a_file_that_is_cut_off_or_something_else_is_said_to_be_that(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    save(path, Lookup(), torch.zeros(2, 3, dtype=torch.int64))
    whole = path.read_bytes()
    for content, what in (
        (whole[: len(whole) // 2], "a zip that ends too early or is no model"),
        (gzip.compress(whole), "a gzip archive"),
        (POINTER, "a pointer of Git LFS, whose file was not fetched"),
    ):
        path.write_bytes(content)
        assert message(tmp_path, trust_compiled=True) == (
            f"{{dir}}/model.pt2 cannot be loaded as an exported program: it is {what}."
        )


@pytest.mark.parametrize("content", [b"", b"no program", b"PK\x03\x04"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt2").write_bytes(content)
    assert message(tmp_path, trust_compiled=True).startswith("{dir}/model.pt2 cannot be loaded as an exported program")
