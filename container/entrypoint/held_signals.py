"""The signals that end a job wait while a process is started.

Their handlers may raise, and one that raises within `Popen` leaves a process behind of which nobody knows: it runs
already, and its starter has not been told yet.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def held() -> Iterator[None]:
    """Let what comes in the block come at its end, from within this call. Main thread only.

    They are not blocked: a process that is started would inherit that.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)
