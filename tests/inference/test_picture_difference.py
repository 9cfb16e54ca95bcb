"""The answer to the archive's example, where it is a picture: what is the same one, and what is not."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tidegate.inference.worker.artifact import Example, difference

PNG, JPEG, JSON = "image/png", "image/jpeg", "application/json"
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3 + 20


def file(pixels: np.ndarray = PIXELS, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def changed(by: int, row: int = 1, column: int = 2) -> np.ndarray:
    pixels = PIXELS.astype(int)
    pixels[row, column, 1] += by
    return pixels.astype(np.uint8)


def uri(data: bytes, media_type: str = PNG) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def compare(expected: bytes, body: bytes, media_type: str, **tolerances: float) -> str | None:
    example = Example(
        body=b"", content_type="", accept="", expected=expected, expected_type=media_type,
        **({"rtol": 1e-3, "atol": 1e-5} | tolerances),
    )  # fmt: skip
    return difference(example, body, media_type)


def in_json(data: bytes, media_type: str = PNG) -> bytes:
    return json.dumps({"image": uri(data, media_type)}).encode()


@pytest.mark.parametrize(
    "body",
    [file(), file(compress_level=0), file(compress_level=9), file(changed(1)), file(changed(-1))],
    ids=["the same", "unpacked", "packed tight", "a level up", "a level down"],
)
def test_one_picture_has_many_files_and_a_rounding_is_none(body: bytes) -> None:
    """Whatever the encoder made of it, as a body and as a data URI in JSON."""
    assert compare(file(), body, PNG) is None
    assert compare(in_json(file()), in_json(body), JSON) is None


def test_a_value_that_is_further_off_is_shown_with_its_place() -> None:
    """The sentence has both pixels."""
    was, now = (tuple(int(level) for level in pixels[1, 2]) for pixels in (PIXELS, changed(9)))
    sentence = f"its pixel (x 2, y 1) is {now}, expected was {was}"
    assert compare(file(), file(changed(9)), PNG) == sentence
    assert compare(in_json(file()), in_json(file(changed(9))), JSON) == f"at $.image {sentence}"


def test_the_example_says_what_more_is_allowed() -> None:
    """In levels by `atol`, in parts of the level by `rtol`; the rounding comes on top."""
    assert compare(file(), file(changed(9)), PNG, atol=8) is None
    assert compare(file(), file(changed(10)), PNG, atol=8) is not None
    assert compare(file(), file(changed(9)), PNG, rtol=0.2) is None


def test_transparency_is_part_of_the_picture() -> None:
    """A mask in the alpha channel is not the same as another mask."""
    opaque = np.full((4, 4, 4), 255, np.uint8)
    clear = opaque.copy()
    clear[2, 3, 3] = 0
    assert compare(file(opaque), file(clear), PNG) == (
        "its pixel (x 3, y 2) is (255, 255, 255, 0), expected was (255, 255, 255, 255)"
    )


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (file(PIXELS[:3]), "it is a picture of 6 x 3 with 3 channels, expected was one of 6 x 4 with 3 channels"),
        (file(PIXELS[..., 0]), "it is a picture of 6 x 4 with 1 channel, expected was one of 6 x 4 with 3 channels"),
        (file()[:-30], "it cannot be read: "),
        (b"", "it cannot be read: "),
    ],
    ids=["smaller", "grey", "cut off", "nothing"],
)
def test_what_is_no_such_picture_is_described(body: bytes, found: str) -> None:
    assert (compare(file(), body, PNG) or "").startswith(found)


def test_palettes_bits_and_16_bit_greys_are_compared_by_what_they_show() -> None:
    """The number of a colour in a palette is no level; of 16 bits, every one counts."""
    bits = np.zeros((4, 4), bool)
    other = bits.copy()
    other[1, 1] = True
    assert compare(file(bits), file(other), PNG) == "its pixel (x 1, y 1) is (255), expected was (0)"
    few = Image.fromarray(PIXELS).quantize(4)
    turned = few.copy()
    turned.putpalette([255 - level for level in few.getpalette() or []])
    files = []
    for picture in (few, turned):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        files.append(buffer.getvalue())
    assert (compare(files[0], files[1], PNG) or "").startswith("its pixel")
    deep = np.full((2, 2), 1000, np.uint16)
    assert compare(file(deep), file(deep + 3), PNG, rtol=0) == "its pixel (x 0, y 0) is (1003), expected was (1000)"


def test_several_frames_are_compared_by_their_bytes_alone() -> None:
    """Nothing is said to be the same of which only the first part was looked at."""
    frames = [Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (0, 90, 200)]
    files = []
    for more in (frames[1:2], frames[2:]):
        buffer = io.BytesIO()
        frames[0].save(buffer, "GIF", save_all=True, append_images=more)
        files.append(buffer.getvalue())
    assert compare(files[0], files[0], "image/gif") is None
    assert compare(files[0], files[1], "image/gif") == "it cannot be read: it has several frames"


@pytest.mark.parametrize(
    "other",
    [
        in_json(file(kind="JPEG"), JPEG),
        b'{"image": "data:image/png;base64,AAAA"}',
        b'{"image": "data:image/png"}',
        b'{"image": "cat"}',
        b'{"image": "data:text/plain,cat"}',
    ],
)
def test_texts_that_are_not_two_pictures_of_one_type_are_compared_as_texts(other: bytes) -> None:
    """A broken data URI is another text, not an error of the server."""
    assert (compare(in_json(file()), other, JSON) or "").startswith("at $.image it has '")
    assert compare(other, other, JSON) is None
