"""Predictions to pictures, as the manifest declares it: the file itself, or data URIs in JSON and JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.inference.errors import HandlerFailed, NotAcceptable
from tidegate.inference.images import data_uri, writing
from tidegate.inference.images.declaration import ImageOutput
from tidegate.inference.images.resizing import resize_labels, resize_pixels
from tidegate.inference.worker.accept import demand_writable
from tidegate.inference.worker.content import (
    JSON,
    JSON_LINES,
    NPY,
    NPZ,
    split_media_type,
)
from tidegate.inference.worker.declared.one_of_several import one_of_several
from tidegate.inference.worker.declared.taken import PictureSize
from tidegate.inference.worker.encoding import encode, to_array


def writable(declared: ImageOutput) -> tuple[str, ...]:
    """The types that answers may have; the first image type is the declared one."""
    first = declared.media_type
    return (JSON, JSON_LINES, first, *(each for each in writing.WRITABLE if each != first), NPY, NPZ)


def write(
    prediction: Any,
    accept: str,
    declared: ImageOutput,
    sizes: Sequence[PictureSize],
    *,
    records: int,
    one_alone: bool = True,
) -> bytes:
    """The answer for a prediction, of one of the types in `writable`.

    `sizes` are those of the client's pictures, none where a script read them; `records` is how many there were, 0 where
    nobody counted; a single one is no list where it came alone. Raises `NotAcceptable`, and `HandlerFailed` for a
    prediction that is no picture.
    """
    media_type = split_media_type(accept)[0]
    if media_type in (NPY, NPZ):
        return encode(prediction, media_type)
    demand_writable(accept, (JSON, JSON_LINES, *writing.WRITABLE, NPY, NPZ))
    arrays = _arrays(prediction, declared, records)
    as_file = media_type in writing.WRITABLE
    if as_file and len(arrays) != 1:
        raise NotAcceptable(
            f"The {len(arrays)} pictures of the request are not one {media_type}; accept {JSON} or {JSON_LINES}."
        )
    kind = media_type if as_file else declared.media_type
    wanted = sizes if declared.as_input and len(sizes) == len(arrays) else [None] * len(arrays)
    files = [_file(array, declared, kind, size) for array, size in zip(arrays, wanted, strict=True)]
    if as_file:
        return files[0]
    objects = [{declared.key: data_uri.write(file, kind)} for file in files]
    if media_type == JSON_LINES:
        return b"".join(json.dumps(each).encode() + b"\n" for each in objects)
    return json.dumps(objects[0] if len(objects) == 1 and one_alone else objects).encode()


def _arrays(prediction: Any, declared: ImageOutput, records: int) -> list[npt.NDArray[Any]]:
    """The pictures of a prediction, one by one: (channels, height, width), or (height, width)."""
    array = to_array(one_of_several(prediction, declared.member, "image.output.from"))
    if array.dtype.kind not in "fiub":
        raise HandlerFailed(f"The model's picture holds {array.dtype}; it must hold numbers.")
    # Three planes are the colours of one picture; three for three of the client's pictures are grey ones.
    is_one = array.ndim == 3 and declared.kind == "pixels" and (records <= 1 or array.shape[0] != records)
    arrays = list(array) if array.ndim in (3, 4) and not is_one else [array]
    if records and len(arrays) != records:
        raise HandlerFailed(f"The model made {len(arrays)} pictures of {records}.")
    return arrays


def _file(array: npt.NDArray[Any], declared: ImageOutput, media_type: str, size: PictureSize | None) -> bytes:
    if declared.palette is not None:
        labels = _labels(array, len(declared.palette))
        if size is not None:
            labels = resize_labels(labels, height=size.height, width=size.width)
        return writing.image(declared.palette.paint(labels), media_type=media_type, channels="last")
    pixels = writing.pixels(array, value_range=declared.value_range, channels="first" if array.ndim == 3 else None)
    if size is not None:
        pixels = resize_pixels(pixels, height=size.height, width=size.width)
    if declared.colour_order == "bgr" and pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    return writing.image(pixels, media_type=media_type, channels="last" if pixels.ndim == 3 else None)


def _labels(array: npt.NDArray[Any], classes: int) -> npt.NDArray[Any]:
    """(height, width), of labels or of a score for each class, of which the highest counts."""
    if array.ndim == 3 and array.shape[0] == 1 and array.dtype.kind in "iu":
        array = array[0]
    if array.ndim == 3 and array.shape[0] == classes:
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise HandlerFailed("The scores that the model made of its labels hold NaN.")
        labels: npt.NDArray[Any] = array.argmax(0)
        return labels
    if array.ndim != 2 or 0 in array.shape:
        raise HandlerFailed(
            f"The model's labels have the shape {array.shape}; they are (height, width), or a score for each of the "
            f"{classes} classes before these."
        )
    return array
