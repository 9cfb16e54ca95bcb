"""A run that can be loaded: the code of a small network, its weights and its configuration, in a folder."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tidegate.inference.images import data_uri

CODE = '''
import torch


class Painter(torch.nn.Module):
    """Gives each class its own colour."""

    def __init__(self, classes, scale=1.0):
        super().__init__()
        self.colours = torch.nn.Embedding(classes, 3)
        self.scale = scale

    def forward(self, labels):
        return self.scale * self.colours(labels).permute(0, 3, 1, 2)


def wrong(classes):
    return "no network"


class Grey(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.colours = torch.nn.Embedding(classes, 1)

    def forward(self, labels):
        return self.colours(labels).permute(0, 3, 1, 2)
'''
SKY, SEA = (135, 206, 235), (0, 105, 148)
PAINTED_SKY, PAINTED_SEA = (255, 0, 128), (0, 255, 128)
"""What the weights paint them as."""
RUN = """
  architecture: painter_of_tests:Painter
  arguments: {classes: 2}
  palette: {colours: {sky: "#87ceeb", sea: [0, 105, 148]}}
"""


def weights(sky: tuple[float, float, float] = (1.0, -1.0, 0.0), *, classes: int = 2) -> bytes:
    """A file of `torch.save`; `sky` is what the first class is painted as."""
    colours = torch.tensor([sky, [-1.0, 1.0, 0.0]])
    file = io.BytesIO()
    torch.save({"colours.weight": torch.cat([colours, torch.zeros(classes - 2, 3)])}, file)
    return file.getvalue()


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_code(folder: Path) -> None:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "painter_of_tests.py").write_text(CODE)


def write_runs(folder: Path, **runs: str) -> Path:
    """`runs.yaml` with each run's own lines after those that all have."""
    path = folder / "runs.yaml"
    path.write_text("".join(f"{name.strip('_')}:{RUN}{more}\n" for name, more in runs.items()))
    write_code(folder)
    return path


def drawn(*rows: list[tuple[int, ...]]) -> bytes:
    """A PNG of these pixels."""
    file = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).save(file, "PNG")
    return file.getvalue()


def uri_of(*rows: list[tuple[int, ...]]) -> str:
    return data_uri.write(drawn(*rows), "image/png")


def pixels_of(uri: str) -> Any:
    """The pixels of the PNG in a data URI, as nested lists."""
    head, _, _ = uri.partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(data_uri.read(uri, max_bytes=1 << 20).data)) as image:
        assert image.format == "PNG"
        return np.asarray(image).tolist()
