"""The pixels of an image file, which comes from a client.

    open ▶ limit ▶ pixels ▶ orientation ▶ background ▶ bytes, or fractions

The size that a header announces is compared with the limit before memory is taken for it. What cannot be read is the
client's mistake: `BadRequest`.
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from tidegate.inference.errors import BadRequest
from tidegate.inference.images.colours import Colour
from tidegate.inference.images.kinds import FORMATS, kind_of

log = logging.getLogger("tidegate.images")

Onto = Colour | Literal["drop", "refuse"]
"""What becomes of transparency: blended with a colour, dropped (each pixel has the colour stored in it), or refused."""
WHITE: Colour = (255, 255, 255)
DEFAULT_MAX_PIXELS = 1024 * 1024
"""Of the pictures of a model that takes any size and says nothing else: networks take memory by the pixel."""

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


def pixels(
    data: bytes | bytearray,
    *,
    max_decoded_bytes: int,
    max_pixels: int | None = None,
    obey_orientation: bool = True,
    onto: Onto = WHITE,
) -> npt.NDArray[np.uint8]:
    """The first frame as uint8 (height, width, 3), red first; `max_decoded_bytes` is the limit of that array.

    `max_pixels` is what a model takes at most, whatever the server would read.

    Greys of more than 8 bits are rounded to 8. With `obey_orientation` the image stands as its EXIF data says,
    otherwise as it is stored. Raises `BadRequest`.
    """
    with _opened(data, bytes_per_pixel=3, max_decoded_bytes=max_decoded_bytes, max_pixels=max_pixels) as image:
        greys = _deep_greys(image)
        turned = _turned(image, obey=obey_orientation)
        if greys is None:
            return np.asarray(_rgb(turned, onto))
        shades = np.rint(_shades(turned, greys, onto) * 255).astype(np.uint8)
        return np.repeat(shades[..., np.newaxis], 3, axis=2)


def planes(
    data: bytes | bytearray, *, max_decoded_bytes: int, obey_orientation: bool = True, onto: Onto = WHITE
) -> npt.NDArray[np.float32]:
    """The first frame as float32 (3, height, width), black 0 and white 1; greys keep their depth. Else as `pixels`."""
    with _opened(data, bytes_per_pixel=12, max_decoded_bytes=max_decoded_bytes) as image:
        greys = _deep_greys(image)
        turned = _turned(image, obey=obey_orientation)
        if greys is not None:
            return np.repeat(_shades(turned, greys, onto)[np.newaxis], 3, axis=0)
        # As bytes, which are a quarter of the memory of floats.
        stored = np.ascontiguousarray(np.asarray(_rgb(turned, onto)).transpose(2, 0, 1))
        found: npt.NDArray[np.float32] = stored.astype(np.float32)
        found /= 255
        return found


def numbers(
    data: bytes | bytearray, *, max_decoded_bytes: int, max_pixels: int | None = None, obey_orientation: bool = True
) -> npt.NDArray[np.integer[Any]]:
    """The numbers that the first frame stores, (height, width): greys of 8 or 16 bits, or places in its palette.

    Raises `BadRequest`, also for a JPEG, whose numbers are only nearly those that were drawn.
    """
    with _opened(data, bytes_per_pixel=3, max_decoded_bytes=max_decoded_bytes, max_pixels=max_pixels) as image:
        if image.format == "JPEG" or not (image.mode in ("1", "L", "P") or image.mode.startswith("I;16")):
            what = "is a JPEG, which changes them" if image.format == "JPEG" else f"has other pixels ({image.mode})"
            raise BadRequest(
                f"This model takes the numbers of labels, and the image {what}; send a PNG in grey or with a palette."
            )
        stored = np.asarray(_turned(image, obey=obey_orientation))
        return stored.astype(np.uint8) if stored.dtype == np.bool_ else stored


@contextmanager
def _opened(
    data: bytes | bytearray, *, bytes_per_pixel: int, max_decoded_bytes: int, max_pixels: int | None = None
) -> Iterator[Image.Image]:
    try:
        with _announced(data) as image:
            _demand_size(image.size, bytes_per_pixel, max_decoded_bytes, max_pixels)
            if _has_several_frames(image):
                _say_that_one_frame_is_read()
            yield image
    except UnidentifiedImageError:
        raise BadRequest(f"The data is not an image of a kind that is read: {', '.join(FORMATS)}.") from None
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise BadRequest(f"The image cannot be read: {reason}.") from None


def _announced(data: bytes | bytearray) -> Image.Image:
    """The image, of which only the header was read, whatever the size is that Pillow would refuse."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        # Pillow's sentence has no sides, and would come before the limit of the model.
        kind = (kind_of(data) or "").removeprefix("image/").upper()
        if kind not in Image.OPEN:
            raise
        opened: Image.Image = Image.OPEN[kind][0](io.BytesIO(data), "")
        return opened


def _demand_size(size: tuple[int, int], bytes_per_pixel: int, max_decoded_bytes: int, max_pixels: int | None) -> None:
    """Raise `BadRequest` for more than the model takes, or than the server reads."""
    width, height = size
    if max_pixels is not None and width * height > max_pixels:
        raise BadRequest(
            f"The image is {width} x {height} pixels (width x height); this model takes at most {max_pixels} pixels."
        )
    # Twenty kilobytes of PNG may say that they are 13,000 pixels square: as floats that is two gigabytes.
    announced = width * height * bytes_per_pixel
    if announced > max_decoded_bytes:
        raise BadRequest(
            f"The image of {width} x {height} pixels unpacks to {announced} bytes; the limit is {max_decoded_bytes}."
        )
    most = None if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS  # Pillow warns of the half
    if most is not None and width * height > most:
        raise BadRequest(f"The image is {width} x {height} pixels (width x height); the limit is {most} pixels.")


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


def _shades(image: Image.Image, greys: _Greys, onto: Onto) -> npt.NDArray[np.float32]:
    """Deep greys as float32 (height, width), black 0 and white 1."""
    stored = np.asarray(image)
    # Pillow keeps 32 bits as if they had a sign.
    shades: npt.NDArray[np.float32] = (stored.view(np.uint32) if image.mode == "I" else stored).astype(np.float32)
    shades /= greys.largest
    if greys.white_is_zero:
        np.subtract(1, shades, out=shades)
    if onto != "drop" and isinstance(transparent := image.info.get("transparency"), int):
        seen_through = stored == transparent
        if onto == "refuse":
            _refuse_transparency(seen_through)
        else:
            shades[seen_through] = _brightness(onto)
    return shades


def _brightness(colour: Colour) -> float:
    """A colour as a grey from 0 to 1, as Pillow's conversion to grey weighs it (ITU-R 601-2)."""
    red, green, blue = colour
    return (299 * red + 587 * green + 114 * blue) / 255_000


def _rgb(image: Image.Image, onto: Onto) -> Image.Image:
    if image.mode in _ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        if onto == "refuse":
            _refuse_transparency(np.asarray(image.getchannel("A")) < 255)
        elif onto != "drop":
            image = Image.alpha_composite(Image.new("RGBA", image.size, (*onto, 255)), image)
    return image.convert("RGB")


def _refuse_transparency(seen_through: npt.NDArray[Any]) -> None:
    count = int(np.count_nonzero(seen_through))
    if count:
        y, x = divmod(int(seen_through.argmax()), seen_through.shape[1])
        others = "" if count == 1 else f", the first of {count},"
        raise BadRequest(f"The pixel at x={x}, y={y}{others} is transparent; this model takes opaque images only.")
