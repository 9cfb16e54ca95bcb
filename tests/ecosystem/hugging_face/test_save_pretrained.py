"""What `save_pretrained` of the real transformers writes is packed as it is, or saved with an example, and served."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.running import start, wait_until
from tests.ecosystem.environments import python_of
from tests.training_hooks.artifacts import unpacked

HERE = Path(__file__).parent
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has transformers, and all that is ours."""
    return str(python_of("hugging-face", sees_ours=True))


@pytest.mark.parametrize("what", ["save_directory", "nothing"])
def test_a_model_of_transformers_is_packed_and_served(tmp_path: Path, python: str, what: str) -> None:
    folder = tmp_path / "bert"
    trained = run(python, str(HERE / "train.py"), str(folder), str(HERE / "code"), what, SM_MODEL_DIR=str(folder))
    expected = json.loads(trained.splitlines()[-1])
    assert (folder / "model.safetensors").is_file()
    assert (folder / "manifest.json").is_file() is (what == "save_directory")
    code = [] if what == "save_directory" else ["--code", str(HERE / "code")]
    run(python, "-m", "training_hooks", "pack", str(folder), *code, "--output", str(tmp_path / "model.tar.gz"))
    unpacked(tmp_path / "model.tar.gz", tmp_path / "model")
    server = start(tmp_path, OFFLINE, python=python)
    try:
        wait_until(lambda: server.process.poll() is not None or server.ping() == 200, "it is ready", 120, server.log)
        answer = server.post(json.dumps({"text": "hello world"})).json()
        assert answer == {label: pytest.approx(score, rel=1e-3) for label, score in expected.items()}
        assert ("the archive's example is answered as expected" in server.log()) is (what == "save_directory")
    finally:
        assert server.terminate() == 0


def run(*words: str, **environment: str) -> str:
    """Run a command of the user's; returns what it printed."""
    done = subprocess.run(
        words, env={**os.environ, **OFFLINE, **environment}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
