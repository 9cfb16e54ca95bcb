"""One trained model for all tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["tidegate.inference.pytest_plugin"]


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """What the training leaves."""
    directory = tmp_path_factory.mktemp("model")
    train = Path(__file__).parents[1] / "train.py"
    subprocess.run([sys.executable, train], env={**os.environ, "SM_MODEL_DIR": str(directory)}, check=True)
    return directory
