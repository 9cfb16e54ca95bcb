"""A gzip stream of stored blocks (RFC 1951, 3.2.4): every gzip reader takes it, and no zlib build shapes its bytes.

Compressors differ between zlib, zlib-ng and their releases, so a compressed archive is only reproducible on one
machine. Weights hardly compress anyway (8 % was measured on a ResNet), and storing them costs no time on either side.
"""

import hashlib
import zlib
from typing import BinaryIO

_BLOCK_BYTES = 65_535  # the most that the 16-bit length of a stored block can say
# Magic, deflate, no flags (so no name), modification time 0, no extra flags, operating system unknown.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class StoredGzipWriter:
    """A writable stream that frames what it is given as gzip, and hashes and counts what it wrote.

    Attributes:
        sha256: of the gzip file; final once the writer is closed.
        size_bytes: of the gzip file.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._raw = raw
        self._pending = bytearray()
        self._crc = 0
        self._plain_bytes = 0
        self._emit(_HEADER)

    def write(self, data: bytes) -> int:
        """Take a piece of the plain content."""
        self._crc = zlib.crc32(data, self._crc)
        self._plain_bytes += len(data)
        self._pending += data
        whole = len(self._pending) - len(self._pending) % _BLOCK_BYTES
        view = bytes(self._pending[:whole])
        del self._pending[:whole]
        for start in range(0, whole, _BLOCK_BYTES):
            self._block(view[start : start + _BLOCK_BYTES], final=False)
        return len(data)

    def close(self) -> None:
        """Write what is left as the final block, then the checksum. The underlying file stays open."""
        self._block(bytes(self._pending), final=True)
        self._pending.clear()
        self._emit(self._crc.to_bytes(4, "little") + (self._plain_bytes & 0xFFFFFFFF).to_bytes(4, "little"))

    def _block(self, data: bytes, *, final: bool) -> None:
        length = len(data)
        self._emit(bytes([final]) + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little"))
        self._emit(data)

    def _emit(self, data: bytes) -> None:
        self._raw.write(data)
        self.sha256.update(data)
        self.size_bytes += len(data)
