"""The real process over its pipes, as the server drives it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tidegate.inference.repository.catalogue import Model, Revision, Version
from tidegate.inference.repository.messages import (
    CancelFetch,
    Changed,
    Event,
    Fetch,
    Fetched,
    FetchFailed,
    Listed,
    ListingFailed,
    Look,
    Open,
    Remove,
    Removed,
    Request,
    line_of,
    message_of,
)

Said = TypeVar("Said", bound=Event)
PATIENCE_S = 60


class Driven:
    """A repository process that was opened; everything that it says is kept, and put together to a catalogue."""

    def __init__(
        self,
        repository: str,
        cache_dir: Path,
        *,
        interval_s: float = 0.2,
        max_downloads: int = 4,
        known: tuple[Model, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.said: list[Event] = []
        self.models: dict[str, Model] = {model.name: model for model in known}
        self._changed = threading.Condition()
        self._ids = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidegate.inference.repository"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(
            Open(
                repository=repository,
                interval_s=interval_s,
                cache_dir=str(cache_dir),
                max_downloads=max_downloads,
                known=known,
            )
        )

    def __enter__(self) -> Driven:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> int:
        """End it as the server does; returns its exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        self.process.stdout.close()
        return status

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer does."""
        self.process.kill()
        self.close()

    def send(self, *requests: Request) -> None:
        """Send messages."""
        assert self.process.stdin is not None
        for request in requests:
            self.process.stdin.write(line_of(request))
        self.process.stdin.flush()

    def await_true(self, question: Callable[[], bool], what: str) -> None:
        """Wait until something that was said makes it true."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while not question():
                assert time.monotonic() < deadline, f"in vain: {what}; it said {self.said[-5:]}"
                self._changed.wait(0.1)

    def all(self, kind: type[Said]) -> list[Said]:
        """All messages of a kind, until now."""
        return [message for message in self.said if isinstance(message, kind)]

    def listings(self) -> int:
        """How many listings ended, well or not."""
        return len(self.all(Listed)) + len(self.all(ListingFailed))

    def await_listings(self, more: int = 1) -> None:
        """Wait for so many more listings, each asked for as soon as the one before has ended."""
        for _ in range(more):
            before = self.listings()
            self.send(Look())
            self.await_true(lambda before=before: self.listings() > before, "a listing")  # type: ignore[misc]

    def version(self, name: str, number: int) -> Version | None:
        """What was said last of a version."""
        model = self.models.get(name)
        return next((version for version in model.versions if version.number == number), None) if model else None

    def await_version(self, name: str, number: int, state: str = "available", *, other_than: str = "") -> Revision:
        """Wait until a version is in a state, with another digest than that given; returns its revision."""

        def there() -> bool:
            version = self.version(name, number)
            return version is not None and version.state == state and version.digest != other_than

        self.await_true(there, f"{name} {number} {state}")
        version = self.version(name, number)
        assert version is not None
        return Revision(name=name, version=number, digest=version.digest)

    def begin_fetch(self, revision: Revision, *, max_bytes: int | None = None) -> int:
        """Ask for a revision; returns the number of the request."""
        self._ids += 1
        self.send(Fetch(id=self._ids, revision=revision, max_bytes=max_bytes))
        return self._ids

    def end_fetch(self, number: int) -> Fetched | FetchFailed:
        """Wait for the end of a request."""
        answers = [*self.all(Fetched), *self.all(FetchFailed)]

        def done() -> bool:
            answers[:] = [each for each in [*self.all(Fetched), *self.all(FetchFailed)] if each.id == number]
            return bool(answers)

        self.await_true(done, f"the end of fetch {number}")
        assert len(answers) == 1
        return answers[0]

    def fetch(self, revision: Revision, *, max_bytes: int | None = None) -> Fetched | FetchFailed:
        """Ask for a revision, and wait."""
        return self.end_fetch(self.begin_fetch(revision, max_bytes=max_bytes))

    def cancel(self, number: int) -> None:
        """Say that a request is not wanted any more."""
        self.send(CancelFetch(id=number))

    def remove(self, directory: str) -> None:
        """Remove a fetched directory, and wait."""
        before = len(self.all(Removed))
        self.send(Remove(directory=directory))
        self.await_true(lambda: len(self.all(Removed)) > before, f"{directory} removed")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = message_of(line)
            assert not isinstance(message, Request)
            with self._changed:
                self.said.append(message)
                if isinstance(message, Changed):
                    self.models |= {model.name: model for model in message.models}
                    for name in message.removed:
                        del self.models[name]
                self._changed.notify_all()
