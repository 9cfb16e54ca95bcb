"""One colour, as people write it."""

from __future__ import annotations

import re
from collections.abc import Sequence

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

_HEX = re.compile(r"#[0-9A-Fa-f]{6}")
_NAMED = {"white": (255, 255, 255), "black": (0, 0, 0)}


def read_colour(value: object) -> Colour:
    """`"#87ceeb"`, `[135, 206, 235]`, `"white"` or `"black"` as numbers. Raises `ValueError`, in one sentence."""
    if isinstance(value, str):
        if value in _NAMED:
            return _NAMED[value]
        if not _HEX.fullmatch(value):
            raise ValueError(f"{value[:40]!r} is not a colour; write '#rrggbb' or [red, green, blue]")
        red, green, blue = bytes.fromhex(value[1:])
        return red, green, blue
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray) or len(value) != 3:
        raise ValueError(f"{str(value)[:40]} is not a colour; write '#rrggbb' or [red, green, blue]")
    for part in value:
        if isinstance(part, bool) or not isinstance(part, int) or not 0 <= part <= 255:
            raise ValueError(f"{str(list(value))[:60]} is not a colour: each part is a whole number from 0 to 255")
    red, green, blue = value
    return red, green, blue


def written(colour: Sequence[int]) -> str:
    """`(135, 206, 235)` → `"#87ceeb"`."""
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"
