"""An archive's script that sends a large npy body back, in the way that BENCHMARK_WAY names."""

# ruff: noqa: ARG001 - the contract of the functions names their arguments

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np
import torch

PIECE_BYTES = 1 << 20


def model_fn(model_dir):
    return torch.nn.Identity()


if os.environ["BENCHMARK_WAY"] == "bytes":

    def input_fn(input_data, content_type):
        """The array of an npy body, in the memory of the body."""
        header = 10 + int.from_bytes(input_data[8:10], "little")
        return torch.from_numpy(np.frombuffer(input_data, np.float32, offset=header))


if os.environ["BENCHMARK_WAY"] == "file":

    def transform_fn(model, body: BinaryIO, content_type, accept):
        """The body, piece by piece."""
        return iter(lambda: body.read(PIECE_BYTES), b""), "application/x-npy"
