"""A gzipped tar to files in a directory, within bounds; nothing of it leads out."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable
from itertools import count
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tidegate.inference.repository.file_names import name_fault

_CHUNK_BYTES = 1 << 20
_LARGEST_READ_BYTES = 8 << 20
_MOST_MEMBERS = 1_000_000
_MOST_RATIO = 100
"""An archive that unpacks to more than this many times its size is not measured to its end."""


class ArchiveRefused(Exception):
    """The archive is damaged or holds what may not be unpacked; the text follows its name."""


class TooLarge(Exception):
    """It takes more than it may."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(f"{needed_bytes} bytes are needed")
        self.needed_bytes = needed_bytes
        """What its files take together, as far as they were read."""


def unpack(archive: Path, directory: Path, *, max_bytes: int | None, check: Callable[[], None]) -> None:
    """Write the files of an archive below `directory`, which take `max_bytes` at most.

    `check` is called between pieces, and may raise. Raises `ArchiveRefused`, `TooLarge` and, from writing, `OSError`.
    Links, devices and pipes are refused, and names that lead out; owners, times and all modes but the one that makes
    a file a program are ours.
    """
    taken = 0
    too_large = False
    most = _MOST_RATIO * archive.stat().st_size
    try:
        with gzip.open(archive) as stream, _opened(_Measured(stream)) as tar:
            for number in count():
                check()
                if (member := _next(tar)) is None:
                    _read_to_end(stream, check)
                    break
                if number >= _MOST_MEMBERS:
                    raise ArchiveRefused(f"holds more than {_MOST_MEMBERS} files")
                tar.members = []  # type: ignore[attr-defined]  # it keeps every member that it has read
                target = directory / _name(member)
                if member.isdir():
                    _make_folder(target, member.name)
                    continue
                taken += member.size
                too_large = too_large or (max_bytes is not None and taken > max_bytes)
                if too_large:
                    if taken > most:
                        break
                    continue  # only to say how much would be enough
                _write(tar, member, target, check)
    except _Damaged as error:
        raise ArchiveRefused(f"is no readable gzipped tar archive: {error}") from None
    if too_large:
        raise TooLarge(taken)


class _Damaged(Exception):
    """Reading failed; what fails in writing is not this."""


class _Measured:
    """A stream that is read in pieces only: tarfile reads a header at once, whatever size it says it has."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.tell = stream.tell
        self.seek = stream.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_READ_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


def _opened(stream: _Measured) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:")  # it asks for no more of it
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise _Damaged(error) from None


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise _Damaged(error) from None


def _read_to_end(stream: gzip.GzipFile, check: Callable[[], None]) -> None:
    """The checksum comes last, behind all that tarfile wants to know."""
    try:
        while stream.read(_CHUNK_BYTES):
            check()
    except (EOFError, zlib.error, OSError) as error:
        raise _Damaged(error) from None


def _name(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    if path.is_absolute() or "\0" in member.name:
        raise ArchiveRefused(f"holds {member.name!r}, an absolute path")
    if ".." in path.parts:
        raise ArchiveRefused(f"holds {member.name!r}, which leads out of its directory")
    if member.issym() or member.islnk():
        # As SageMaker does with links: an archive that has them means something else on another machine.
        raise ArchiveRefused(f"holds the link {member.name!r} to {member.linkname!r}; pack the file itself (tar -h)")
    if not (member.isfile() or member.isdir()):
        raise ArchiveRefused(f"holds {member.name!r}, which is neither a file nor a directory")
    if path.parts and (fault := name_fault(str(path))) is not None:
        raise ArchiveRefused(f"holds {member.name!r}, which {fault}")
    return path


def _make_folder(folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ArchiveRefused(f"holds {name!r} below a file, or in its place") from None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, check: Callable[[], None]) -> None:
    source = tar.extractfile(member)
    if source is None:  # tarfile's word for what is no file
        raise _Damaged(f"{member.name!r} has no content")
    _make_folder(target.parent, member.name)
    mode = 0o755 if member.mode & 0o100 else 0o644
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except IsADirectoryError:
        raise ArchiveRefused(f"holds {member.name!r} as a file and as a folder") from None
    left = member.size
    with os.fdopen(descriptor, "wb") as file:
        while left:
            try:
                piece = source.read(min(_CHUNK_BYTES, left))
            except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
                raise _Damaged(error) from None
            if not piece:
                raise _Damaged(f"{member.name!r} ends early")
            check()
            file.write(piece)
            left -= len(piece)
