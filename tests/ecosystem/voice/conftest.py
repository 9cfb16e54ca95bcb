"""The archive of examples/voice with its real model, made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.voice import VOICE
from tests.training_hooks.artifacts import mismatches


@pytest.fixture(scope="package")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory, made as the example says."""
    model_dir = tmp_path_factory.mktemp("voice") / "model"
    command = [sys.executable, str(VOICE / "make_archive.py"), "--model-dir", str(model_dir)]
    subprocess.run(command, check=True, timeout=280)
    assert mismatches(model_dir) == []
    return model_dir
