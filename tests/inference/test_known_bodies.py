"""What a worker says of the bodies that it reads is what it does: each type is tried."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from tidegate.inference.errors import RequestError, UnsupportedMediaType
from tidegate.inference.worker import defaults
from tidegate.inference.worker.content import CSV, JSON, JSON_LINES, NPY, NPZ, Reading
from tidegate.inference.worker.declared.sides import declared

READING = Reading(max_decoded_bytes=1 << 20)
TYPES = (JSON, JSON_LINES, CSV, NPY, NPZ, "image/png", "text/plain", "application/pdf", "")
TENSOR = {"name": "x", "shape": ["batch", 2]}


def body_of(media_type: str) -> bytes:
    """A body of the type, which need not fit the model."""
    file = io.BytesIO()
    if media_type == NPY:
        np.save(file, np.ones((1, 2), np.float32))
    elif media_type == NPZ:
        np.savez(file, x=np.ones((1, 2), np.float32))
    else:
        return b"[1, 2]\n"
    return file.getvalue()


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"table": {"columns": ["a", "b"]}},
        {"tensors": [TENSOR]},
        {"tensors": [TENSOR, {**TENSOR, "name": "y"}]},
        {"image": {"input": {}}},
    ],
    ids=["nothing", "table", "tensor", "tensors", "image"],
)
def test_types_that_are_said_to_be_read_are_not_refused_as_types_and_all_others_are(manifest: dict[str, Any]) -> None:
    """A body of such a type may be wrong in itself; one of another type is refused for that, whatever it holds."""
    sides = declared(manifest, READING)
    for media_type in TYPES:
        body = body_of(media_type)
        error: RequestError | None = None
        try:
            if sides.read(body, media_type, max_decoded_bytes=1 << 20) is None:
                defaults.input_fn(body, media_type, READING)
        except RequestError as raised:
            error = raised
        kind = f"{media_type.partition('/')[0]}/*"
        said = media_type in sides.readable or kind in sides.readable
        assert isinstance(error, UnsupportedMediaType) is not said, (media_type, error)
