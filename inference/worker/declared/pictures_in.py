"""Bodies with pictures to the numbers that a model takes, as its manifest declares it.

image/*          ▶ one picture                      ▶ tensor (1, …)
JSON             ▶ a data URI under a key           ▶ tensor (1, …)
JSON, JSON Lines ▶ a list of these, a line of each  ▶ tensor (n, …)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tidegate.inference.errors import BadRequest, UnsupportedMediaType
from tidegate.inference.images import data_uri
from tidegate.inference.images.declaration import ImageInput
from tidegate.inference.images.kinds import is_image
from tidegate.inference.images.preparing import Prepared, prepare
from tidegate.inference.worker.content import JSON, JSON_LINES, json_documents, not_read, split_media_type
from tidegate.inference.worker.declared.taken import PictureSize, Taken, at, records_of

READABLE = (JSON, JSON_LINES, "image/*")


def read(
    body: str | bytes | bytearray | memoryview, content_type: str, declared: ImageInput, *, max_decoded_bytes: int
) -> Taken:
    """What the model is given for a body. Raises `BadRequest` and `UnsupportedMediaType`.

    float32 (n, 3, height, width), or int64 (n, height, width).
    """
    media_type, charset = split_media_type(content_type)
    one_alone = True
    if media_type in (JSON, JSON_LINES):
        records, one_alone = records_of(json_documents(body, media_type, charset))
        found = _several(records, declared, max_decoded_bytes)
    elif is_image(media_type):
        data = body.encode() if isinstance(body, str) else bytes(body)
        found = [_one(data, declared, max_decoded_bytes, "")]
    else:
        raise UnsupportedMediaType(
            f"{not_read(media_type)}; this model takes a picture as image/png or another image type, or as a data URI "
            f"under '{declared.key}' of {JSON} or {JSON_LINES}."
        )
    return Taken(
        data=torch.from_numpy(np.stack([each.numbers for each in found])),
        records=len(found),
        one_alone=one_alone,
        sizes=tuple(PictureSize(each.height, each.width) for each in found),
    )


def _image_under(value: Any, key: str, where: str, max_bytes: int) -> bytes:
    if not isinstance(value, dict) or key not in value:
        names = ", ".join(repr(str(name)[:40]) for name in list(value)[:5]) if isinstance(value, dict) else ""
        there = f"; it has {names}" if names else ""
        raise BadRequest(f"{where} must be an object with a data URI under '{key}'{there}.")
    try:
        return data_uri.read_image(value[key], max_bytes=max_bytes)
    except BadRequest as error:
        raise at(f"{where}, '{key}'", error) from None


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
        raise at(f"{where}, '{declared.key}'", error) from None


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
