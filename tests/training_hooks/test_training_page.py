"""docs/training.md is executable."""

import re
import runpy
from pathlib import Path

import pytest

from .artifacts import manifest_of, mismatches

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

CODE = """\
import json

import numpy as np
import torch


def model_fn(model_dir):
    net = torch.nn.Linear(4, 2)
    net.load_state_dict(torch.load(f"{model_dir}/model.pth", weights_only=True))
    return net


def input_fn(input_data, content_type):
    import io
    return torch.from_numpy(np.load(io.BytesIO(input_data), allow_pickle=False))


def predict_fn(data, model):
    return model(data).tolist()


def output_fn(prediction, accept):
    return json.dumps(prediction), accept
"""


def test_the_training_script_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first block trains and saves an artifact whose manifest holds."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "model"))
    (tmp_path / "train.py").write_text(BLOCKS[0])
    runpy.run_path(str(tmp_path / "train.py"), run_name="__main__")
    assert capsys.readouterr().out.count("train_loss=") == 3
    assert mismatches(tmp_path / "model") == []
    assert manifest_of(tmp_path / "model")["name"] == "cats-and-dogs"


def test_the_lineage_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second block records where a model comes from, and prints it as the page says."""
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[1], str(PAGE), "exec"), {})  # noqa: S102 - the page's own code
    printed = capsys.readouterr().out
    shown = next(block for block in PAGE.read_text(encoding="utf-8").split("```") if block.startswith("\nmodel "))
    for line in shown.strip().splitlines():
        known = line if line.split()[0] in ("model", "code", "data", "image", "seed") else line.split()[0]
        assert known in printed


def test_the_folder_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third block makes an artifact of a folder where it is, in a container of the job's model directory."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "model"))
    (tmp_path / "folder.py").write_text(BLOCKS[2])
    runpy.run_path(str(tmp_path / "folder.py"))
    assert mismatches(tmp_path / "model") == []
    assert {"config.json", "code/inference.py"} < manifest_of(tmp_path / "model")["files"].keys()


def test_the_publishing_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fourth block brings the folder into a repository."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    exec(compile(BLOCKS[3], str(PAGE), "exec"), {})  # noqa: S102 - the page's own code
    assert capsys.readouterr().out == f"version 1 is at {tmp_path}/build/repository/bert/1\n"
    assert mismatches(tmp_path / "build" / "repository" / "bert" / "1") == []


def test_the_checkpoints_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last block keeps two checkpoints, and goes on after the last one when it runs again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resume.py").write_text(BLOCKS[4])
    runpy.run_path(str(tmp_path / "resume.py"))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    assert runpy.run_path(str(tmp_path / "resume.py"))["first_epoch"] == 3
