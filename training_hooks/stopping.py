"""Ending a training job in good order when SageMaker asks for it.

A stopped job, a time limit and a Spot interruption all send SIGTERM, and SIGKILL 120 s later; what is in the model
and checkpoint directories by then is kept. Python's own reaction to SIGTERM is to die at once.
"""

import contextlib
import signal
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


@contextlib.contextmanager
def stopping_gracefully() -> Iterator[StopRequest]:
    """Turn SIGTERM into a flag inside the block; the earlier reaction is restored at its end. Main thread only.

    with stopping_gracefully() as stop:
        for epoch in range(epochs):
            train_one_epoch()
            if stop.requested:
                break
        save_model(net)
    """
    request = StopRequest()
    previous = signal.signal(signal.SIGTERM, request._on_signal)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, previous)
