"""From a body as it arrived to what the function that takes it is given: text, bytes or a file."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import BinaryIO, cast

from tidegate.inference.body_file import BodyFile
from tidegate.inference.worker.content import NPY, OCTETS, TEXT_TYPES, decode_text, split_media_type
from tidegate.inference.worker.content_codings import unpack
from tidegate.inference.worker.context import ENCODING_LINE
from tidegate.inference.worker.request import Request


@lru_cache(maxsize=1024)
def given_type(content_type: str) -> str | None:
    """The content type that user code is given for what the client said: None where it named none."""
    media_type, _ = split_media_type(content_type)
    return media_type if media_type in TEXT_TYPES else content_type or None


def given_body(request: Request, max_decoded_bytes: int, *, may_map: bool) -> str | bytearray | memoryview:
    """The body without its Content-Encoding: `str` for JSON and CSV, `bytearray` for all other types.

    With `may_map` an npy body that is in a file is mapped, and no copy is made of it. Raises `BadRequest`,
    `UnsupportedMediaType` and `PayloadTooLarge`.
    """
    media_type, charset = split_media_type(request.received.content_type)
    body = _unpacked(request, max_decoded_bytes)
    if media_type in TEXT_TYPES:
        return decode_text(body.view() if isinstance(body, BodyFile) else body, charset)
    if isinstance(body, BodyFile):
        return body.view() if may_map and media_type in {NPY, OCTETS} else body.read()
    return body if isinstance(body, bytearray) else bytearray(body)


def given_file(request: Request, max_decoded_bytes: int) -> BinaryIO:
    """The body without its Content-Encoding as a file, at its beginning, whatever its type. Raises as `given_body`."""
    body = _unpacked(request, max_decoded_bytes)
    if isinstance(body, BodyFile):
        return body.open()
    return io.BufferedReader(cast(io.RawIOBase, io.BytesIO(body)))  # read-only, as the one on the disk is


def given_buffer(request: Request, max_decoded_bytes: int) -> bytes | bytearray | memoryview:
    """The body without its Content-Encoding as it is, to be read at once. Raises as `given_body`."""
    body = _unpacked(request, max_decoded_bytes)
    return body.view() if isinstance(body, BodyFile) else body


def _unpacked(request: Request, max_decoded_bytes: int) -> bytes | bytearray | memoryview | BodyFile:
    body = request.received.body
    if ENCODING_LINE not in request.received.headers or not (packed := request.processor.take_content_encoding()):
        return body
    return unpack(body.view() if isinstance(body, BodyFile) else body, packed, max_decoded_bytes)
