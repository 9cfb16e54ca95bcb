"""Pictures and maps of labels at another size. A label is a number for a thing, so that no two are blended."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Pillow's, by their names: smoothed where a picture shrinks, as torchvision's are with `antialias`."""


def resize_pixels(
    pixels: npt.NDArray[np.uint8], *, height: int, width: int, interpolation: str = "bilinear"
) -> npt.NDArray[np.uint8]:
    """uint8 (height, width, 3), or (height, width), at the size asked for."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), FILTERS[interpolation]))


def resize_labels(labels: npt.NDArray[Any], *, height: int, width: int) -> npt.NDArray[Any]:
    """(height, width) of any whole numbers at the size asked for: each pixel has the label at its middle."""
    if labels.shape == (height, width):
        return labels
    rows, columns = _middles(labels.shape[0], height), _middles(labels.shape[1], width)
    resized: npt.NDArray[Any] = labels[rows[:, np.newaxis], columns]
    return resized


def _middles(size: int, wanted: int) -> npt.NDArray[np.int64]:
    """Where the middle of each of the `wanted` pixels lies among `size`."""
    return (2 * np.arange(wanted, dtype=np.int64) + 1) * size // (2 * wanted)
