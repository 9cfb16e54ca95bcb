"""Whether two image files show the same picture, as the archive's example wants to know.

Their bytes say little: every release of an encoder may write others for the same pixels, and on another processor the
sums of a network differ in the last place, which rounding makes a whole level in some pixel.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from tidegate.inference.images.kinds import FORMATS

ROUNDING_LEVELS = 1
_PALETTES = {"P": "RGBA", "PA": "RGBA", "1": "L"}
"""Modes whose values are not levels of light, and what they are compared as."""


def picture_difference(wanted: bytes, got: bytes, *, rtol: float, atol: float) -> str | None:
    """Where `got` differs from `wanted` by more than one level, `atol` and `rtol` of the level; None where nowhere.

    Raises `ValueError` where one of them is no picture that is read here.
    """
    if wanted == got:
        return None
    expected, actual = _pixels(wanted), _pixels(got)
    if expected.shape != actual.shape:
        return f"it is a picture of {_shape(actual)}, expected was one of {_shape(expected)}"
    apart = np.abs(actual - expected)
    beyond = apart > ROUNDING_LEVELS + atol + rtol * np.abs(expected)
    if not beyond.any():
        return None
    row, column, _ = np.unravel_index(int(np.where(beyond, apart, -1).argmax()), apart.shape)
    values = [", ".join(f"{level:g}" for level in picture[row, column]) for picture in (actual, expected)]
    return f"its pixel (x {column}, y {row}) is ({values[0]}), expected was ({values[1]})"


def _pixels(data: bytes) -> npt.NDArray[np.float64]:
    """The levels, float64 (height, width, channels)."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise ValueError("it has several frames")
            levels = np.asarray(picture.convert(_PALETTES.get(picture.mode, picture.mode)), np.float64)
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None
    return levels.reshape(*levels.shape[:2], -1)


def _shape(levels: npt.NDArray[np.float64]) -> str:
    height, width, channels = levels.shape
    return f"{width} x {height} with {channels} channel{'s' if channels > 1 else ''}"
