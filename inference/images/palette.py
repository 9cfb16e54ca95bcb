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
_CELL: Final = 16
_REGION: Final = 64
"""The edges of the cubes in which the nearest classes of unknown colours are found: cells lie in regions."""
_FEW_DISTANCES: Final = 1 << 26
"""So many are computed for the colours of one picture alone, in a fifth of a second."""
_DISTANCES_AT_A_TIME: Final = 1 << 18


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

        Of many colours beside many classes, those around them are found too: all that there are take a few seconds
        once, however many pictures of noise come. The same numbers are written by whichever thread comes first.
        """
        unknown = np.unique(_packed(pixels))
        if len(unknown) * len(self) <= _FEW_DISTANCES:
            self._table[unknown] = _nearest(_unpacked(unknown), self.colours) + 1
            return
        cells = np.unique(_unpacked(unknown) // _CELL, axis=0) * _CELL
        for region in np.unique(cells // _REGION, axis=0) * _REGION:
            near = _candidates(region, _REGION, self.colours)
            for cell in cells[(cells // _REGION * _REGION == region).all(1)]:
                nearer = near[_candidates(cell, _CELL, self.colours[near])]
                inside = _INSIDE + cell
                self._table[_packed(inside)] = nearer[_nearest(inside, self.colours[nearer])] + 1

    def _unknown_colour(self, found: npt.NDArray[Any], pixels: npt.NDArray[np.uint8]) -> BadRequest:
        count = int(np.count_nonzero(found == 0))
        y, x = divmod(int(np.argmin(found)), found.shape[1])
        colour = pixels[y, x]
        label = int(_nearest(colour[np.newaxis], self.colours)[0])
        others = "" if count == 1 else f", the first of {count} pixels whose colour is not in the palette"
        return BadRequest(
            f"The colour {written(colour)} at x={x}, y={y}{others or ' is not in the palette'}; the nearest class is "
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


def _unpacked(packed: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The reverse: (colours, 3)."""
    colours: npt.NDArray[np.intp] = np.stack([packed & 0xFF, packed >> 8 & 0xFF, packed >> 16], axis=1)
    return colours


_INSIDE = np.stack(np.meshgrid(*(3 * [np.arange(_CELL)]), indexing="ij"), axis=-1).reshape(-1, 3)
"""The colours of one cell, from its corner."""


def _candidates(corner: npt.NDArray[np.intp], edge: int, colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Which of `colours` may be nearest to something in the cube that begins at `corner`, in their order."""
    wide = colours.astype(np.int32)
    first, last = corner.astype(np.int32), corner.astype(np.int32) + edge - 1
    least = np.maximum(np.maximum(first - wide, wide - last), 0)
    greatest = np.maximum(np.abs(wide - first), np.abs(wide - last))
    # A colour whose least distance is beyond another's greatest is nearest to nothing there.
    return np.flatnonzero((least**2).sum(1) <= (greatest**2).sum(1).min())


def _nearest(points: npt.NDArray[Any], colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """The index of the colour that is nearest to each of `points`, (points, 3); of two as near the first."""
    # |p - c|² without |p|², which is the same for all; whole numbers below 2²⁴ are exact in float32.
    twice = 2 * colours.astype(np.float32).T
    squares = (colours.astype(np.float32) ** 2).sum(1)
    nearest = np.empty(len(points), np.intp)
    rows = max(1, _DISTANCES_AT_A_TIME // len(colours))
    for start in range(0, len(points), rows):
        part = points[start : start + rows].astype(np.float32)
        nearest[start : start + rows] = (squares - part @ twice).argmin(1)
    return nearest
