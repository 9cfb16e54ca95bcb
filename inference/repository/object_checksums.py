"""The checksum that S3 keeps of a whole object, compared while its content comes in parts.

botocore compares it where an object is one answer; of a range S3 sends none.
"""

from __future__ import annotations

import base64
import importlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Update = Callable[[bytes, int], int]


class _Kind(NamedTuple):
    name: str
    """Of the function in awscrt."""
    size_bytes: int


_KINDS = {
    "ChecksumCRC64NVME": _Kind("crc64nvme", 8),
    "ChecksumCRC32C": _Kind("crc32c", 4),
    "ChecksumCRC32": _Kind("crc32", 4),
}


class ObjectChecksum:
    """What has come of an object so far, as its checksum."""

    def __init__(self, update: Update, size_bytes: int, expected: str) -> None:
        self._update, self._size_bytes, self._expected = update, size_bytes, expected
        self._value = 0

    @classmethod
    def of(cls, head: Mapping[str, Any]) -> ObjectChecksum | None:
        """The one that the answer to HEAD names; None where there is none of the whole object, or nothing computes it.

        An object that was uploaded in parts, as its ETag shows, may have a checksum of their checksums instead.
        """
        usual = "COMPOSITE" if "-" in head.get("ETag", "") else "FULL_OBJECT"
        is_whole = head.get("ChecksumType", usual) == "FULL_OBJECT"
        for key, kind in _KINDS.items():
            expected = head.get(key)
            if is_whole and isinstance(expected, str) and (update := _function(kind.name)) is not None:
                return cls(update, kind.size_bytes, expected)
        return None

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self._value = self._update(piece, self._value)

    @property
    def agrees(self) -> bool:
        """Whether all that came is what S3 keeps."""
        return base64.b64encode(self._value.to_bytes(self._size_bytes, "big")).decode() == self._expected


def _function(name: str) -> Update | None:
    try:
        checksums = importlib.import_module("awscrt.checksums")
    except ImportError:
        return zlib.crc32 if name == "crc32" else None
    found: Update = getattr(checksums, name)
    return found
