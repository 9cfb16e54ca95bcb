"""What a model is given is what its maker's own preprocessing would have made of the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.inference.toy_images import image, written
from tidegate.inference.errors import BadRequest
from tidegate.inference.images.declaration import declared
from tidegate.inference.images.preparing import Prepared, prepare

LIMIT = 1 << 22
SIDES = st.integers(1, 60)


def prepared(data: bytes, limit: int = LIMIT, **how: Any) -> Prepared:
    taken = declared({"image": {"input": how}}).input
    assert taken is not None
    return prepare(data, taken, max_decoded_bytes=limit)


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(6).integers(0, 256, (height, width, 3), dtype=np.uint8))


def refusal(data: bytes, limit: int = LIMIT, **how: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        prepared(data, limit, **how)
    return caught.value.message


def test_by_itself_a_picture_is_three_planes_from_0_to_1() -> None:
    picture = noise(4, 5)
    found = prepared(written(picture, "PNG"))
    assert (found.numbers.dtype, found.height, found.width) == (np.float32, 4, 5)
    wanted = np.asarray(picture).transpose(2, 0, 1).astype(np.float32) / 255
    assert (found.numbers == wanted).all()


def test_mean_and_std_are_taken_from_the_range_as_torchvision_does() -> None:
    picture = noise(3, 3)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    found = prepared(written(picture, "PNG"), mean=list(mean), std=list(std)).numbers
    scaled = np.asarray(picture).transpose(2, 0, 1).astype(np.float64) / 255
    wanted = (scaled - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    assert np.allclose(found, wanted, atol=1e-6)
    bgr = prepared(written(picture, "PNG"), mean=list(mean), std=list(std), colour_order="bgr").numbers
    assert (bgr == found[::-1]).all(), "mean and std are said for red, green and blue in either order"
    assert bgr.flags.c_contiguous


def test_black_and_white_are_the_two_numbers_of_the_range() -> None:
    black_white = Image.new("RGB", (2, 1))
    black_white.putpixel((1, 0), (255, 255, 255))
    for black, white in ((-1, 1), (0, 255), (1, 0)):
        found = prepared(written(black_white, "PNG"), value_range=[black, white]).numbers
        assert np.allclose(found[:, 0], [[black, white]] * 3, atol=1e-5)


@given(height=SIDES, width=SIDES)
@settings(max_examples=40, deadline=None)
def test_a_crop_covers_every_picture_from_its_middle(height: int, width: int) -> None:
    data = written(Image.new("RGB", (width, height), (9, 9, 9)), "BMP")
    for more in ({}, {"shorter_side": 20}):
        found = prepared(data, size={"height": 12, "width": 17, "policy": "crop"} | more).numbers
        assert found.shape == (3, 12, 17)
        assert np.allclose(found, 9 / 255)


def test_a_crop_is_that_of_torchvision() -> None:
    """Resize(20) cuts the longer side off to a whole number; CenterCrop rounds half to even."""
    picture = noise(33, 50)
    found = prepared(written(picture, "PNG"), size={"height": 16, "width": 16, "policy": "crop", "shorter_side": 20})
    resized = picture.resize((int(20 * 50 / 33), 20), Image.Resampling.BILINEAR)
    left, top = round((30 - 16) / 2), round((20 - 16) / 2)
    wanted = np.asarray(resized.crop((left, top, left + 16, top + 16)))
    assert (np.rint(found.numbers * 255) == wanted.transpose(2, 0, 1)).all()


def test_another_size_is_refused_or_resized_by_the_policy() -> None:
    data = image(size=(30, 20))
    size = {"height": 20, "width": 30}
    assert prepared(data, size=size).numbers.shape == (3, 20, 30)
    assert refusal(data, size={"height": 30, "width": 20}) == (
        "The image is 30 x 20 pixels (width x height); this model takes 20 x 30."
    )
    assert prepared(data, size={"height": 99, "width": 30, "policy": "limit"}).numbers.shape == (3, 20, 30)
    assert "this model takes at most 29 x 99." in refusal(data, size={"height": 99, "width": 29, "policy": "limit"})
    found = prepared(data, size={"height": 5, "width": 6, "policy": "resize"})
    assert (found.numbers.shape, found.height, found.width) == ((3, 5, 6), 20, 30)


def test_labels_are_told_at_the_size_of_the_picture_and_never_blended() -> None:
    drawn = Image.new("RGB", (2, 2), (0, 0, 0))
    drawn.putpixel((1, 1), (255, 255, 255))
    palette = {"colours": ["#000000", "#808080", "#ffffff"]}
    found = prepared(
        written(drawn, "PNG"), **{"as": "labels"}, palette=palette, size={"height": 4, "width": 4, "policy": "resize"}
    ).numbers
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]
    drawn.putpixel((0, 1), (1, 0, 0))
    assert "#010000 at x=0, y=1" in refusal(written(drawn, "PNG"), **{"as": "labels"}, palette=palette)


def test_transparency_follows_the_declared_background() -> None:
    clear = written(Image.new("RGBA", (1, 1), (10, 20, 30, 0)), "PNG")
    assert (prepared(clear).numbers == 1).all()
    assert np.allclose(prepared(clear, background=[51, 51, 51]).numbers, 0.2)
    assert np.allclose(prepared(clear, background="drop").numbers.ravel() * 255, [10, 20, 30])
    assert "is transparent" in refusal(clear, background="refuse")


@pytest.mark.parametrize("size", [(4, 3), (3, 4), (12, 1), (1, 12)])
def test_pictures_of_any_size_have_so_many_pixels_at_most(size: tuple[int, int]) -> None:
    """Of whatever shape they are; exactly the limit is taken."""
    for how in ({}, {"as": "labels", "palette": {"colours": ["#000000"]}}):
        data = image(size=size)
        assert prepared(data, max_pixels=12, **how).numbers.size % 12 == 0
        assert refusal(data, max_pixels=11, **how) == (
            f"The image is {size[0]} x {size[1]} pixels (width x height); this model takes at most 11 pixels."
        )


def test_without_a_word_a_million_pixels_are_taken_where_there_is_no_size() -> None:
    square, strip = image("1", (1024, 1024)), image("1", (1024 * 1024 + 1, 1))
    assert prepared(square, 1 << 24).numbers.shape == (3, 1024, 1024)
    assert "is 1048577 x 1 pixels (width x height); this model takes at most 1048576 pixels." in refusal(strip)
    for policy in ("resize", "crop"):  # what the model is given is of one size, however large the picture was
        found = prepared(image("1", (1025, 1024)), 1 << 24, size={"height": 4, "width": 4, "policy": policy})
        assert found.numbers.shape == (3, 4, 4)


def test_what_fits_as_bytes_and_not_as_numbers_is_refused() -> None:
    data = image(size=(100, 100))
    assert "takes 120000 bytes as numbers; the limit is 119999." in refusal(data, 119_999)
    assert prepared(data, 120_000)
    # One row that is to be cropped to a square would have to become very wide.
    line = image(size=(3000, 1))
    assert "pixels takes" in refusal(line, size={"height": 224, "width": 224, "policy": "crop"})
    assert prepared(line, size={"height": 224, "width": 224, "policy": "resize"}).numbers.shape == (3, 224, 224)
