"""The end of the interpreter waits a little for calls under way.

Python ends a thread that comes back to it from C++ after the end has begun, and a thread that is ended within torch
takes the whole process with it (SIGABRT). Threads that are not daemons would be waited for without end, those that
only sleep because somebody still holds unread results too.
"""

from __future__ import annotations

import atexit
from threading import Thread
from time import monotonic
from typing import Protocol
from weakref import WeakSet

LONGEST_WAIT_S = 5.0


class Stoppable(Protocol):
    """A run, as far as it is meant here."""

    def stop(self) -> None: ...


runs: WeakSet[Stoppable] = WeakSet()
"""To be stopped: what nobody has read to its end."""
threads: set[Thread] = set()
"""To be waited for, those of abandoned calls too."""


@atexit.register
def _end() -> None:
    for run in list(runs):
        run.stop()
    deadline_s = monotonic() + LONGEST_WAIT_S
    for thread in list(threads):
        if thread.is_alive():  # Ctrl-C may have come before it was started
            thread.join(max(0.0, deadline_s - monotonic()))
