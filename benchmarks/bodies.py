"""The bytes that every server gets: the same in each run, made from a fixed seed."""

from __future__ import annotations

import hashlib
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.environments import BUILD

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One request's body, in memory for our driver and in a file for wrk."""

    data: bytes
    content_type: str
    file: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def make() -> dict[str, Body]:
    """The body of each work, by its name."""
    folder = BUILD / "bodies"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {
        "W0": (_document(), "application/json", "w0.json"),
        "W1": (_array(), "application/x-npy", "w1.npy"),
        "W2": (_image(), "image/jpeg", "w2.jpg"),
    }
    bodies = {}
    for work, (data, content_type, name) in kinds.items():
        (folder / name).write_bytes(data)
        bodies[work] = Body(data=data, content_type=content_type, file=folder / name)
    return bodies


def _document() -> bytes:
    """A JSON object of exactly one KiB."""
    random_ = random.Random(0)
    document = {"id": "request", "values": [random_.randrange(1000) for _ in range(100)], "note": ""}
    document["note"] = "x" * (KIB - len(json.dumps(document)))
    return json.dumps(document).encode()


def _array() -> bytes:
    """256 float32 in .npy."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).standard_normal(256, dtype=np.float32), allow_pickle=False)
    return file.getvalue()


def _image() -> bytes:
    """A JPEG of 224x224 pixels with the detail of a photograph (around 12 KB)."""
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.6))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()
