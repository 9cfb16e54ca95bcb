"""What a model made becomes the nearest picture: clamped, rounded, and refused where it is no picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tidegate.inference.errors import HandlerFailed
from tidegate.inference.images import writing


def grey(value: float, dtype: Any = np.float32, **options: Any) -> int:
    """The shade that a number becomes."""
    return int(writing.pixels(np.full((1, 1), value, dtype), **options)[0, 0])


@pytest.mark.parametrize(
    ("value", "value_range", "shade"),
    [
        (-1, (-1, 1), 0),
        (1, (-1, 1), 255),
        (0.0, (-1, 1), 128),
        (1.02, (-1, 1), 255),  # where a cast alone would wrap to 1
        (-1.02, (-1, 1), 0),  # and here to 254
        (float("inf"), (-1, 1), 255),
        (float("-inf"), (-1, 1), 0),
        (0.999, (0, 1), 255),  # nearer than 254, which cutting off would make of it
        (0.5, (0, 255), 0),
        (1.6, (0, 255), 2),
        (254.6, (0, 255), 255),
        (0, (1, 0), 255),  # white is zero
        (1e30, (0, 1), 255),
    ],
)
def test_a_number_becomes_the_nearest_shade(value: float, value_range: tuple[float, float], shade: int) -> None:
    assert grey(value, value_range=value_range) == shade


@given(shade=st.integers(0, 255), black=st.floats(-3, 3), span=st.floats(0.1, 300))
def test_every_shade_comes_back_whatever_the_range(shade: int, black: float, span: float) -> None:
    assert grey(black + shade * span / 255, np.float64, value_range=(black, black + span)) == shade


def test_every_type_of_number_is_taken() -> None:
    for dtype in (np.float16, np.float64, np.int64, np.uint16, np.int8):
        assert grey(1, dtype, value_range=(0, 1)) == 255
    assert grey(True, np.bool_, value_range=(0, 1)) == 255
    assert grey(201, np.float16) == 201
    assert grey(70_000, np.int64) == 255
    assert grey(7, np.uint8, value_range=(-1, 1)) == 7, "bytes are pixels"


def test_nan_is_the_fault_of_the_model_and_named_with_its_place() -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 2, 3] = array[2, 3, 4] = array[0, 3, 4] = np.nan
    with pytest.raises(HandlerFailed, match=r"holds NaN, first at x=3, y=2, in 2 of 20 pixels\.$"):
        writing.image(array, value_range=(-1, 1))
    with pytest.raises(HandlerFailed, match=r"first at x=0, y=0, in 1 of 1 pixels"):
        grey(float("nan"))


def test_channels_come_first_or_last_or_are_one() -> None:
    drawn = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    for array in (drawn, drawn.transpose(2, 0, 1), drawn.astype(np.float32)):
        assert writing.pixels(array).tolist() == drawn.tolist()
    for array in (drawn[..., :1], drawn[..., 0], drawn[np.newaxis, ..., 0]):
        assert writing.pixels(array).tolist() == drawn[..., 0].tolist()
    assert writing.pixels(drawn[:1]).tolist() == drawn[:1].tolist(), "one row in colours"
    assert writing.pixels(drawn.transpose(2, 0, 1)[..., :1]).tolist() == drawn[:, :1].tolist(), "one column"
    square = drawn[:3]
    assert writing.pixels(square, channels="last").tolist() == square.tolist()
    assert writing.pixels(square, channels="first").tolist() == square.transpose(1, 2, 0).tolist()
    with pytest.raises(ValueError, match="say which by channels="):
        writing.pixels(square)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4), (4, 4, 4), (1, 3, 4, 4), (0, 4), (3, 4, 0), (5, 5, 5)])
def test_what_has_not_the_shape_of_a_picture_is_the_fault_of_the_model(shape: tuple[int, ...]) -> None:
    with pytest.raises(HandlerFailed, match=r"^The model's picture has the shape \("):
        writing.image(np.zeros(shape))


def test_a_dimension_that_is_said_to_be_the_channels_must_be() -> None:
    with pytest.raises(HandlerFailed, match="has 3 channels or 1 as its first dimension of three"):
        writing.image(np.zeros((4, 5, 3)), channels="first")


def test_words_are_no_picture() -> None:
    with pytest.raises(HandlerFailed, match="it must hold numbers"):
        writing.image(np.array([["a"]]))
    with pytest.raises(HandlerFailed, match="holds complex128; it must hold numbers"):
        writing.image(np.zeros((2, 2), complex))


@pytest.mark.parametrize(("media_type", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/webp", "WEBP")])
def test_the_file_is_of_the_type_asked_for(media_type: str, kind: str) -> None:
    array = np.full((16, 24, 3), 200, np.uint8)
    with Image.open(io.BytesIO(writing.image(array, media_type=media_type))) as found:
        assert (found.format, found.size, found.mode) == (kind, (24, 16), "RGB")
        assert np.abs(np.asarray(found).astype(int) - 200).max() <= 2
    assert writing.image(array[..., 0], media_type=media_type)


def test_png_keeps_every_pixel() -> None:
    noise = np.random.default_rng(4).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(writing.image(noise))) as found:
        assert np.asarray(found).tolist() == noise.tolist()


def test_what_a_kind_of_file_cannot_hold_is_said() -> None:
    with pytest.raises(HandlerFailed, match=r"picture of 17000 x 1 pixels cannot be image/webp"):
        writing.image(np.zeros((1, 17_000), np.uint8), media_type="image/webp")


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="'image/gif' is not written; these are: image/png, image/jpeg, image/webp"):
        writing.image(np.zeros((1, 1)), media_type="image/gif")
    for wrong in ((1, 1), (0, float("nan")), (0, float("inf"))):
        with pytest.raises(ValueError, match="a value range is two different numbers"):
            writing.image(np.zeros((1, 1)), value_range=wrong)
