"""Waiting for something by asking again: until it is so, and never once more after that.

found = until(lambda: server.versions("m").get(2), "version 2 is listed")

What another process writes is read when its writer has put it there whole: `AT_ONCE` is how a toy script does that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 120.0
"""Patience costs nothing where all is well, and a busy machine is no failure."""

AT_ONCE = """
def write_at_once(path, text):
    import os, tempfile
    folder, name = os.path.split(os.path.abspath(path))
    file, unfinished = tempfile.mkstemp(dir=folder, prefix=".unfinished-")
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(unfinished, os.path.join(folder, name))
"""
"""For a toy script: `write_at_once(path, text)`, a file that is whole as soon as it has its name."""


def until(
    question: Callable[[], T | None],
    what: str = "it did not happen",
    *,
    timeout_s: float = PATIENCE_S,
    log: Callable[[], str] = str,
    pause_s: float = 0.005,
) -> T:
    """The first answer that is true; `log` is shown where none comes in time."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := question()):
        if time.monotonic() > deadline_s:
            raise AssertionError(_in_vain(what, timeout_s, log))
        time.sleep(pause_s)
    return answer


async def until_in_loop(
    question: Callable[[], T | None],
    what: str = "it did not happen",
    *,
    timeout_s: float = PATIENCE_S,
    log: Callable[[], str] = str,
    pause_s: float = 0.002,
) -> T:
    """The same where a loop must go on meanwhile."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := question()):
        if time.monotonic() > deadline_s:
            raise AssertionError(_in_vain(what, timeout_s, log))
        await asyncio.sleep(pause_s)
    return answer


def _in_vain(what: str, timeout_s: float, log: Callable[[], str]) -> str:
    return f"gave up after {timeout_s:g} s: {what}\n{log()}"
