"""Members of a zip, without believing what its directory says about sizes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

MAGIC = b"PK"
MAX_DIRECTORY_BYTES = 16 * 1024 * 1024
"""A model of a hundred thousand tensors has a directory of about 8 MB."""
MAX_MEMBER_BYTES = 64 * 1024 * 1024
"""Of a member that is read whole, such as `data.pkl`, which names the tensors and holds none."""


class _Bounded(io.BufferedReader):
    """Refuses to read as much as only a made-up directory has."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory is said to have {size} bytes")
        return super().read(size)


def names(path: Path) -> list[str]:
    """The members' names; none where it is no zip, or a damaged one."""
    try:
        with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def stored_sizes(path: Path) -> list[int] | None:
    """How many bytes each member has; None where it is no zip, or one with a compressed member."""
    try:
        with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    stored = all(each.compress_type == zipfile.ZIP_STORED for each in members)
    return [each.file_size for each in members] if stored else None


def member(path: Path, ending: str) -> bytes | None:
    """The first member whose name ends so; None where there is none. Raises `ValueError` where it is too large."""
    try:
        with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            name = next((name for name in archive.namelist() if name.endswith(ending)), None)
            if name is None:
                return None
            with archive.open(name) as opened:
                data = opened.read(MAX_MEMBER_BYTES + 1)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path.name} is a damaged zip: {error}") from error
    if len(data) > MAX_MEMBER_BYTES:
        raise ValueError(f"{name} of {path.name} has more than {MAX_MEMBER_BYTES} bytes")
    return data
