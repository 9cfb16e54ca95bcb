"""How far a download is, said often enough for whoever waits for it."""

from __future__ import annotations

import logging
import sys
import time

log = logging.getLogger("tidegate.model_loader")

_EVERY_S = 5.0
_ON_A_TERMINAL_S = 0.2
_MIB = 1 << 20


class Progress:
    """Of one file: a line of its own on a terminal, and records of the log anywhere else."""

    def __init__(self, name: str, size_bytes: int) -> None:
        self._name, self._size_bytes = name, size_bytes
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._due_s = time.monotonic() + (0 if self._on_terminal else _EVERY_S)

    def at(self, have_bytes: int) -> None:
        """So many bytes are here."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + (_ON_A_TERMINAL_S if self._on_terminal else _EVERY_S)
        if self._on_terminal:
            print(f"\r{self._text(have_bytes)}\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201 - a terminal
        else:
            log.info("%s", self._text(have_bytes))

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._on_terminal:
            print(file=sys.stderr, flush=True)  # noqa: T201 - a terminal

    def _text(self, have_bytes: int) -> str:
        share = 100 * have_bytes // self._size_bytes if self._size_bytes else 100
        return f"{self._name}: {have_bytes / _MIB:.1f} of {self._size_bytes / _MIB:.1f} MiB ({share} %)"
