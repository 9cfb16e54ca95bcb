"""Image bodies: as Pillow writes them, and TIFF of kinds that it does not write."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image


def image(mode: str = "RGB", size: tuple[int, int] = (3, 2), file_format: str = "PNG") -> bytes:
    """An image of one colour: white where that is a number, else black."""
    return written(Image.new(mode, size, 255 if mode in ("L", "1", "I;16") else None), file_format)


def written(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    """The file of `picture`."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def tiff(pixels: bytes, *, width: int, bits: int, sample_format: int = 1, photometric: int = 1) -> bytes:
    """A TIFF of one row of grey `pixels`, little-endian; photometric 0 is WhiteIsZero."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 1, 279: len(pixels)}
    tags[339] = sample_format
    at = 8 + 2 + 12 * len(tags) + 4
    tags[273] = at
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + pixels
