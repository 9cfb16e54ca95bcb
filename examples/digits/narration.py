"""What the demo prints: numbered steps, digits as block characters, a table. Plain text, with or without a terminal."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

_BLOCKS = " ░▒▓█"
_ASCII_BLOCKS = " .:*#"


class Narrator:
    """Numbers the steps and tells how long each took and when it ended."""

    def __init__(self, steps: int) -> None:
        self._started = time.monotonic()
        self._steps = steps
        self._number = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, and say at its end how long it took."""
        self._number += 1
        print(f"\n[{self._number}/{self._steps}] {title}", flush=True)
        began = time.monotonic()
        yield
        print(f"     done in {time.monotonic() - began:.1f} s, {self.elapsed_s:.0f} s since the start", flush=True)

    def say(self, text: str) -> None:
        """Print a remark of the current step."""
        print(f"     {text}", flush=True)


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


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Return two aligned columns between rules."""
    left = max(len(name) for name, _ in rows)
    right = max(len(value) for _, value in rows)
    rule = "-" * (left + right + 2)
    return "\n".join([rule, *(f"{name.ljust(left)}  {value}" for name, value in rows), rule])


def _shade(value: float) -> int:
    return min(int(value / 16 * len(_BLOCKS)), len(_BLOCKS) - 1)


def _blocks() -> str:
    try:
        _BLOCKS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _ASCII_BLOCKS
    return _BLOCKS
