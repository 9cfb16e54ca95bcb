"""The old names of the toolkits, for a while: what else was imported meanwhile stays, as libraries load only once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tidegate.inference.worker import compat
from tidegate.inference.worker.compat.sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (
    DefaultPytorchInferenceHandler,
)
from tidegate.inference.worker.content import Reading


@contextmanager
def lent() -> Iterator[list[str]]:
    """The names that were lent; they are gone again afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        reading = Reading(max_decoded_bytes=2**20)
        patch.setattr(DefaultPytorchInferenceHandler, "reading", reading)  # as the next line does, for good
        names = compat.lend_names(reading)
        try:
            yield names
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] in names]:
                del sys.modules[name]
