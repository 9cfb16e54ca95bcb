"""A file whose hash is known: the frontend takes it while torch is imported, and the worker need not take it again."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

CHUNK_BYTES = 1 << 20
SETTLED_S = 2.0
"""How long ago a file must have changed last: the clock of a file system ticks slowly, and a second change in the same
tick leaves the same time behind."""


class Identity(NamedTuple):
    """What changes where a file is replaced or written to: no program can set a file's ctime back.

    A store through a mapping of the file is not seen where the page had been written to already: the kernel notes the
    time when a clean page becomes dirty.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """Of what `os.stat` has found."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class HashedFile(NamedTuple):
    """The SHA-256 of what a file held when it was `identity`."""

    identity: Identity
    sha256: str

    def to_plain(self) -> list[Any]:
        """As JSON carries it."""
        return [*self.identity, self.sha256]


def by_identity(plain: Iterable[Sequence[Any]]) -> Mapping[Identity, str]:
    """The hashes that `to_plain` made."""
    return {Identity(*each[:-1]): str(each[-1]) for each in plain}


def hash_file(file: BinaryIO, wanted: Callable[[], bool] = lambda: True) -> HashedFile | None:
    """Read and hash a file that is open at its beginning; None where it changes meanwhile, or is not wanted any more.

    None too where it has changed less than `SETTLED_S` ago. `wanted` is asked before each MiB. Raises `OSError`.
    """
    before = Identity.of(os.fstat(file.fileno()))
    if time.time_ns() - before.ctime_ns < SETTLED_S * 1e9:
        return None
    digest = hashlib.sha256()
    while wanted():
        piece = file.read(CHUNK_BYTES)
        if not piece:
            unchanged = Identity.of(os.fstat(file.fileno())) == before
            return HashedFile(before, digest.hexdigest()) if unchanged else None
        digest.update(piece)
    return None
