"""At another size a label stays a label, and a picture is smoothed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tidegate.inference.images.resizing import resize_labels, resize_pixels

SIDES = st.integers(1, 40)


@given(height=SIDES, width=SIDES, new_height=SIDES, new_width=SIDES)
def test_each_pixel_has_the_label_at_its_middle(height: int, width: int, new_height: int, new_width: int) -> None:
    labels = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    found = resize_labels(labels, height=new_height, width=new_width)
    assert (found.shape, found.dtype) == ((new_height, new_width), labels.dtype)
    for y in {0, new_height // 2, new_height - 1}:
        for x in {0, new_width // 3, new_width - 1}:
            assert found[y, x] == labels[int((y + 0.5) * height / new_height), int((x + 0.5) * width / new_width)]


def test_labels_are_as_pillow_resizes_them_by_nearest() -> None:
    labels = np.random.default_rng(5).integers(0, 182, (37, 53), dtype=np.uint8)
    for height, width in ((64, 64), (11, 200), (37, 53)):
        wanted = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
        assert (resize_labels(labels, height=height, width=width) == wanted).all()


def test_a_picture_is_smoothed_unless_asked_otherwise() -> None:
    stripes = np.zeros((4, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    assert resize_pixels(stripes, height=2, width=4)[0, 1].tolist() == [100, 100, 100]
    assert resize_pixels(stripes, height=2, width=4, interpolation="nearest")[0, 0, 0] in (0, 200)
    assert resize_pixels(stripes, height=4, width=8) is stripes
