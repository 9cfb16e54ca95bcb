"""What SIGTERM and Ctrl-C do before a server has its loop: they raise, so that what was begun is put away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """A signal asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_held: list[int] = []
"""What has come since `hold`."""


def ignore() -> None:
    """Let neither cut short what is put away now."""
    for each in _NUMBERS:
        signal.signal(each, signal.SIG_IGN)


def hold() -> None:
    """Let both wait: a loop is made, which has no handlers yet, and swallows what a handler raises in it.

    Masking them would not do: a thread that a download has left behind takes them, and the handler runs here all the
    same.
    """
    _held.clear()
    for each in _NUMBERS:
        signal.signal(each, lambda number, _frame: _held.append(number))


def release() -> None:
    """Let come what was held, now that the loop has its handlers."""
    while _held:
        signal.raise_signal(_held.pop())


@contextmanager
def raised() -> Iterator[None]:
    """Let the first SIGTERM or SIGINT raise `Stopped` in the main thread; a loop may take them over meanwhile."""

    def stop(number: int, _: FrameType | None) -> None:
        ignore()
        raise Stopped(number)

    before = {each: signal.signal(each, stop) for each in _NUMBERS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
