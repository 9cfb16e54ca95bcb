"""The bytes of objects in S3: gone on with where they broke off, unpacked, and asked for ahead of their turn."""

from __future__ import annotations

import gzip
import io
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.client.errors import TableFailed
from tidegate.client.table.job_objects import Place

CHUNK_BYTES = 4 * 1024 * 1024
# Small enough that many objects can be waited for at once.
FIRST_CHUNK_BYTES = 512 * 1024
_PAUSES_S = (0.2, 1.0, 3.0)
_T = TypeVar("_T")
_C = TypeVar("_C", bound="Closable")


class Closable(Protocol):
    """What was begun ahead of its turn."""

    def close(self) -> None:
        """Let it go."""


class ObjectReader(io.RawIOBase):
    """An object of S3 as a file. A connection that breaks off is made again from there, of the same content.

    Raises `TableFailed` from `read` with one sentence: it is not there, may not be read, has changed, or breaks off
    again and again.
    """

    def __init__(
        self,
        s3: Any,
        place: Place,
        *,
        missing: str,
        check: Callable[[Place, datetime], None] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._s3, self._place, self._missing, self._check, self._sleep = s3, place, missing, check, sleep
        self._body: Any = None
        self._etag = ""
        self._size = -1
        self._at = 0

    @property
    def address(self) -> str:
        """What people call the object."""
        return self._place.address

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """At most one chunk; 0 at the end."""
        found = self.chunk(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def chunk(self, size_bytes: int) -> bytes:
        """The next bytes, fewer only at the end."""
        failures = 0
        while True:
            try:
                if self._body is None:
                    if self._at == self._size:
                        return b""
                    self._open()
                    if not self._size:
                        return b""
                found: bytes = self._body.read(min(size_bytes, self._size - self._at))
            except ClientError as error:
                raise TableFailed(self._refusal(error)) from error
            except (BotoCoreError, OSError) as error:
                self._let_go()
                if failures == len(_PAUSES_S):
                    raise TableFailed(
                        f"{self._place.address} breaks off at byte {self._at}, again and again: {error}"
                    ) from error
                self._sleep(_PAUSES_S[failures])
                failures += 1
                continue
            self._at += len(found)
            if self._at == self._size:
                self._let_go()
            elif not found:  # an end before the end
                self._let_go()
                if failures == len(_PAUSES_S):
                    raise TableFailed(f"{self._place.address} ends at byte {self._at} of {self._size}")
                self._sleep(_PAUSES_S[failures])
                failures += 1
                continue
            return found

    def close(self) -> None:
        """Let the connection go."""
        self._let_go()
        super().close()

    def _open(self) -> None:
        asked = {"Range": f"bytes={self._at}-", "IfMatch": self._etag} if self._at else {}
        found = self._s3.get_object(Bucket=self._place.bucket, Key=self._place.key, **asked)
        if not self._at:
            self._size, self._etag = int(found["ContentLength"]), found["ETag"]
            if self._check is not None:
                self._check(self._place, found["LastModified"])
        self._body = found["Body"]
        if not self._size:
            self._let_go()

    def _let_go(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def _refusal(self, error: ClientError) -> str:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        address = self._place.address
        if status == HTTPStatus.NOT_FOUND:
            return f"{address} is not there: {self._missing}"
        if status == HTTPStatus.FORBIDDEN:
            return (
                f"{address} may not be read (403 {error.response['Error'].get('Code', '')}): allow s3:GetObject there, "
                "and s3:ListBucket, without which S3 answers so for what is missing too"
            )
        if status == HTTPStatus.PRECONDITION_FAILED:
            return f"{address} was written anew while it was read"
        return f"{address} cannot be read: {error}"


def chunks(reader: ObjectReader, *, packed: bool) -> Generator[bytes]:
    """The content piece by piece, a small piece first. Raises `TableFailed`."""
    with closing(reader):
        if not packed:
            size = FIRST_CHUNK_BYTES
            while piece := reader.chunk(size):
                yield piece
                size = CHUNK_BYTES
            return
        with gzip.GzipFile(fileobj=io.BufferedReader(reader, FIRST_CHUNK_BYTES)) as unpacked:
            size = FIRST_CHUNK_BYTES
            while True:
                try:
                    piece = unpacked.read(size)
                except (EOFError, OSError, zlib.error) as error:
                    raise TableFailed(f"{reader.address} is not whole as gzip: {error}") from error
                if not piece:
                    return
                yield piece
                size = CHUNK_BYTES


def ahead(pieces: Generator[bytes], pool: ThreadPoolExecutor) -> Started:
    """The same pieces, each asked for before the one before it is used."""
    return Started(pieces, pool)


class Started:
    """Pieces of which the next is on its way. To be closed."""

    def __init__(self, pieces: Generator[bytes], pool: ThreadPoolExecutor) -> None:
        self._pieces, self._pool = pieces, pool
        self._next: Future[bytes] | None = pool.submit(next, pieces, b"")

    def __iter__(self) -> Iterator[bytes]:
        while self._next is not None and (piece := self._next.result()):
            self._next = self._pool.submit(next, self._pieces, b"")
            yield piece
        self._next = None

    def close(self) -> None:
        """End the reading; what is on its way is waited for."""
        if self._next is not None and not self._next.cancel():
            self._next.exception()
        self._next = None
        self._pieces.close()


def window(items: Iterable[_T], *, size: int, start: Callable[[_T], _C]) -> Generator[tuple[_T, _C]]:
    """Each item with what `start` began for it, while the same goes on for `size` items behind it."""
    waiting: deque[tuple[_T, _C]] = deque()
    try:
        for item in items:
            waiting.append((item, start(item)))
            if len(waiting) > size:
                yield waiting[0]
                waiting.popleft()[1].close()
        while waiting:
            yield waiting[0]
            waiting.popleft()[1].close()
    finally:
        for _, started in waiting:
            started.close()
