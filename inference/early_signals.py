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


@contextmanager
def raised() -> Iterator[None]:
    """Let SIGTERM and SIGINT raise `Stopped` in the main thread, the first of them once; a loop may take them over."""

    def stop(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # what follows is short, and must not be cut short
        raise Stopped(number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {each: signal.signal(each, stop) for each in numbers}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
