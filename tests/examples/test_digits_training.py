"""train.py as SageMaker runs it: a process with arguments and SM_* variables."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.processes import started
from tests.training_hooks.artifacts import manifest_of, mismatches

TRAIN = Path(__file__).parents[2] / "examples" / "digits" / "train.py"


def environment(work_dir: Path, **more: str) -> dict[str, str]:
    """The environment of a training job whose /opt/ml is the work directory."""
    return os.environ | {
        "SM_MODEL_DIR": str(work_dir / "model"),
        "SM_OUTPUT_DATA_DIR": str(work_dir / "output" / "data"),
        "SM_OUTPUT_DIR": str(work_dir / "output"),
        **more,
    }


def train(work_dir: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TRAIN), *arguments],
        env=environment(work_dir, **more),
        cwd=work_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_training_reaches_its_accuracy(tmp_path: Path) -> None:
    """A few epochs give more than 0.97 on the held-out fifth, a verified artifact, and metrics one line each."""
    done = train(tmp_path, "--epochs", "8")
    assert done.returncode == 0, done.stderr
    epochs = [line for line in done.stdout.splitlines() if line.startswith("epoch=")]
    assert len(epochs) == 8
    accuracy = float(epochs[-1].partition("validation_accuracy=")[2])
    assert accuracy >= 0.97
    assert mismatches(tmp_path / "model") == []
    manifest = manifest_of(tmp_path / "model")
    assert manifest["metrics"]["validation_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    assert {"code/inference.py", "code/digit_net.py", "labels.json", "preprocessing.json"} <= set(manifest["files"])
    assert manifest["example"]["response"]["content_type"] == "application/json"
    with np.load(tmp_path / "output" / "data" / "held_out.npz") as held_out:
        images, labels = held_out["images"], held_out["labels"]
    assert images.shape == (360, 8, 8)
    assert np.bincount(labels).min() >= 34  # every digit has its share
    assert not (tmp_path / "output" / "failure").exists()


def test_a_resumed_job_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    """Same seed, same data: after losing its last epoch the job ends with the same weights, bit for bit."""
    channel = tmp_path / "channel"
    channel.mkdir()
    generator = np.random.default_rng(0)
    np.savez(channel / "digits.npz", images=generator.integers(0, 17, (100, 8, 8)), labels=np.arange(100) % 10)
    arguments = ("--epochs", "2", "--checkpoint-dir", str(tmp_path / "checkpoints"))
    first = train(tmp_path, *arguments, SM_CHANNEL_TRAIN=str(channel))
    assert first.returncode == 0, first.stderr
    assert "digits: 80 to train on, 20 held out" in first.stdout
    expected = torch.load(tmp_path / "model" / "model.pth", weights_only=True)
    (tmp_path / "checkpoints" / "checkpoint-000000000002.pth").unlink()
    second = train(tmp_path, *arguments, SM_CHANNEL_TRAIN=str(channel))
    assert second.returncode == 0, second.stderr
    assert "resuming after epoch 1" in second.stdout
    resumed = torch.load(tmp_path / "model" / "model.pth", weights_only=True)
    torch.testing.assert_close(resumed, expected, rtol=0, atol=0)


def test_a_stopped_job_saves_what_it_has(tmp_path: Path) -> None:
    """SIGTERM, as Spot interruptions and StopTrainingJob send it, ends the job after the epoch, with a model."""
    with started(
        [sys.executable, str(TRAIN), "--epochs", "100000"],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch=1 "):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "asked to stop" in rest
    assert mismatches(tmp_path / "model") == []


def test_bad_data_fails_the_job_with_its_reason(tmp_path: Path) -> None:
    """The failure file says what is wrong with the channel, and the exit status is not 0."""
    (tmp_path / "empty").mkdir()
    done = train(tmp_path, SM_CHANNEL_TRAIN=str(tmp_path / "empty"))
    assert done.returncode == 1
    reason = (tmp_path / "output" / "failure").read_text()
    assert reason.startswith("ValueError: the train channel")
    assert "must hold exactly one .npz file, it has 0" in reason
    assert not (tmp_path / "model").exists()
