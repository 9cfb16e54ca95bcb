"""examples/voice with a toy in the place of its model, and audio for it."""

import io
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

VOICE = Path(__file__).parents[2] / "examples" / "voice"
CODE_DIR = VOICE / "code"
WINDOW_S = 0.032


class Loudness(torch.nn.Module):
    """In the place of the network: the loudest sample of a window, and a count of windows as its state."""

    def forward(self, samples: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        windows = torch.ones(1) if state.numel() == 0 else state + 1
        return samples[:, 64:].abs().amax(dim=1, keepdim=True), windows


class Toy(torch.nn.Module):
    """With the network where the real model has it."""

    def __init__(self) -> None:
        super().__init__()
        self._model = Loudness()

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self._model(samples, torch.zeros(0))[0]


def make_archive(folder: Path) -> Path:
    """Make the archive below `folder` out of a wheel that has the toy where the real one has its model."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.", DeprecationWarning)
        torch.jit.save(torch.jit.script(Toy()), buffer)
    wheel = folder / "silero_vad-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("silero_vad/data/silero_vad.jit", buffer.getvalue())
        files.writestr("silero_vad-1.0.dist-info/licenses/LICENSE", "MIT License")
    command = [sys.executable, str(VOICE / "make_archive.py"), "--wheel", str(wheel)]
    subprocess.run([*command, "--model-dir", str(folder / "model")], check=True, timeout=300)
    return folder / "model"


def audio(*parts: tuple[float, float]) -> bytes:
    """Windows of loudness from 0 to 1: `(0.9, 10)` is ten loud ones."""
    samples = [np.full(512 * int(windows), loudness * 32767) for loudness, windows in parts]
    return np.concatenate(samples).astype("<i2").tobytes()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


TWO_SENTENCES = audio((0, 10), (0.9, 20), (0, 30), (0.9, 5), (0, 15))
THEIR_EVENTS = [("speech_start", 10), ("speech_end", 30), ("speech_start", 60), ("speech_end", 65), ("audio_end", 80)]
