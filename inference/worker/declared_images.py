"""Bodies with pictures to tensors, and predictions to pictures, where the manifest declares that and no script does it.

image/*          ▶ one picture                      ▶ tensor (1, …) ▶ predict_fn ▶ the file itself
JSON             ▶ a data URI under a key           ▶ tensor (1, …) ▶            ▶ {"image": "data:…"}
JSON, JSON Lines ▶ a list of these, a line of each  ▶ tensor (n, …) ▶            ▶ a list, a line for each
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tidegate.inference.errors import BadRequest, HandlerFailed, NotAcceptable, UnsupportedMediaType
from tidegate.inference.images import data_uri, writing
from tidegate.inference.images.declaration import ImageDeclaration, ImageInput, ImageOutput
from tidegate.inference.images.kinds import is_image
from tidegate.inference.images.preparing import Prepared, prepare
from tidegate.inference.images.resizing import resize_labels, resize_pixels
from tidegate.inference.worker.accept import demand_writable
from tidegate.inference.worker.content import (
    JSON,
    JSON_LINES,
    NPY,
    NPZ,
    WRITABLE,
    json_documents,
    not_read,
    split_media_type,
)
from tidegate.inference.worker.encoding import encode, to_array


class PictureSize(NamedTuple):
    """The size that a client's picture had."""

    height: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The pictures of one request, as the model takes them."""

    data: torch.Tensor
    """float32 (n, 3, height, width), or int64 (n, height, width)."""
    sizes: tuple[PictureSize, ...]


def writable(declared: ImageDeclaration) -> tuple[str, ...]:
    """The types that answers may have where the server writes them; the first image type is the declared one."""
    if declared.output is None:
        return WRITABLE
    first = declared.output.media_type
    return (JSON, JSON_LINES, first, *(each for each in writing.WRITABLE if each != first), NPY, NPZ)


# --- input


def read_pictures(
    body: str | bytes | bytearray | memoryview, content_type: str, declared: ImageInput, *, max_decoded_bytes: int
) -> Pictures:
    """What the model is given for a body. Raises `BadRequest` and `UnsupportedMediaType`."""
    media_type, charset = split_media_type(content_type)
    if media_type in (JSON, JSON_LINES):
        found = _several(_each(json_documents(body, media_type, charset)), declared, max_decoded_bytes)
    elif is_image(media_type):
        data = body.encode() if isinstance(body, str) else bytes(body)
        found = [_one(data, declared, max_decoded_bytes, "")]
    else:
        raise UnsupportedMediaType(
            f"{not_read(media_type)}; this model takes a picture as image/png or another image type, or as a data URI "
            f"under '{declared.key}' of {JSON} or {JSON_LINES}."
        )
    return Pictures(
        data=torch.from_numpy(np.stack([each.numbers for each in found])),
        sizes=tuple(PictureSize(each.height, each.width) for each in found),
    )


def _each(documents: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The records of a body by where they stand; a JSON body may be a list of them."""
    if len(documents) > 1 or not isinstance(documents[0][1], list):
        return documents
    (where, values), *_ = documents
    if not values:
        raise BadRequest(f"{where} is an empty list; send at least one object.")
    return [(f"Entry {number} of the list", value) for number, value in enumerate(values)]


def _image_under(value: Any, key: str, where: str, max_bytes: int) -> bytes:
    if not isinstance(value, dict) or key not in value:
        names = ", ".join(repr(str(name)[:40]) for name in list(value)[:5]) if isinstance(value, dict) else ""
        there = f"; it has {names}" if names else ""
        raise BadRequest(f"{where} must be an object with a data URI under '{key}'{there}.")
    try:
        return data_uri.read_image(value[key], max_bytes=max_bytes)
    except BadRequest as error:
        raise _at(f"{where}, '{key}'", error) from None


def _several(records: list[tuple[str, Any]], declared: ImageInput, max_decoded_bytes: int) -> list[Prepared]:
    """The pictures of records, by where they stand. Once the first is read, it is known what all of them take."""
    found: list[Prepared] = []
    for where, value in records:
        data = _image_under(value, declared.key, where, max_decoded_bytes)
        found.append(_one(data, declared, max_decoded_bytes, where))
        if len(found) == 1:
            _demand_room(found[0], len(records), declared, max_decoded_bytes)
        else:
            _demand_one_shape(found)
    return found


def _one(data: bytes, declared: ImageInput, max_decoded_bytes: int, where: str) -> Prepared:
    try:
        return prepare(data, declared, max_decoded_bytes=max_decoded_bytes)
    except BadRequest as error:
        if not where:
            raise
        raise _at(f"{where}, '{declared.key}'", error) from None


def _at(where: str, error: BadRequest) -> BadRequest:
    return BadRequest(f"{where}: {error.message}")


def _demand_room(first: Prepared, count: int, declared: ImageInput, max_decoded_bytes: int) -> None:
    total = first.height * first.width * count
    if declared.max_pixels is not None and total > declared.max_pixels:
        raise BadRequest(
            f"The {count} pictures, of {first.width} x {first.height} pixels (width x height), have {total} pixels "
            f"together; this model takes at most {declared.max_pixels} pixels in one request."
        )
    total = first.numbers.nbytes * count
    if total > max_decoded_bytes:
        raise BadRequest(f"The {count} pictures unpack to {total} bytes; the limit is {max_decoded_bytes}.")


def _demand_one_shape(found: list[Prepared]) -> None:
    first, last = found[0].numbers, found[-1].numbers
    if last.shape != first.shape:
        raise BadRequest(
            f"Picture {len(found) - 1} of the request is {_size(last)} and the first {_size(first)}; pictures of one "
            "request must have one size, as they are one batch."
        )


def _size(numbers: npt.NDArray[Any]) -> str:
    return f"{numbers.shape[-1]} x {numbers.shape[-2]}"


# --- output


def write_pictures(
    prediction: Any, accept: str, declared: ImageOutput, sizes: Sequence[PictureSize], *, records: int
) -> bytes:
    """The answer for a prediction, of one of the types in `writable`.

    `sizes` are those of the client's pictures, none where a script read them; `records` is how many there were, 0 where
    nobody counted. Raises `NotAcceptable`, and `HandlerFailed` for a prediction that is no picture.
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
    return json.dumps(objects[0] if len(objects) == 1 else objects).encode()


def _arrays(prediction: Any, declared: ImageOutput, records: int) -> list[npt.NDArray[Any]]:
    """The pictures of a prediction, one by one: (channels, height, width), or (height, width)."""
    array = to_array(_member(prediction, declared.member))
    if array.dtype.kind not in "fiub":
        raise HandlerFailed(f"The model's picture holds {array.dtype}; it must hold numbers.")
    # Three planes are the colours of one picture; three for three of the client's pictures are grey ones.
    is_one = array.ndim == 3 and declared.kind == "pixels" and (records <= 1 or array.shape[0] != records)
    arrays = list(array) if array.ndim in (3, 4) and not is_one else [array]
    if records and len(arrays) != records:
        raise HandlerFailed(f"The model made {len(arrays)} pictures of {records}.")
    return arrays


def _member(prediction: Any, member: str | int | None) -> Any:
    if isinstance(prediction, Mapping):
        names = list(prediction)
        if member is None and len(names) == 1:
            return prediction[names[0]]
        if member in prediction:
            return prediction[member]
        raise HandlerFailed(
            f"The prediction has {', '.join(map(repr, names[:9]))}; image.output.from of the manifest must name one."
        )
    if isinstance(prediction, tuple | list):
        at = 0 if member is None and len(prediction) == 1 else member
        if isinstance(at, int) and at < len(prediction):
            return prediction[at]
        raise HandlerFailed(
            f"The prediction has {len(prediction)} members; image.output.from of the manifest must number one."
        )
    return prediction


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
