"""A palette tells each pixel's class by its colour, exactly as comparing it with every colour would."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.inference.errors import BadRequest, HandlerFailed
from tidegate.inference.images import palette as palette_module
from tidegate.inference.images.palette import Palette

Pixels = npt.NDArray[np.uint8]

SHADES = st.tuples(*3 * [st.integers(0, 255)])


def by_hand(pixels: Pixels, colours: Pixels) -> npt.NDArray[Any]:
    """The nearest colour, by comparing with each; argmin gives the first of two as near."""
    apart = pixels[:, :, np.newaxis].astype(np.int64) - colours.astype(np.int64)
    nearest: npt.NDArray[Any] = (apart**2).sum(-1).argmin(-1)
    return nearest


def picture(colours: Any, height: int, width: int) -> Pixels:
    return np.resize(np.array(colours, np.uint8).reshape(-1, 3), (height, width, 3))


@given(colours=st.lists(SHADES, min_size=1, max_size=40, unique=True), shape=st.tuples(*2 * [st.integers(1, 9)]))
@settings(max_examples=60, deadline=None)
def test_painting_labels_and_reading_them_again_gives_the_same_labels(
    colours: list[tuple[int, int, int]], shape: tuple[int, int]
) -> None:
    palette = Palette(colours)
    labels = np.resize(np.arange(len(colours), dtype=np.uint8), shape)
    found = palette.labels(palette.paint(labels))
    assert (found.dtype, found.tolist()) == (np.uint8, labels.tolist())


@given(colours=st.lists(SHADES, min_size=1, max_size=40, unique=True), pixels=st.lists(SHADES, min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_nearest_class_is_that_of_comparing_with_every_colour(
    colours: list[tuple[int, int, int]], pixels: list[tuple[int, int, int]]
) -> None:
    palette, asked = Palette(colours, unknown="nearest"), picture(pixels, 1, len(pixels))
    wanted = by_hand(asked, palette.colours).tolist()
    assert palette.labels(asked).tolist() == wanted
    assert palette.labels(asked).tolist() == wanted, "the second time it is only looked up"


@pytest.mark.parametrize("classes", [2, 40, 2000])
def test_noise_has_the_nearest_class(classes: int) -> None:
    random = np.random.default_rng(1)
    colours = random.permutation(np.unique(random.integers(0, 256, (classes, 3), dtype=np.uint8), axis=0))
    palette = Palette(colours.tolist(), unknown="nearest")
    noise = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    assert (palette.labels(noise) == by_hand(noise, colours)).all()


@given(colours=st.lists(st.tuples(*3 * [st.integers(0, 7)]), min_size=1, max_size=40, unique=True))
@settings(max_examples=100, deadline=None)
def test_the_nearest_of_all_colours_at_once_are_those_of_comparing_with_every_colour(
    colours: list[tuple[int, int, int]],
) -> None:
    """Of two as near the first; in a cube of 8 colours each way, where many are as near."""
    given_colours = np.array(colours, np.uint8)
    blue, green, red = np.indices((8, 8, 8), np.uint8)
    wanted = by_hand(np.stack([red, green, blue], axis=-1).reshape(1, -1, 3), given_colours)
    assert palette_module._nearest_of_all(given_colours, side=8).tolist() == wanted[0].tolist()


def test_after_many_distances_no_colour_is_unknown_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that pictures of noise cost a large palette a bounded time, however many of them come."""
    random = np.random.default_rng(3)
    shades = np.arange(0, 256, 15)
    colours = np.stack(np.meshgrid(shades, shades, shades), axis=-1).reshape(-1, 3)
    palette = Palette(random.permutation(colours).tolist(), unknown="nearest")
    first, second = random.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    monkeypatch.setattr(palette_module, "_MANY_DISTANCES", 64 * len(palette))
    assert (palette.labels(first) == by_hand(first, palette.colours)).all()
    assert (palette.labels(second) == by_hand(second, palette.colours)).all()
    monkeypatch.setattr(Palette, "_fill", None)
    third = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (palette.labels(third) == by_hand(third, palette.colours)).all()


def test_of_two_classes_as_near_the_first_is_taken() -> None:
    """Also where the two are far apart."""
    grey = picture([(100, 100, 100)], 1, 1)
    for colours in ([(90, 100, 100), (110, 100, 100)], [(110, 100, 100), (90, 100, 100)], [(0, 100, 100), (200,) * 3]):
        apart = Palette(colours, unknown="nearest")
        assert apart.labels(grey).tolist() == by_hand(grey, apart.colours).tolist() == [[0]]


def test_an_unknown_colour_is_named_with_its_place_and_the_nearest_class() -> None:
    palette = Palette({"sky": "#87ceeb", "sea": (0, 105, 148)})
    pixels = picture([(0x87, 0xCE, 0xEB)], 3, 4)
    pixels[1, 2] = (1, 105, 148)
    with pytest.raises(BadRequest) as caught:
        palette.labels(pixels)
    assert caught.value.message == (
        "The colour #016994 at x=2, y=1 is not in the palette; the nearest class is 'sea' (#006994)."
    )
    pixels[2] = 7
    with pytest.raises(BadRequest) as caught:
        palette.labels(pixels)
    assert caught.value.message == (
        "The colour #016994 at x=2, y=1 is not in the palette, nor are those of 4 more pixels; the nearest class is "
        "'sea' (#006994)."
    )
    with pytest.raises(BadRequest, match="the nearest class is '0'"):
        Palette(["#000000"]).labels(picture([(0, 0, 1)], 1, 1))


def test_the_last_pixel_counts_too() -> None:
    """It is read apart from the others: nothing lies behind it."""
    palette = Palette([(0, 0, 0), (0, 0, 255), (255, 0, 0)])
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[1, 1] = (0, 0, 255)
    assert palette.labels(pixels).tolist() == [[0, 0], [0, 1]]
    pixels[1, 1] = (0, 1, 255)
    with pytest.raises(BadRequest, match="#0001ff at x=1, y=1"):
        palette.labels(pixels)


def test_any_layout_of_the_memory_is_read() -> None:
    palette = Palette([(1, 2, 3), (3, 2, 1)])
    pixels = picture([(1, 2, 3), (3, 2, 1)], 4, 6)
    upside_down = palette.labels(pixels[::-1, ::2])
    assert upside_down.tolist() == palette.labels(pixels)[::-1, ::2].tolist()
    assert palette.labels(pixels[..., ::-1]).tolist() == (1 - palette.labels(pixels)).tolist()
    assert palette.labels(pixels[:0]).shape == (0, 6)
    frozen = pixels.copy()
    frozen.flags.writeable = False
    assert palette.labels(frozen).tolist() == palette.labels(pixels).tolist()


def test_a_picture_of_more_pixels_than_one_block_is_read_whole() -> None:
    colours = [(0, 0, index) for index in range(182)]
    labels = np.arange(300 * 701).reshape(300, 701) % 182
    palette = Palette(colours)
    assert (palette.labels(palette.paint(labels)) == labels).all()


@pytest.mark.parametrize(
    ("classes", "dtype"), [(255, np.uint8), (256, np.uint8), (257, np.uint16), (65_536, np.uint16)]
)
def test_labels_are_as_wide_as_there_are_classes(classes: int, dtype: Any) -> None:
    palette = Palette([(0, index >> 8, index & 255) for index in range(classes)])
    labels = np.array([[0, classes - 1]])
    found = palette.labels(palette.paint(labels))
    assert (found.dtype, found.tolist(), len(palette)) == (dtype, labels.tolist(), classes)


@pytest.mark.parametrize(
    ("colours", "sentence"),
    [
        ([], "a palette has 1 to 65536 colours, this one has 0"),
        ({}, "this one has 0"),
        ([(0, 0, index) for index in range(256)] * 257, "this one has 65792"),
        ({"sky": "#87ceeb", "ice": (135, 206, 235)}, "the class 'ice' has the colour #87ceeb of the class 'sky'"),
        (["#000000", "#ffffff", "black"], "the class 2 has the colour #000000 of the class 0"),
        ([(0, 0, 256)], "the colour of the class 0: [0, 0, 256] is not a colour: each part is a whole number from 0"),
        ({"sky": (0, 0, -1)}, "the colour of the class 'sky': [0, 0, -1]"),
        ([(0, 0, 1.0)], "[0, 0, 1.0] is not a colour: each part is a whole number"),
        ([(0, 0, True)], "is not a colour: each part is a whole number"),
        ([(0, 0)], "is not a colour; write '#rrggbb' or [red, green, blue]"),
        (["#fff"], "'#fff' is not a colour"),
        (["sky blue"], "'sky blue' is not a colour"),
        ([7], "7 is not a colour"),
        ("#ffffff", "are of the type str"),
        (7, "are of the type int"),
    ],
)
def test_a_palette_that_is_none_is_refused_when_it_is_made(colours: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        Palette(colours)
    assert len(str(caught.value)) < 200


def test_only_two_policies_are_known() -> None:
    with pytest.raises(ValueError, match="it must be 'error' or 'nearest'"):
        Palette(["#000000"], unknown="ignore")  # type: ignore[arg-type]


def test_labels_that_are_no_classes_are_the_fault_of_the_model() -> None:
    palette = Palette(["#000000", "#ffffff"])
    for label in (2, -1):
        with pytest.raises(HandlerFailed, match=rf"made the label {label}; the palette has the classes 0 to 1"):
            palette.paint(np.array([[0, label]]))
    with pytest.raises(HandlerFailed, match="whole numbers; the model made float64"):
        palette.paint(np.zeros((1, 1)))
    assert palette.paint(np.zeros((0, 3), int)).shape == (0, 3, 3)


def test_pixels_of_another_form_are_the_fault_of_the_caller() -> None:
    for wrong in (np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.float32)):
        with pytest.raises(ValueError, match="pixels are uint8"):
            Palette(["#000000"]).labels(wrong)  # type: ignore[arg-type]


def test_several_threads_may_ask_one_palette_at_once() -> None:
    random = np.random.default_rng(2)
    palette = Palette([(int(i), int(i * 7 % 256), int(i * 31 % 256)) for i in range(200)], unknown="nearest")
    pictures = [random.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(4)]
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: palette.labels(pictures[i])}))
        for i in range(len(pictures))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((found[i] == by_hand(pictures[i], palette.colours)).all() for i in range(len(pictures)))
