"""The signals of a worker: it outlives SIGINT and SIGTERM, and what its user code forks does not.

A fork inherits Python's handlers. With the worker's, `terminate()` of a `multiprocessing.Process` would change nothing
and its `join()` would wait for ever.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers

_DEFAULTS: dict[signal.Signals, _Handler] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""What the worker outlives, and what Python does about it in any other process."""


class _Masks(threading.local):
    """The signal mask of this thread before each fork that it is at."""

    def __init__(self) -> None:
        self.before: list[set[int | signal.Signals]] = []


_masks = _Masks()


def outlive() -> None:
    """Let this process be ended by its frontend alone; its forks from here on have Python's own handlers.

    SIG_IGN is not used because programs that user code starts would inherit it.
    """
    for number in _DEFAULTS:
        signal.signal(number, _outlived)
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_become_ordinary)


def _outlived(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


def _hold_back() -> None:
    # A signal that reaches the child before it has its own handlers would be lost with the worker's.
    _masks.before.append(signal.pthread_sigmask(signal.SIG_BLOCK, _DEFAULTS))


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before.pop())


def _become_ordinary() -> None:
    # A handler of the script's own is inherited, as anywhere.
    outlived = [number for number in _DEFAULTS if signal.getsignal(number) is _outlived]
    # What was held back ends the child: Python drops a KeyboardInterrupt that is raised in this hook.
    for number in outlived:
        signal.signal(number, signal.SIG_DFL)
    _let_through()
    for number in outlived:
        signal.signal(number, _DEFAULTS[number])
