"""What training_hooks writes, the server reads: the two meet only in the archive on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.dummy import DummyRegressor

from tests.contract.running import running, start, wait_until
from tests.training_hooks.artifacts import unpacked
from tidegate.training_hooks import Example, save_directory, save_model

CODE = """
import io, json
import numpy as np
import torch

def model_fn(model_dir):
    net = torch.nn.Linear(3, 2)
    net.load_state_dict(torch.load(f"{model_dir}/model.pth", weights_only=True))
    return net.eval(), json.load(open(f"{model_dir}/labels.json"))

def input_fn(input_data, content_type):
    return torch.from_numpy(np.load(io.BytesIO(input_data)))

def predict_fn(data, model):
    net, labels = model
    with torch.no_grad():
        return [labels[i] for i in net(data).argmax(1).tolist()], net(data).tolist()

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A model saved and packed by the training hooks."""
    root = tmp_path_factory.mktemp("artifact")
    (root / "code").mkdir()
    (root / "code" / "inference.py").write_text(CODE)
    save_model(
        torch.nn.Linear(3, 2),
        model_dir=root / "saved",
        labels=["cat", "dog"],
        code_dir=root / "code",
        example=Example(request=np.ones((2, 3), dtype=np.float32)),
    )
    command = [
        sys.executable,
        "-m",
        "training_hooks",
        "pack",
        str(root / "saved"),
        "--output",
        str(root / "model.tar.gz"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return root / "model.tar.gz"


def check(model_dir: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SAGEMAKER_", "TIDEGATE_"))}
    command = [sys.executable, "-m", "inference", "check", str(model_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_packed_archive_is_verified_asked_its_example_and_served(archive: Path, tmp_path: Path):
    unpacked(archive, tmp_path / "model")
    server = start(tmp_path, {})
    try:
        wait_until(lambda: server.ping() == 200, "the server is ready", log=server.log)
        request = (tmp_path / "model" / "example" / "request.npy").read_bytes()
        expected = json.loads((tmp_path / "model" / "example" / "response.json").read_bytes())
        answer = server.post(request, "application/x-npy").json()
        assert answer[0] == expected[0]
        assert np.allclose(answer[1], expected[1], rtol=1e-3, atol=1e-5)
        assert "the archive's example is answered as expected" in server.log()
    finally:
        assert server.terminate() == 0


def test_check_reports_each_step_and_exits_0(archive: Path, tmp_path: Path):
    result = check(unpacked(archive, tmp_path / "model"))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"checking {tmp_path}/model with Python ")
    assert lines[1] == "5 files match the manifest"
    assert "model_fn of" in lines[2]
    assert lines[3] == "the archive's example is answered as expected"
    assert lines[-1] == "this model may take traffic"


def test_check_says_what_is_wrong_in_one_line_and_exits_1(archive: Path, tmp_path: Path):
    model_dir = unpacked(archive, tmp_path / "model")
    with (model_dir / "model.pth").open("r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0\0")
    result = check(model_dir)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"tidegate: error: {model_dir}/model.pth is not as it was saved: its SHA-256 is"
    )


def test_weights_that_answer_the_example_otherwise_are_refused(archive: Path, tmp_path: Path):
    model_dir = unpacked(archive, tmp_path / "model")
    torch.save({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, model_dir / "model.pth")
    manifest = json.loads((model_dir / "manifest.json").read_text())
    del manifest["files"]["model.pth"]
    (model_dir / "manifest.json").write_text(json.dumps(manifest))
    result = check(model_dir)
    assert result.returncode == 1
    assert "The archive's example was not answered as expected: at $" in result.stderr


def test_a_saved_model_whose_class_is_named_is_served_without_any_script(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "nets.py").write_text(
        "import torch\ndef line(width):\n    return torch.nn.Linear(width, 1)\n", encoding="utf-8"
    )
    net = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(net.weight, 2.0)
    torch.nn.init.constant_(net.bias, 1.0)
    directory = save_model(
        net,
        model_dir=tmp_path / "saved",
        code_dir=tmp_path / "code",
        architecture="nets:line",
        arguments={"width": 2},
        example=Example(request=[[1, 1]], response=[[5.0]]),
    )
    files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with running(files) as server:
        assert server.post(b"[[1, 2], [3, 4]]").json() == [[7.0], [15.0]]


ONLY_MODEL_FN = """
import torch
def model_fn(model_dir):
    net = torch.nn.Linear(3, 2)
    net.load_state_dict(torch.load(f"{model_dir}/model.pth", weights_only=True))
    return net
"""


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


X = torch.tensor([[0.25, 0.5, 0.75]])
EXAMPLES = [
    pytest.param(lambda _: X, id="a tensor"),
    pytest.param(lambda _: X.tolist(), id="JSON"),
    pytest.param(lambda _: X[0].tolist(), id="one record in JSON"),
    pytest.param(lambda _: X[0], id="one record"),
    pytest.param(lambda _: {"input": X}, id="an object of arrays"),
    pytest.param(lambda _: Example(request="0.25,0.5,0.75\n1,2,3\n", content_type="text/csv"), id="CSV"),
    pytest.param(lambda _: Example(request="0.25,0.5,0.75", content_type="text/csv"), id="one row of CSV"),
    pytest.param(lambda _: Example(request=X, accept="application/x-npy"), id="npy for npy"),
    pytest.param(lambda net: Example(request=X[:1], response=net(X[:1])), id="a tensor as the response"),
    pytest.param(lambda net: Example(request=X, response=net(X).detach().numpy()), id="an array as the response"),
    pytest.param(lambda net: Example(request=X, response=net(X).tolist()), id="lists as the response"),
    pytest.param(
        lambda net: Example(request=X, response=net(X), accept="application/x-npy"), id="a tensor as npy, by accept"
    ),
    pytest.param(
        lambda net: Example(request=X, response=net(X), response_content_type="application/x-npy"),
        id="a tensor as npy, by its type",
    ),
    pytest.param(
        lambda _: Example(request=X, response="[[1e9, 1e9]]", accept="application/json", rtol=1, atol=1e10),
        id="text of the type of accept",
    ),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_every_natural_form_is_answered_by_the_servers_defaults_as_it_was_recorded(
    tmp_path: Path, net: torch.nn.Module, example: Callable[[torch.nn.Module], object]
) -> None:
    """What the training hooks take for the defaults where the code lacks a function is what the server does."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text(ONLY_MODEL_FN)
    save_model(net, model_dir=tmp_path / "m", code_dir=tmp_path / "code", example=example(net))
    assert_answered_as_recorded(tmp_path / "m")


def test_a_named_architecture_without_any_script_answers_its_example(tmp_path: Path, net: torch.nn.Module) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/nets.py").write_text("import torch\ndef line():\n    return torch.nn.Linear(3, 2)\n")
    save_model(net, model_dir=tmp_path / "m", code_dir=tmp_path / "code", architecture="nets:line", example=X)
    assert_answered_as_recorded(tmp_path / "m")


def assert_answered_as_recorded(model_dir: Path) -> None:
    result = check(model_dir)
    assert result.returncode == 0, result.stderr
    assert "the archive's example is answered as expected" in result.stdout


SAVE_PRETRAINED = """
import json, os
from safetensors.torch import load_file
def model_fn(model_dir):
    assert json.load(open(os.path.join(model_dir, "config.json")))["model_type"] == "toy"
    return load_file(os.path.join(model_dir, "model.safetensors"))["embedding.weight"]
def predict_fn(data, model):
    return model[data.long()].sum(dim=1)
"""
JOBLIB = """
import joblib, os
def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
def predict_fn(data, model):
    return model.predict(data.numpy())
"""


def save_pretrained(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "toy"}')
    (folder / "tokenizer.json").write_text("{}")
    save_file({"embedding.weight": torch.arange(6.0).reshape(3, 2)}, folder / "model.safetensors")


def joblib_dump(folder: Path) -> None:
    joblib.dump(DummyRegressor(strategy="constant", constant=7.0).fit([[0.0]], [7.0]), folder / "model.joblib")


def torch_script(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(torch.nn.ReLU()).save(str(folder / "model.pt"))


FOLDERS = [
    pytest.param(save_pretrained, SAVE_PRETRAINED, b"[[0, 2]]", [[4.0, 6.0]], False, id="save_pretrained"),
    pytest.param(save_pretrained, SAVE_PRETRAINED, b"[[0, 2]]", [[4.0, 6.0]], True, id="save_pretrained, saved"),
    pytest.param(joblib_dump, JOBLIB, b"[[1]]", [7.0], True, id="joblib, saved"),
    pytest.param(torch_script, None, b"[[-1, 2]]", [[0.0, 2.0]], False, id="TorchScript"),
]


@pytest.mark.parametrize(("make", "script", "body", "answer", "saved"), FOLDERS)
def test_a_folder_that_other_tools_wrote_is_packed_and_served(
    tmp_path: Path, make: Callable[[Path], None], script: str | None, body: bytes, answer: object, saved: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    if script is not None:
        (folder / "code").mkdir()
        (folder / "code/inference.py").write_text(script)
    if saved:
        save_directory(folder, model_dir=folder, example=json.loads(body))
        assert json.loads((folder / "example/response.json").read_bytes()) == answer
    command = [sys.executable, "-m", "training_hooks", "pack", str(folder), "--output", str(tmp_path / "model.tar.gz")]
    packed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (packed.returncode, packed.stderr) == (0, "")
    unpacked(tmp_path / "model.tar.gz", tmp_path / "model")
    server = start(tmp_path, {})
    try:
        wait_until(lambda: server.ping() == 200, "the server is ready", log=server.log)
        assert server.post(body).json() == answer
        assert ("the archive's example is answered as expected" in server.log()) is saved
    finally:
        assert server.terminate() == 0
