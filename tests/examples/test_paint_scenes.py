"""What examples/paint is trained on and measured by: made-up scenes, and the regions of a map."""

from __future__ import annotations

import numpy as np
import pytest

from examples.paint.regions import mean_colours, roughness, tally
from examples.paint.scenes import CLASSES, TEXTURES, scene

SCENES = [scene(seed) for seed in range(60)]
PAIRS = [(each.labels, each.picture) for each in SCENES]
COLOURS = mean_colours(PAIRS, len(CLASSES))


def test_a_scene_depends_on_its_seed_alone() -> None:
    """The same seed gives the same bytes, another one another scene; so a seed that was not used is unseen."""
    again, other = scene(5), scene(6)
    assert np.array_equal(again.labels, SCENES[5].labels)
    assert np.array_equal(again.picture, SCENES[5].picture)
    assert not np.array_equal(again.labels, other.labels)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 50), (64, 64), (96, 40)])
def test_scenes_have_any_size(height: int, width: int) -> None:
    for seed in range(20):
        made = scene(seed, height=height, width=width)
        assert made.labels.shape == (height, width)
        assert made.picture.shape == (height, width, 3)
        assert made.labels.max() < len(CLASSES)


def test_every_class_occurs_and_has_a_texture() -> None:
    assert len(TEXTURES) == len(CLASSES)
    assert np.isfinite(COLOURS).all()
    assert (roughness(PAIRS, len(CLASSES)) > 0.4).all()


def test_true_pictures_have_right_regions() -> None:
    """The measure lets through what is right: hardly a region of unseen true pictures is nearer to another class."""
    unseen = [scene(seed) for seed in range(1000, 1020)]
    found = tally(((each.labels, each.picture) for each in unseen), COLOURS)
    assert found.regions > 100
    assert found.share > 0.97


def test_pictures_of_other_maps_have_wrong_regions() -> None:
    """And nothing else: with the pictures of other maps it is chance."""
    shifted = zip((each.labels for each in SCENES), (each.picture for each in [*SCENES[1:], SCENES[0]]), strict=True)
    assert tally(shifted, COLOURS).share < 0.5


def test_a_region_is_a_connected_area_of_some_size() -> None:
    """Two areas of one class are two regions, and a speck is none."""
    labels = np.zeros((20, 20), np.uint8)
    labels[2:8, 2:8] = labels[12:18, 12:18] = 1
    labels[0, 0] = 2
    colours = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0]], float)
    picture = colours[labels]
    assert tally([(labels, picture)], colours).regions == 3
    assert tally([(labels, picture)], colours).share == 1
    picture[12:18, 12:18] = (0, 200, 0)
    assert tally([(labels, picture)], colours).right == 2


def test_a_class_that_does_not_occur_has_no_colour_and_no_roughness() -> None:
    """It is not a number, and nothing is warned of."""
    labels = np.ones((4, 4), np.uint8)
    picture = np.full((4, 4, 3), 7, np.uint8)
    assert np.isnan(mean_colours([(labels, picture)], 2)).tolist() == [[True] * 3, [False] * 3]
    assert roughness([(labels, picture)], 2).tolist() == pytest.approx([np.nan, 0], nan_ok=True)


def test_roughness_counts_neighbours_of_one_class() -> None:
    """Stripes that are 10 apart differ by 10 across and not at all along; the border between classes does not count."""
    labels = np.repeat(np.array([[0], [1]], np.uint8), 3, axis=0).repeat(6, axis=1)
    picture = np.zeros((6, 6, 3))
    picture[:3, ::2] = 10
    picture[3:] = 100
    # Of class 0: 15 pairs along the rows that differ by 10, and 12 along the columns that are equal.
    assert roughness([(labels, picture)], 2).tolist() == pytest.approx([10 * 15 / 27, 0])
