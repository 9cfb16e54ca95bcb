"""The pixels of an image are bytes as a person sees them (each kind: tests/inference/test_images.py)."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.inference.toy_images import image, tiff, written
from tidegate.inference.errors import BadRequest
from tidegate.inference.images import reading

LIMIT = 1 << 20


def first(data: bytes, **rules: Any) -> list[int]:
    """The first pixel."""
    found = reading.pixels(data, max_decoded_bytes=LIMIT, **rules)
    assert (found.dtype, found.ndim, found.shape[2]) == (np.uint8, 3, 3)
    return [int(each) for each in found[0, 0]]


def refusal(data: bytes, **rules: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        reading.pixels(data, **({"max_decoded_bytes": LIMIT} | rules))
    return caught.value.message


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_pixels_are_those_that_were_drawn(file_format: str) -> None:
    drawn = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = written(Image.fromarray(drawn), file_format, **options)
    assert reading.pixels(data, max_decoded_bytes=LIMIT).tolist() == drawn.tolist()


def test_modes_other_than_rgb_become_rgb() -> None:
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    assert first(written(red.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")) == [255, 0, 0]
    assert first(written(Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "TIFF")) == [255, 0, 0]
    assert first(written(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))[0] > 250
    assert first(written(Image.new("1", (3, 2), 1), "PNG")) == [255, 255, 255]


def test_deep_greys_are_rounded_to_8_bits() -> None:
    assert first(written(Image.new("I;16", (3, 2), 0x8080), "PNG")) == [128, 128, 128]
    assert first(written(Image.new("I;16", (3, 2), 0x80FF), "PNG")) == [128, 128, 128]
    assert first(written(Image.new("I;16", (3, 2), 0xFFFF), "PNG")) == [255, 255, 255]
    assert first(tiff(b"\0\0\0\x80", width=1, bits=32)) == [128, 128, 128]


def test_transparency_shows_a_colour_or_is_dropped_or_refused() -> None:
    half = written(Image.new("RGBA", (3, 2), (200, 0, 0, 128)), "PNG")
    assert first(half) == [227, 127, 127]
    assert first(half, onto=(0, 0, 255)) == [100, 0, 127]
    assert first(half, onto="drop") == [200, 0, 0]
    assert refusal(half, onto="refuse") == (
        "The pixel at x=0, y=0, the first of 6, is transparent; this model takes opaque images only."
    )
    opaque = written(Image.new("RGBA", (3, 2), (200, 0, 0, 255)), "PNG")
    assert first(opaque, onto="refuse") == [200, 0, 0]
    spot = Image.new("RGBA", (3, 2), (200, 0, 0, 255))
    spot.putpixel((2, 1), (0, 0, 0, 254))
    assert refusal(written(spot, "PNG"), onto="refuse").startswith("The pixel at x=2, y=1 is transparent")


def test_a_transparent_grey_of_16_bits_follows_the_same_rules() -> None:
    deep = written(Image.new("I;16", (3, 2), 300), "PNG", transparency=300)
    assert first(deep) == [255, 255, 255]
    assert first(deep, onto=(255, 0, 0)) == [76, 76, 76]  # a grey as bright as red
    assert first(deep, onto="drop") == [1, 1, 1]
    assert "the first of 6, is transparent" in refusal(deep, onto="refuse")


def test_an_image_stands_as_its_orientation_says_or_as_stored() -> None:
    wide = Image.new("RGB", (3, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = written(wide, "PNG", exif=exif)
    assert reading.pixels(data, max_decoded_bytes=LIMIT).shape == (3, 2, 3)
    assert reading.pixels(data, max_decoded_bytes=LIMIT, obey_orientation=False).shape == (2, 3, 3)


def png_of(width: int, height: int, *more: bytes) -> bytes:
    """A PNG that says how large it is, with next to nothing inside."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), *more, b"IDAT" + zlib.compress(b"\0")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (*chunks, b"IEND")
    )


def test_a_few_bytes_that_say_they_are_20000_pixels_square_are_refused_with_size_and_limit() -> None:
    data = png_of(20_000, 20_000)
    assert len(data) < 100
    assert refusal(data, max_decoded_bytes=1 << 30) == (
        "The image of 20000 x 20000 pixels unpacks to 1200000000 bytes; the limit is 1073741824."
    )
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    assert refusal(data, max_decoded_bytes=1 << 40) == (
        f"The image is 20000 x 20000 pixels (width x height); the limit is {most} pixels."
    )
    assert refusal(data, max_decoded_bytes=1 << 40, max_pixels=9) == (
        "The image is 20000 x 20000 pixels (width x height); this model takes at most 9 pixels."
    )
    assert refusal(png_of(9000, 9000)) == (
        "The image of 9000 x 9000 pixels unpacks to 243000000 bytes; the limit is 1048576."
    )


def test_the_limit_is_that_of_what_is_returned() -> None:
    assert reading.pixels(image(size=(10, 10)), max_decoded_bytes=300).shape == (10, 10, 3)
    assert "unpacks to 300 bytes; the limit is 299." in refusal(image(size=(10, 10)), max_decoded_bytes=299)
    assert reading.planes(image(size=(10, 10)), max_decoded_bytes=1200).shape == (3, 10, 10)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_an_image_that_is_cut_off_anywhere_is_a_bad_request(file_format: str) -> None:
    random = np.random.default_rng(3).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    data = written(Image.fromarray(random), file_format)
    for end in {0, 1, 4, 10, 30, *range(50, len(data) - 60, 97)}:
        assert refusal(data[:end])


def test_of_many_frames_the_first_is_read(caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.new("RGB", (4, 4), (index, 0, 0)) for index in range(1, 60)]
    for file_format in ("GIF", "PNG", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, file_format, save_all=True, append_images=frames[1:])
        assert first(file.getvalue()) == [1, 0, 0]
