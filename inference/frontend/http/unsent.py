"""What a socket has not taken of what was written to it: held of the byte budget, and how fast it is read."""

from __future__ import annotations

import asyncio

from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.pace import Pace
from tidegate.inference.frontend.queue.budget import ByteBudget


class Unsent:
    """The unsent bytes of one connection."""

    __slots__ = ("_budget", "_held_bytes", "_limits", "_pace", "_transport", "_unread_bytes")

    def __init__(self, transport: asyncio.Transport, budget: ByteBudget, limits: Limits) -> None:
        self._transport = transport
        self._budget = budget
        self._limits = limits
        self._held_bytes = 0
        self._pace: Pace | None = None
        self._unread_bytes = 0

    def count(self) -> None:
        """Hold of the budget what the socket has not taken, and no more."""
        unsent_bytes = self._transport.get_write_buffer_size()
        self._budget.hold(unsent_bytes - self._held_bytes)
        self._held_bytes = unsent_bytes

    def release(self) -> None:
        """Hold nothing any more: the socket is gone."""
        self._budget.release(self._held_bytes)
        self._held_bytes = 0

    def begin_anew(self) -> None:
        """More was written: the client's rate is measured from the next look on."""
        self._unread_bytes = 0

    def too_slow(self, now_s: float) -> bool:
        """Whether the client reads at less than the least rate. Asked twice a second."""
        left = self._transport.get_write_buffer_size()
        if self._held_bytes:
            self.count()
        if not left:
            self._unread_bytes = 0
        elif not self._unread_bytes or self._pace is None:
            self._unread_bytes, self._pace = left, self._limits.pace(now_s)
        else:
            return self._pace.too_slow(now_s, self._unread_bytes - left)
        return False
