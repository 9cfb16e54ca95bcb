"""What a model made, as an image file. What cannot be one is the model's mistake: `HandlerFailed`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from tidegate.inference.errors import HandlerFailed

_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        # The least effort: an answer waits for it, and of a textured picture more makes a file a few percent smaller.
        "image/png": {"format": "PNG", "compress_level": 1},
        "image/jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
        "image/webp": {"format": "WEBP", "quality": 95},
    }
)
WRITABLE: Final = tuple(_OPTIONS)
"""The media types that are written; the first keeps every pixel as it is."""

Channels = Literal["first", "last"]


def image(
    array: npt.NDArray[Any],
    *,
    value_range: tuple[float, float] = (0, 255),
    media_type: str = "image/png",
    channels: Channels | None = None,
) -> bytes:
    """The file of a picture whose black and white are the two numbers of `value_range`, such as (-1, 1).

    Numbers beyond them are black and white, and those between two of the 256 shades become the nearer one. uint8 is
    taken as pixels, whatever the range.

    Args:
        array: (height, width) in grey, (height, width, 3) or (3, height, width) in red, green and blue; one channel in
            place of three is grey.
        value_range: the number that is black and the one that is white.
        media_type: one of `WRITABLE`.
        channels: which dimension the channels are, where the shape could be read both ways: (3, 200, 3).

    Raises `HandlerFailed` where the array is no picture or holds NaN, and `ValueError` for arguments that are wrong.
    """
    if media_type not in _OPTIONS:
        raise ValueError(f"{media_type!r} is not written; these are: {', '.join(WRITABLE)}")
    shades = pixels(array, value_range=value_range, channels=channels)
    file = io.BytesIO()
    try:
        Image.fromarray(shades).save(file, **_OPTIONS[media_type])
    except (OSError, ValueError) as error:  # a WebP of more than 16,383 pixels, say
        height, width = shades.shape[:2]
        raise HandlerFailed(
            f"The model's picture of {width} x {height} pixels cannot be {media_type}: {error}."
        ) from None
    return file.getvalue()


def pixels(
    array: npt.NDArray[Any], *, value_range: tuple[float, float] = (0, 255), channels: Channels | None = None
) -> npt.NDArray[np.uint8]:
    """The picture as uint8 (height, width, 3), or (height, width) where it is grey; see `image`."""
    black, white = value_range
    if not (np.isfinite(black) and np.isfinite(white)) or black == white:
        raise ValueError(f"a value range is two different numbers, those of black and of white, not {value_range!r}")
    upright = _channels_last(array, channels)
    if upright.dtype == np.uint8:
        return np.ascontiguousarray(upright)
    if upright.dtype.kind not in "fiub":
        raise HandlerFailed(f"The model's picture holds {upright.dtype}; it must hold numbers.")
    # Not in float16, which has no room for 255 shades near 255.
    wide = np.float64 if upright.dtype.itemsize > np.dtype(np.float32).itemsize else np.float32
    shades = np.subtract(upright, black, dtype=wide)
    shades *= 255 / (white - black)
    # Before the cast, which would wrap: 1.02 would be the darkest shade.
    np.clip(shades, 0, 255, out=shades)
    if np.isnan(shades.max()):
        raise HandlerFailed(f"The model's picture holds NaN, {_where_nan(upright)}.")
    return np.ascontiguousarray(np.rint(shades, out=shades).astype(np.uint8))


def _channels_last(array: npt.NDArray[Any], channels: Channels | None) -> npt.NDArray[Any]:
    """(height, width, 3) or (height, width)."""
    first = array.ndim == 3 and array.shape[0] in (1, 3)
    last = array.ndim == 3 and array.shape[2] in (1, 3)
    if channels is None and first and last:
        if array.shape[0] != array.shape[2]:  # three channels and one row or column, or the reverse
            first, last = array.shape[0] == 3, array.shape[2] == 3
        else:
            raise ValueError(f"an array of {array.shape} may have its channels first or last: say which by channels=")
    if 0 in array.shape or not (array.ndim == 2 or (first and channels != "last") or (last and channels != "first")):
        raise HandlerFailed(
            f"The model's picture has the shape {array.shape}; a picture is (height, width), or has 3 channels or 1 "
            f"{'as its ' + channels if channels else 'before or after these'}"
            f"{' dimension of three' if channels else ''}."
        )
    if array.ndim == 2:
        return array
    upright = array.transpose(1, 2, 0) if channels == "first" or (channels is None and first) else array
    return upright[..., 0] if upright.shape[2] == 1 else upright


def _where_nan(upright: npt.NDArray[Any]) -> str:
    odd = np.isnan(upright)
    odd = odd.any(axis=2) if odd.ndim == 3 else odd
    y, x = divmod(int(odd.argmax()), odd.shape[1])
    return f"first at x={x}, y={y}, in {int(np.count_nonzero(odd))} of {odd.size} pixels"
