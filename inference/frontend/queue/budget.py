"""The bytes that bodies and responses may hold in memory, all of them together."""

from __future__ import annotations

from tidegate.inference.errors import Overloaded


class ByteBudget:
    """Counts what is held. What a client announced is reserved before it is read, so that two cannot both be let in."""

    __slots__ = ("held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def reserve(self, size: int) -> None:
        """Hold `size` bytes more. Raises `Overloaded`, and holds nothing, where they do not fit."""
        if self.held_bytes + size > self.limit_bytes:
            raise Overloaded(
                "The server is overloaded: the requests at hand hold all the memory that they may "
                "(TIDEGATE_MAX_BYTES_IN_FLIGHT)."
            )
        self.held_bytes += size

    def hold(self, size: int) -> None:
        """Hold `size` bytes that are there already, whether they fit or not: a response that was computed."""
        self.held_bytes += size

    def release(self, size: int) -> None:
        """Let go of `size` bytes."""
        self.held_bytes -= size
