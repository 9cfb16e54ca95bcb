"""Ending a training job in good order when SageMaker asks for it.

A stopped job, a time limit and a Spot interruption all send SIGTERM, and SIGKILL 120 s later; what is in the model
and checkpoint directories by then is kept. Python's own reaction to SIGTERM is to die at once.
"""

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Whether the platform has asked the job to stop; look at `requested` between batches or epochs."""

    def __init__(self) -> None:
        self._requested = False

    @property
    def requested(self) -> bool:
        """True from the first SIGTERM on."""
        return self._requested

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the form of signal handlers
        self._requested = True


class _Masks(threading.local):
    """The signal mask of this thread before each fork that it is at."""

    def __init__(self) -> None:
        self.before: list[set[int | signal.Signals]] = []


_masks = _Masks()


@functools.cache
def _spare_forks() -> None:
    """From here on SIGTERM ends what this process forks: a data loader's or a pool's process must not ignore it."""
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_become_ordinary)


def _hold_back() -> None:
    # A SIGTERM that reaches the child before it has its own reaction would be lost with the flag that it sets.
    _masks.before.append(signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]))


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before.pop())


def _become_ordinary() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    if isinstance(getattr(handler, "__self__", None), StopRequest):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_through()


@contextlib.contextmanager
def stopping_gracefully() -> Iterator[StopRequest]:
    """Turn SIGTERM into a flag inside the block; the earlier reaction is restored at its end. Main thread only.

    Processes that are forked inside the block end by SIGTERM, as any others do.

    with stopping_gracefully() as stop:
        for epoch in range(epochs):
            train_one_epoch()
            if stop.requested:
                break
        save_model(net)
    """
    _spare_forks()
    request = StopRequest()
    previous = signal.signal(signal.SIGTERM, request._on_signal)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, previous)
