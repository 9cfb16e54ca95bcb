"""The pixels of an image body, which comes from a client.

    open ▶ limit ▶ pixels ▶ orientation ▶ background ▶ 0…1

The size that a header announces is compared with the limit before memory is taken for it. What cannot be read is the
client's mistake: `BadRequest`.
"""

from __future__ import annotations

import io
import logging
import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

from tidegate.inference.errors import BadRequest
from tidegate.inference.worker.numpy_files import Array, unreadable

log = logging.getLogger("tidegate.worker")

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may recognise. Not all it can: some of its readers start other programs (EPS runs Ghostscript)."""

_UNREADABLE = (Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError, struct.error)
"""What Pillow raises for an image that it cannot read, with a reason."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each EXIF orientation upright; 1 is upright, and other numbers mean nothing."""
_AS_STORED = {**_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""The reverse of each."""

_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_WHITE_IS_ZERO, _UNSIGNED = 0, 1
"""Values of the TIFF tags PhotometricInterpretation and SampleFormat."""


def read_image(
    body: bytes | bytearray, *, max_decoded_bytes: int, obey_orientation: bool, onto_white: bool
) -> torch.Tensor:
    """The first frame as float32 (1, 3, height, width), black 0 and white 1. Raises `BadRequest`.

    With `obey_orientation` it stands as its EXIF data says, otherwise as it is stored. What is transparent shows white
    with `onto_white`, otherwise the colour that is stored there.
    """
    try:
        with Image.open(io.BytesIO(body), formats=_FORMATS) as image:
            # Twenty kilobytes of PNG may say that they are 13,000 pixels square: as floats that is two gigabytes.
            announced = image.width * image.height * 3 * np.dtype(np.float32).itemsize
            if announced > max_decoded_bytes:
                raise BadRequest(f"The image unpacks to {announced} bytes; the limit is {max_decoded_bytes}.")
            if _has_several_frames(image):
                _say_that_one_frame_is_read()
            greys = _deep_greys(image)
            turned = _turned(image, obey=obey_orientation)
            planes = (
                _colours(turned, onto_white=onto_white)
                if greys is None
                else _shades(turned, greys, onto_white=onto_white)
            )
    except UnidentifiedImageError:
        raise BadRequest(f"The body is not an image of a kind that is read: {', '.join(_FORMATS)}.") from None
    except _UNREADABLE as error:
        raise unreadable("The image", error) from None
    return torch.from_numpy(planes).unsqueeze(0)


def _has_several_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a frame behind the first one, which is not read, is damaged
        return True


@lru_cache(maxsize=1)
def _say_that_one_frame_is_read() -> None:
    log.warning("an image has several frames; of this one and of all that follow only the first is read")


def _turned(image: Image.Image, *, obey: bool) -> Image.Image:
    # Pillow turns TIFF alone by itself, while it loads one, and forgets that it has.
    turns_itself = image.format == "TIFF"
    orientation = _orientation(image) if turns_itself else 1
    try:
        image.load()
    except (*_UNREADABLE, MemoryError):
        raise
    except Exception:  # damaged tags of a TIFF: a fraction for an offset is a TypeError, and so on
        raise BadRequest("The image cannot be read: it is damaged.") from None
    if turns_itself:
        method = None if obey else _AS_STORED.get(orientation)
    else:
        method = _UPRIGHT.get(_orientation(image)) if obey else None
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data, for which Pillow raises what its parts raise; the pixels are sound
        return 1
    return found if isinstance(found, int) else 1


class _Greys(NamedTuple):
    """The range of an image whose greys have more than 8 bits."""

    largest: int
    white_is_zero: bool


def _deep_greys(image: Image.Image) -> _Greys | None:
    """None where 8 bits are enough. Raises `BadRequest` where no number is known to be white."""
    white_is_zero = _tiff_tag(image, ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO
    bits = _tiff_tag(image, ExifTags.Base.BitsPerSample)
    if image.mode.startswith("I;16"):
        return _Greys(2 ** (bits or 16) - 1, white_is_zero)
    if image.mode == "I" and bits == 32 and _tiff_tag(image, ExifTags.Base.SampleFormat) in (None, _UNSIGNED):
        return _Greys(2**32 - 1, white_is_zero)
    if image.mode in ("I", "F"):
        kind = "fractions" if image.mode == "F" else "whole numbers with a sign"
        raise BadRequest(
            f"The image holds {kind}, which have no number for white; send an image of 8 or 16 bits, or an npy array."
        )
    return None


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None


def _shades(image: Image.Image, greys: _Greys, *, onto_white: bool) -> Array:
    stored = np.asarray(image)
    # Pillow keeps 32 bits as if they had a sign.
    shades = (stored.view(np.uint32) if image.mode == "I" else stored).astype(np.float32)
    shades /= greys.largest
    if greys.white_is_zero:
        np.subtract(1, shades, out=shades)
    if onto_white and isinstance(transparent := image.info.get("transparency"), int):
        shades[stored == transparent] = 1
    return np.repeat(shades[np.newaxis], 3, axis=0)


def _colours(image: Image.Image, *, onto_white: bool) -> Array:
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        if onto_white:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # As bytes, which are a quarter of the memory of floats.
    planes = np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1)).astype(np.float32)
    planes /= 255
    return planes
