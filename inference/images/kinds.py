"""The kinds of images that are read, by the first bytes of their files."""

from __future__ import annotations

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may recognise. Not all it can: some of its readers start other programs (EPS runs Ghostscript)."""

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
)
_OTHER_NAMES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/apng": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
    "image/tif": "image/tiff",
}
MEDIA_TYPES = frozenset({"image/webp", *(media_type for _, media_type in _BEGINNINGS)})
"""Those of `FORMATS`."""


_ANY_IMAGE = "application/x-image"
"""What clients of SageMaker's own image algorithms call an image of any kind."""


def is_image(media_type: str) -> bool:
    """Whether a body of this type, in lower case and without parameters, is an image: of what kind say its bytes."""
    return media_type.startswith("image/") or media_type == _ANY_IMAGE


def kind_of(data: bytes | bytearray | memoryview) -> str | None:
    """The media type of an image by its first bytes; None where it begins like none of `FORMATS`."""
    start = bytes(data[:12])
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for beginning, media_type in _BEGINNINGS if start.startswith(beginning)), None)


def usual_name(media_type: str) -> str:
    """The registered name of a media type that has several: `image/jpg` → `image/jpeg`."""
    return _OTHER_NAMES.get(media_type, media_type)
