"""Waiting for something by asking again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(question: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """The first answer that is true. Fails when none comes in time."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := question()):
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.002)
    return answer
