"""Where the events of one request go: an answer, a part of one, its end, or an error."""

from __future__ import annotations

from typing import Protocol


class Failure(Protocol):
    """An error as a client reads it: `RequestError` and the worker's `protocol.Error` are both one."""

    @property
    def status(self) -> int: ...
    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...


class Reply(Protocol):
    """The sink of one request: `start`, any number of `write`, and `end`; or `fail`, at any time before `end`.

    A request that is cancelled by its reply's owner gets no further call.
    """

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        """Begin the response. `headers` are whole lines; `length` is the body's bytes, None where nobody knows yet."""

    def write(self, data: bytes) -> None:
        """Send a part of the body, at once."""

    def end(self) -> None:
        """The body is complete."""

    def fail(self, error: Failure) -> None:
        """End with `error`: an ordinary response before `start`; after it, a body that is visibly broken off."""
