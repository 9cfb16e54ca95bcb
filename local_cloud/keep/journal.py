"""Which changes were begun and have no answer: what a cloud that was killed may have done, or not.

A line when a change begins, another when its answer goes out. Lines are written before what they tell of goes on, and
reach the kernel at once, so they are there after `kill -9`.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from tidegate.local_cloud.keep.errors import KeepError, reason

_LONGEST_BYTES = 256 * 1024  # then it is emptied, as soon as nothing is under way


class Journal:
    """Open from its making to :meth:`close`. Raises :class:`KeepError` where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._last = 0
        self._size_bytes = 0
        try:
            self._file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_WRONLY, 0o600)
        except OSError as error:
            raise KeepError(f"what is to be kept cannot be written: {reason(error)}") from error

    def begin(self, operation: str, resource: str) -> int:
        """Notes a change that is about to be made. Raises :class:`KeepError`: then it must not be made."""
        with self._lock:
            self._last += 1
            try:
                self._write({"begun": self._last, "operation": operation, "resource": resource})
            except OSError as error:
                raise KeepError(f"nothing new can be kept: {reason(error)}") from error
            self._open.add(self._last)
            return self._last

    def end(self, number: int) -> None:
        """Notes that the answer to a change goes out."""
        with self._lock:
            self._open.discard(number)
            try:
                self._write({"ended": number})
                if not self._open and self._size_bytes > _LONGEST_BYTES:
                    os.ftruncate(self._file, 0)
                    self._size_bytes = 0
            except OSError:  # then it is named as unanswered after a kill, which is the safe side
                return

    def close(self) -> None:
        with self._lock:
            os.close(self._file)

    def _write(self, entry: dict[str, int | str]) -> None:
        line = json.dumps(entry).encode() + b"\n"
        written = os.write(self._file, line)
        self._size_bytes += written
        if written < len(line):  # a full disk takes the half of it
            os.ftruncate(self._file, self._size_bytes - written)
            self._size_bytes -= written
            os.write(self._file, line)  # which says why


def unanswered(path: Path) -> list[str]:
    """The changes that were begun and not answered, as `OPERATION RESOURCE`, in their order."""
    begun: dict[int, str] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeepError(f"the kept state cannot be read: {reason(error)}") from error
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the last one, cut off
            continue
        if "ended" in entry:
            begun.pop(entry["ended"], None)
        else:
            begun[entry["begun"]] = f"{entry['operation']} {entry['resource']}".strip()
    return list(begun.values())
