"""`resize_to_model_input`: pictures as a model of Keras takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

_CHANNELS = (1, 3)


def resize_to_model_input(model: Any, input_index: int = 0) -> Callable[[Any], Any]:
    """A function that makes of a picture (Pillow) a batch of one for the model's input: float32 in 0…1.

    The input is (height, width, channels) or (channels, height, width), of 1 or 3 channels, as `model.inputs` says it.
    Raises `ValueError` for any other.
    """
    shape = tuple(int(length) for length in _lengths(model, input_index) if length)
    if len(shape) != 3 or not (shape[0] in _CHANNELS or shape[2] in _CHANNELS):
        raise ValueError(
            f"resize_to_model_input takes models of pictures with 1 or 3 channels; the input of this one is {shape}."
        )
    channels_first = shape[0] in _CHANNELS
    height, width = shape[1:] if channels_first else shape[:2]
    mode = "L" if (shape[0] if channels_first else shape[2]) == 1 else "RGB"

    def resized(picture: Image.Image | None) -> Any:
        if picture is None:
            return None
        pixels = np.asarray(picture.convert(mode).resize((width, height), Image.Resampling.LANCZOS), np.float32) / 255
        pixels = pixels.reshape(height, width, -1)
        return (pixels.transpose(2, 0, 1) if channels_first else pixels)[np.newaxis]

    return resized


def _lengths(model: Any, input_index: int) -> tuple[Any, ...]:
    """The lengths of an input, None where any will do; Keras once wrapped each in an object with a `value`."""
    return tuple(getattr(length, "value", length) for length in model.inputs[input_index].shape)
