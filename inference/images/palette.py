"""From the colours of a drawn map to the numbers of its classes, and back.

    pixels (height, width, 3) ▶ one number for each colour ▶ table ▶ labels (height, width)

The table has a place for each of the 16,777,216 colours, of which only the pages that are looked at take memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from tidegate.inference.errors import BadRequest, HandlerFailed
from tidegate.inference.images.colours import Colour, read_colour, written

Unknown = Literal["error", "nearest"]

MAX_CLASSES = 65_536
_COLOURS: Final = 1 << 24
_BLOCK_PIXELS: Final = 1 << 16
"""So many indices at a time stay in the processor's cache between being made and being used."""
_MANY_DISTANCES: Final = 1 << 33
"""So many, three to six seconds of them, are computed for single colours before the whole table is filled."""
_DISTANCES_AT_A_TIME: Final = 1 << 16
"""So many stay in the processor's cache between being made and being compared."""


class Palette:
    """The colours of the classes 0, 1, 2 and so on.

        palette = Palette({"sky": "#87ceeb", "sea": (0, 105, 148)}, unknown="nearest")
        labels = palette.labels(pixels)

    Args:
        colours: by the names of the classes, or without names; "#rrggbb" or three whole numbers from 0 to 255.
        unknown: what a pixel of another colour is: an "error" of the client, or of the class with the "nearest" colour
            (by the Euclidean distance of red, green and blue; of two as near the first).

    Raises `ValueError`, in one sentence, for no colours, too many, one that is none, and two classes of one colour.
    """

    def __init__(self, colours: Mapping[str, Any] | Sequence[Any], unknown: Unknown = "error") -> None:
        if unknown not in get_args(Unknown):
            raise ValueError(f"unknown is {unknown!r}; it must be 'error' or 'nearest'")
        if not isinstance(colours, Mapping | Sequence) or isinstance(colours, str | bytes | bytearray):
            raise ValueError(f"the colours are of the type {type(colours).__name__}; give a list or a mapping by names")
        if not 0 < len(colours) <= MAX_CLASSES:
            raise ValueError(f"a palette has 1 to {MAX_CLASSES} colours, this one has {len(colours)}")
        self.names: tuple[str, ...] = tuple(map(str, colours)) if isinstance(colours, Mapping) else ()
        self.unknown = unknown
        self.colours = _distinct(colours.values() if isinstance(colours, Mapping) else colours, self.names)
        """uint8 (classes, 3)."""
        # Zero is "not known yet", so that a page nobody looks at stays unwritten: the table holds labels plus one.
        self._table = np.zeros(_COLOURS, np.min_scalar_type(len(self.colours)))
        self._label_type = np.min_scalar_type(len(self.colours) - 1)
        self._table[_packed(self.colours)] = np.arange(1, len(self.colours) + 1)
        self._distances = 0

    def __len__(self) -> int:
        """The number of classes."""
        return len(self.colours)

    def labels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The classes of `pixels`, uint8 (height, width, 3), as uint8 (height, width); uint16 beyond 256 classes.

        Raises `BadRequest` for a colour that is no class's, where the policy is "error".
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"pixels are uint8 (height, width, 3), not {pixels.dtype} {pixels.shape}")
        flat = np.ascontiguousarray(pixels).reshape(-1, 3)
        found = self._look_up(flat)
        if found.size and not found.min():
            if self.unknown == "error":
                raise self._unknown_colour(found.reshape(pixels.shape[:2]), pixels)
            self._fill(flat[found == 0])
            found = self._look_up(flat)
        found -= 1
        return found.reshape(pixels.shape[:2]).astype(self._label_type, copy=False)

    def paint(self, labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The colours of `labels`, whole numbers (height, width), as uint8 (height, width, 3).

        Raises `HandlerFailed` for a label that is no class's: the model made it.
        """
        if labels.dtype.kind not in "iu":
            raise HandlerFailed(f"Labels are whole numbers; the model made {labels.dtype}.")
        if labels.size and not 0 <= (odd := int(labels.min())) <= (largest := int(labels.max())) < len(self):
            odd = largest if odd >= 0 else odd
            raise HandlerFailed(f"The model made the label {odd}; the palette has the classes 0 to {len(self) - 1}.")
        painted: npt.NDArray[np.uint8] = self.colours.take(labels, axis=0)
        return painted

    def name_of(self, label: int) -> str:
        """The class's name, or its number where the palette has no names."""
        return self.names[label] if self.names else str(label)

    def _look_up(self, flat: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The table's numbers for (pixels, 3), which lie one behind the other."""
        count = len(flat)
        found = np.empty(count, self._table.dtype)
        if not count:
            return found
        # Each pixel is read as four bytes, of which the last belongs to the next: no copy is made to pack three. The
        # last pixel of all has none behind it.
        fours: npt.NDArray[np.uint32] = np.ndarray((count - 1,), "<u4", flat, strides=(3,))
        indices = np.empty(min(count, _BLOCK_PIXELS), np.intp)
        for start in range(0, count - 1, _BLOCK_PIXELS):
            block = fours[start : start + _BLOCK_PIXELS]
            part = indices[: len(block)]
            np.bitwise_and(block, 0xFFFFFF, out=part, casting="unsafe")
            # "wrap" only because it needs no second buffer, as "raise" does: no index is outside.
            self._table.take(part, out=found[start : start + len(block)], mode="wrap")
        found[-1] = self._table[_packed(flat[-1:])[0]]
        return found

    def _fill(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Find the nearest classes of `pixels`, (pixels, 3), once for the life of the palette.

        Once that has taken long enough, those of all the colours that there are: then no picture has unknown ones, and
        all of it together took a quarter of a minute at most. The same numbers are written by whichever thread comes
        first.
        """
        unknown = _once(_packed(pixels))
        self._distances += len(unknown) * len(self)
        if self._distances <= _MANY_DISTANCES:
            self._table[unknown] = _nearest(_unpacked(unknown), self.colours) + 1
        else:
            classes = _nearest_of_all(self.colours)
            np.add(classes, 1, out=self._table, casting="unsafe")

    def _unknown_colour(self, found: npt.NDArray[Any], pixels: npt.NDArray[np.uint8]) -> BadRequest:
        count = int(np.count_nonzero(found == 0))
        y, x = divmod(int(np.argmin(found)), found.shape[1])
        colour = pixels[y, x]
        label = int(_nearest(colour[np.newaxis], self.colours)[0])
        others = "" if count == 1 else f", nor are those of {count - 1} more pixels"
        return BadRequest(
            f"The colour {written(colour)} at x={x}, y={y} is not in the palette{others}; the nearest class is "
            f"{self.name_of(label)!r} ({written(self.colours[label])})."
        )


def _distinct(values: Iterable[Any], names: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    first: dict[Colour, int] = {}
    for label, value in enumerate(values):
        called = f"the class {names[label][:40]!r}" if names else f"the class {label}"
        try:
            colour = read_colour(value)
        except ValueError as error:
            raise ValueError(f"the colour of {called}: {error}") from None
        if colour in first:
            other = repr(names[first[colour]][:40]) if names else first[colour]
            raise ValueError(
                f"{called} has the colour {written(colour)} of the class {other}; each needs one of its own"
            )
        first[colour] = label
    return np.array(list(first), np.uint8)


def _packed(colours: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """(colours, 3) as one number each, red in the lowest byte, as four bytes in memory are read."""
    wide = colours.astype(np.intp)
    packed: npt.NDArray[np.intp] = wide[:, 0] | wide[:, 1] << 8 | wide[:, 2] << 16
    return packed


def _once(packed: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Each number once, and at least one there is: `np.unique` takes ten times as long for a million."""
    ordered = np.sort(packed)
    once: npt.NDArray[np.intp] = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    return once


def _unpacked(packed: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The reverse: (colours, 3)."""
    colours: npt.NDArray[np.intp] = np.stack([packed & 0xFF, packed >> 8 & 0xFF, packed >> 16], axis=1)
    return colours


def _nearest(points: npt.NDArray[Any], colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """The index of the colour that is nearest to each of `points`, (points, 3); of two as near the first."""
    # |p - c|² without |p|², which is the same for all, as one product of matrices: (p, 1) and (-2c, |c|²). Whole
    # numbers below 2²⁴ are exact in float32.
    extended = np.ones((len(points), 4), np.float32)
    extended[:, :3] = points
    factors = np.empty((4, len(colours)), np.float32)
    factors[:3] = colours.T
    factors[3] = (factors[:3] ** 2).sum(0)
    factors[:3] *= -2
    nearest = np.empty(len(points), np.intp)
    rows = max(1, _DISTANCES_AT_A_TIME // len(colours))
    distances = np.empty((min(rows, len(points)), len(colours)), np.float32)
    for start in range(0, len(points), rows):
        part = extended[start : start + rows]
        np.matmul(part, factors, out=distances[: len(part)])
        distances[: len(part)].argmin(1, out=nearest[start : start + rows])
    return nearest


def _nearest_of_all(colours: npt.NDArray[np.uint8], side: int = 256) -> npt.NDArray[np.int64]:
    """The same for each of the side³ colours, in the order of their packed numbers: along one axis after the other."""
    # Distance and class are one number, so that the lesser of two is the nearer, and of two as near the first class.
    cube = np.full((side, side, side), _FAR << _CLASS_BITS, np.int64)
    red, green, blue = colours.T
    cube[blue, green, red] = np.arange(len(colours))
    for level in np.unique(blue):
        plane = np.ascontiguousarray(cube[level].T)
        cube[level] = _spread(np.ascontiguousarray(_spread(plane).T))
    for row in range(side):
        cube[:, row] = _spread(np.ascontiguousarray(cube[:, row]))
    cube &= (1 << _CLASS_BITS) - 1
    return cube.reshape(-1)


_CLASS_BITS: Final = 16
_FAR: Final = 1 << 20
"""More than any squared distance."""


def _spread(lines: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The least of what is on each line, (side, lines), with the squared way along it added."""
    best, least = lines.copy(), lines.min(0)
    for way in range(1, len(lines)):
        added = way**2 << _CLASS_BITS
        if (best - least).max() < added:
            break  # nothing so far away can be as near
        np.minimum(best[way:], lines[:-way] + added, out=best[way:])
        np.minimum(best[:-way], lines[way:] + added, out=best[:-way])
    return best
