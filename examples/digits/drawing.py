"""Digits as block characters, for terminals."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BLOCKS = " ░▒▓█"
_ASCII_BLOCKS = " .:*#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """A digit of shape (8, 8) with values 0 to 16, and the lines to print below it."""

    image: np.ndarray
    caption: tuple[str, ...]


def drawn(digits: Sequence[Captioned]) -> str:
    """Return the digits side by side, two characters a pixel, with their captions below."""
    blocks = _blocks()
    width = 8 * 2
    rows = [
        "   ".join("".join(blocks[_shade(value)] * 2 for value in digit.image[row]) for digit in digits)
        for row in range(8)
    ]
    captions = [
        "   ".join(digit.caption[line][:width].ljust(width) for digit in digits)
        for line in range(min(len(digit.caption) for digit in digits))
    ]
    return "\n".join(f"     {line.rstrip()}" for line in [*rows, *captions])


def _shade(value: float) -> int:
    return min(int(value / 16 * len(_BLOCKS)), len(_BLOCKS) - 1)


def _blocks() -> str:
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _ASCII_BLOCKS
    return _BLOCKS
