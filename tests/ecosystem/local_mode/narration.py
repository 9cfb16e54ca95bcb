"""What a run says and what it found, in a form that a page can hold and a test can read. Standard library only."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outgoing_calls import calls


class Run:
    """The steps of one run; `finish` writes what was found, for whoever started it."""

    def __init__(self, title: str) -> None:
        self.found: dict[str, Any] = {}
        self.lines: list[str] = []
        self.say(title)

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step: its name, what is said in it, and how long it took."""
        started = time.monotonic()
        at = len(self.lines)
        yield
        self.lines.insert(at, f"{name}  ({time.monotonic() - started:.1f} s)")

    def finish(self, path: Path) -> None:
        self.say(f"calls that would have left the machine: {len(calls)}")
        self.found |= {"calls": calls, "transcript": self.lines}
        path.write_text(json.dumps(self.found))


def members(archive: Path) -> list[str]:
    """The files of an archive, in alphabetical order."""
    with tarfile.open(archive) as tar:
        return sorted(member.name.removeprefix("./") for member in tar if member.isfile())


def member(archive: Path, name: str) -> bytes:
    """One of them."""
    with tarfile.open(archive) as tar:
        found = next(tar.extractfile(each) for each in tar if each.name.removeprefix("./") == name)
        assert found is not None
        return found.read()
