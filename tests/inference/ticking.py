"""A clock for short time limits: it stands still while this process does.

A test of a time limit has calls that take too long beside others that do not, and must not wait for seconds to tell the
one from the other. On a busy machine a process gets no turn for longer than such a limit, and then every call has taken
too long. This clock is advanced by a thread of the process, so what the machine withholds costs one step of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

STEP_S = 0.01


class TickingClock:
    """In place of `time.monotonic`."""

    def __init__(self) -> None:
        self._now_s = time.monotonic()
        self._over = threading.Event()

    def __call__(self) -> float:
        return self._now_s

    def tick(self) -> None:
        """Advance until `stop`."""
        while not self._over.wait(STEP_S):
            self._now_s += STEP_S

    def stop(self) -> None:
        self._over.set()


@contextmanager
def ticking(*modules: ModuleType) -> Iterator[TickingClock]:
    """Give these modules, which import `monotonic` by name, one such clock."""
    clock = TickingClock()
    thread = threading.Thread(target=clock.tick, name="ticking", daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "monotonic", clock)
        thread.start()
        try:
            yield clock
        finally:
            clock.stop()
            thread.join()
