"""Objects of S3 that go from file to socket: moto keeps a large object in a file, and reads all of it for every answer.

A gigabyte that boto3 fetches in ranges of 8 MB would be read 128 times, ten at a time. Here what is read is what is
sent, and the parts of an upload are put together file to file. The body of one request (a part of an upload, or a
PutObject) is still held in memory while it is taken, as moto's web framework does it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, Self

from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.s3.models import FakeKey, FakeMultipart, MultipartChecksumBuilder
from moto.s3.responses import S3Response
from moto.settings import S3_UPLOAD_PART_MIN_SIZE, get_s3_default_key_buffer_size

_CHUNK_BYTES = 1024 * 1024
_CHECKSUM_BYTES = 64 * 1024 * 1024  # moto makes the checksum of a whole object from all of it in memory


class FileContent:
    """A window on an object's file, in the place of its bytes: has a length, can be sliced and iterated in chunks.

    It has a descriptor of its own, so the object may be overwritten or deleted while it is sent.
    """

    def __init__(self, descriptor: int, begin: int, end: int) -> None:
        self._descriptor = os.dup(descriptor)
        self._begin = begin
        self._end = end

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, wanted: slice) -> FileContent:
        begin, end, _ = wanted.indices(len(self))
        return FileContent(self._descriptor, self._begin + begin, self._begin + max(begin, end))

    def __iter__(self) -> Iterator[bytes]:
        at = self._begin
        while at < self._end:
            chunk = os.pread(self._descriptor, min(_CHUNK_BYTES, self._end - at), at)
            if not chunk:
                return
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        """Called by the web framework when the answer has been sent, or cannot be."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def install() -> None:
    """From now on moto answers GetObject from files and completes uploads file to file."""
    S3Response.get_object = _get_object  # type: ignore[method-assign]
    S3Response.put_object = _then_forgotten(S3Response.put_object)  # type: ignore[method-assign, assignment]
    S3Response.upload_part = _then_forgotten(S3Response.upload_part)  # type: ignore[method-assign, assignment]
    FakeKey.value = property(_value, _set_value)  # type: ignore[method-assign, assignment]
    FakeMultipart.complete = _complete  # type: ignore[method-assign]


def _then_forgotten(act: Callable[[S3Response], Any]) -> Callable[[S3Response], Any]:
    """Lets go of the request's body: requests in moto are part of cycles, and garbage is not collected by its bytes."""

    def acting(self: S3Response) -> Any:
        try:
            return act(self)
        finally:
            self.body = self.raw_body = b""
            held = vars(self.normalized_request)
            held.update({name: b"" for name in ("data", "_cached_data") if name in held})

    return acting


class _Answering(threading.local):
    """Whether this thread makes an answer that may be a FileContent; everything else in moto wants bytes."""

    from_file = False


_answering = _Answering()
_get_object_of_moto = S3Response.get_object
_value_of_moto: Any = FakeKey.__dict__["value"]


def _get_object(self: S3Response) -> Any:
    _answering.from_file = True
    try:
        return _get_object_of_moto(self)
    finally:
        _answering.from_file = False


def _value(self: FakeKey) -> Any:
    if _answering.from_file and getattr(self._value_buffer, "_rolled", False):
        with self.lock:
            if (opened := getattr(self._value_buffer, "opened", None)) is not None:  # a content that is kept
                with opened() as file:
                    return FileContent(file.fileno(), 0, self.contentsize)
            self._value_buffer.flush()
            return FileContent(self._value_buffer.fileno(), 0, self.contentsize)
    return _value_of_moto.fget(self)


def _set_value(self: FakeKey, value: Any) -> None:
    if not isinstance(value, FileContent):
        _value_of_moto.fset(self, value)
        return
    self._value_buffer.seek(0)
    self._value_buffer.truncate()
    with value:
        for chunk in value:
            self._value_buffer.write(chunk)
        self.contentsize = len(value)


def _complete(self: FakeMultipart, body: Iterator[tuple[int, str]]) -> Any:
    """What moto's own does, with the same refusals."""
    chosen: list[FakeKey] = []
    digests = bytearray()
    for number, etag in body:
        part = self.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
        if chosen and chosen[-1].contentsize < S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        digests += bytes.fromhex(part.etag.strip('"'))
        chosen.append(part)
    if not chosen:
        raise MalformedXML
    checksum = _checksum(self, chosen)
    whole = SpooledTemporaryFile[bytes](get_s3_default_key_buffer_size())
    with whole:
        for part in chosen:
            with part.lock:
                part._value_buffer.seek(0)
                shutil.copyfileobj(part._value_buffer, whole, _CHUNK_BYTES)
        size = whole.tell()
        whole.rollover()
        whole.flush()
        value = FileContent(whole.fileno(), 0, size)
    for part in self.parts.values():
        with part.lock:
            part._value_buffer.seek(0)
            part._value_buffer.truncate()  # its size is still asked for, its content is not
    return value, f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(chosen)}", checksum


def _checksum(upload: FakeMultipart, parts: list[FakeKey]) -> tuple[str, str, int] | None:
    """The object's checksum; None where it would be made from more bytes than may lie in memory."""
    builder = MultipartChecksumBuilder(
        upload.metadata.get("x-amz-checksum-algorithm"), upload.metadata.get("x-amz-checksum-type")
    )
    if builder.checksum_type != "COMPOSITE" and sum(part.contentsize for part in parts) > _CHECKSUM_BYTES:
        return None
    for part in parts:
        builder.addPart(part.value)
    return builder.build()
