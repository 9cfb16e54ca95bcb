"""How well a picture keeps to its map: the mean colour of each region, and the roughness of each class."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMALLEST_PIXELS = 24  # a region that is smaller is an edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many regions there are, and how many have a mean colour that is nearest to that of their own class."""

    regions: int
    right: int

    @property
    def share(self) -> float:
        """Of the right ones; 0 where there are none."""
        return self.right / max(1, self.regions)


def mean_colours(scenes: Iterable[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    """The mean colour of each class over all scenes.

    Args:
        scenes: labels, whole numbers of shape (height, width), with a picture, (height, width, 3).
        classes: how many there are.

    Returns float64 of shape (classes, 3); NaN for a class that does not occur.
    """
    sums, pixels = np.zeros((classes, 3)), np.zeros(classes)
    for labels, picture in scenes:
        flat = labels.ravel()
        pixels += np.bincount(flat, minlength=classes)
        for channel in range(3):
            sums[:, channel] += np.bincount(flat, weights=picture[..., channel].ravel(), minlength=classes)
    with np.errstate(invalid="ignore"):
        return sums / pixels[:, None]


def tally(scenes: Iterable[tuple[np.ndarray, np.ndarray]], colours: np.ndarray) -> Tally:
    """Count the regions, which are the connected areas of one class, and those that are right.

    Args:
        scenes: maps, each with the picture that was painted of it; as for `mean_colours`.
        colours: the mean colour of each class in true pictures, of shape (classes, 3).
    """
    regions = right = 0
    for labels, picture in scenes:
        for number in np.unique(labels):
            areas, _ = ndimage.label(labels == number)
            sizes = np.bincount(areas.ravel())
            for area in np.flatnonzero(sizes >= SMALLEST_PIXELS):
                if area == 0:  # what is of another class
                    continue
                mean = picture[areas == area].mean(axis=0)
                regions += 1
                right += int(np.square(colours - mean).sum(axis=1).argmin() == number)
    return Tally(regions=regions, right=right)


def roughness(scenes: Iterable[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    """How much neighbouring pixels of one class differ, on average: what a flat colour has none of.

    Args:
        scenes: as for `mean_colours`.
        classes: how many there are.

    Returns float64 of shape (classes,), in levels of 255; NaN for a class that does not occur.
    """
    sums, pairs = np.zeros(classes), np.zeros(classes)
    for labels, picture in scenes:
        for axis in (0, 1):
            step = np.abs(np.diff(picture.astype(float), axis=axis)).mean(axis=-1)
            before = np.delete(labels, -1, axis=axis)
            inside = np.diff(labels.astype(int), axis=axis) == 0
            sums += np.bincount(before[inside], weights=step[inside], minlength=classes)
            pairs += np.bincount(before[inside], minlength=classes)
    with np.errstate(invalid="ignore"):
        return sums / pairs
