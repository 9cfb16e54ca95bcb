"""What a demonstration prints: numbered steps, remarks, a table. Plain text, with or without a terminal."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


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
        """Print a remark of the current step, which may have several lines."""
        print("\n".join(f"     {line}".rstrip() for line in text.split("\n")), flush=True)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return aligned columns between rules."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([rule, *lines, rule])
