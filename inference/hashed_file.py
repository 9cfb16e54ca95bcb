"""A file whose hash is known: the frontend takes it while torch is imported, and the worker need not take it again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

CHUNK_BYTES = 1 << 20


class Identity(NamedTuple):
    """What changes where a file is replaced or written to: no program can set a file's ctime back."""

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

    `wanted` is asked before each MiB. Raises `OSError`.
    """
    before = Identity.of(os.fstat(file.fileno()))
    digest = hashlib.sha256()
    while wanted():
        piece = file.read(CHUNK_BYTES)
        if not piece:
            unchanged = Identity.of(os.fstat(file.fileno())) == before
            return HashedFile(before, digest.hexdigest()) if unchanged else None
        digest.update(piece)
    return None
