"""From pixels to the numbers that a model takes, as its maker declared them.

pixels uint8 ▶ size ▶ labels (palette, or as stored)     ▶ int64 (height, width)
                    ▶ order ▶ range ▶ mean ▶ std       ▶ float32 (3, height, width)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate.inference.errors import BadRequest
from tidegate.inference.images import reading
from tidegate.inference.images.declaration import ImageInput, Size
from tidegate.inference.images.resizing import resize_labels, resize_pixels


class Prepared(NamedTuple):
    """The numbers of one picture, and the size that it had."""

    numbers: npt.NDArray[Any]
    height: int
    width: int


def prepare(data: bytes | bytearray, declared: ImageInput, *, max_decoded_bytes: int) -> Prepared:
    """What the model is given for the image file `data`. Raises `BadRequest`."""
    if declared.classes is not None:
        stored = _labels_of(data, declared, declared.classes, max_decoded_bytes)
        labels = _sized(stored, declared, max_decoded_bytes).astype(np.int64)
        return Prepared(labels, *stored.shape)
    pixels = reading.pixels(
        data,
        max_decoded_bytes=max_decoded_bytes,
        max_pixels=declared.max_pixels,
        obey_orientation=declared.obey_orientation,
        onto=declared.onto,
    )
    height, width = pixels.shape[:2]
    if declared.palette is None:
        numbers = _floats(_sized(pixels, declared, max_decoded_bytes), declared)
    else:
        # Labels first: a colour between two others is a third class, or none.
        labels = declared.palette.labels(pixels)
        numbers = _sized(labels, declared, max_decoded_bytes).astype(np.int64)
    return Prepared(numbers, height, width)


def _labels_of(
    data: bytes | bytearray, declared: ImageInput, classes: int, max_decoded_bytes: int
) -> npt.NDArray[np.integer[Any]]:
    """The numbers that the file has, each of a class."""
    stored = reading.numbers(
        data,
        max_decoded_bytes=max_decoded_bytes,
        max_pixels=declared.max_pixels,
        obey_orientation=declared.obey_orientation,
    )
    if int(stored.max()) >= classes:
        odd = stored >= classes
        y, x = divmod(int(odd.argmax()), stored.shape[1])
        raise BadRequest(
            f"The pixel at x={x}, y={y} has the label {int(stored[y, x])}; this model takes 0 to {classes - 1}."
        )
    return stored


def _sized(array: npt.NDArray[Any], declared: ImageInput, max_decoded_bytes: int) -> npt.NDArray[Any]:
    size = declared.size
    height, width = array.shape[:2]
    if size is not None:
        height, width = _whole_size(height, width, size)
    # In the type that the model is given: a file that fits as bytes may not fit as floats.
    needed = height * width * (12 if declared.kind == "pixels" else 8)
    if needed > max_decoded_bytes:
        raise BadRequest(
            f"The image of {width} x {height} pixels takes {needed} bytes as numbers; the limit is {max_decoded_bytes}."
        )
    if declared.kind == "labels":
        array = resize_labels(array, height=height, width=width)
    else:
        array = resize_pixels(array, height=height, width=width, interpolation=declared.interpolation)
    if size is None or size.policy != "crop":
        return array
    # As torchvision's CenterCrop has it, where one pixel is over.
    top, left = round((height - size.height) / 2), round((width - size.width) / 2)
    return array[top : top + size.height, left : left + size.width]


def _whole_size(height: int, width: int, size: Size) -> tuple[int, int]:
    """The size of the whole picture before anything is cropped. Raises `BadRequest`."""
    if size.policy == "resize":
        return size.height, size.width
    if size.policy == "crop":
        if size.shorter_side is not None:
            shorter = min(height, width)
            # Cut off, as torchvision's Resize has it.
            return height * size.shorter_side // shorter, width * size.shorter_side // shorter
        scale = max(size.height / height, size.width / width)
        return max(size.height, round(height * scale)), max(size.width, round(width * scale))
    fits = (height, width) == (size.height, size.width)
    if size.policy == "limit":
        fits = height <= size.height and width <= size.width
    if not fits:
        rule = "at most " if size.policy == "limit" else ""
        raise BadRequest(
            f"The image is {width} x {height} pixels (width x height); this model takes {rule}"
            f"{size.width} x {size.height}."
        )
    return height, width


def _floats(pixels: npt.NDArray[np.uint8], declared: ImageInput) -> npt.NDArray[np.float32]:
    ordered = pixels[..., ::-1] if declared.colour_order == "bgr" else pixels
    planes: npt.NDArray[np.float32] = np.ascontiguousarray(ordered.transpose(2, 0, 1)).astype(np.float32)
    planes /= 255
    black, white = declared.value_range
    mean, std = declared.mean, declared.std
    if declared.colour_order == "bgr":  # they are said for red, green and blue
        mean, std = mean[::-1], std[::-1]
    scale = np.array([(white - black) / spread for spread in std], np.float32)
    shift = np.array([(black - middle) / spread for middle, spread in zip(mean, std, strict=True)], np.float32)
    if (scale != 1).any():
        planes *= scale[:, np.newaxis, np.newaxis]
    if shift.any():
        planes += shift[:, np.newaxis, np.newaxis]
    return planes
