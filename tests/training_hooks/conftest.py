"""Inference code without torch, so that running it in its own process takes milliseconds."""

from pathlib import Path

import pytest

from tidegate.training_hooks import ranks

DOUBLING_CODE = """\
import json
from doubling import double

def model_fn(model_dir):
    import os
    assert os.path.getsize(os.path.join(model_dir, "model.pth")) > 0
    return 2

def input_fn(input_data, content_type):
    assert content_type == "application/json" and isinstance(input_data, str)
    return json.loads(input_data)

def predict_fn(data, model):
    return [double(value, model) for value in data]

def output_fn(prediction, accept):
    return json.dumps({"doubled": prediction}), accept
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rank: a machine of a cluster may run these tests with variables of its launcher."""
    for variables in ranks._VARIABLES:
        for name in variables:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def code_dir(tmp_path: Path) -> Path:
    """A user's code directory: inference.py, a helper that it imports, and junk that must not be copied."""
    directory = tmp_path / "my_code"
    directory.mkdir()
    (directory / "inference.py").write_text(DOUBLING_CODE)
    (directory / "doubling.py").write_text("def double(value, factor):\n    return value * factor\n")
    (directory / "requirements.txt").write_text("")
    (directory / "__pycache__").mkdir()
    (directory / "__pycache__" / "doubling.cpython-311.pyc").write_bytes(b"stale")
    (directory / ".DS_Store").write_bytes(b"junk")
    return directory
