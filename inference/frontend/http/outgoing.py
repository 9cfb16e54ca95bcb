"""What goes to a client: written at once, and held of the byte budget while the socket does not take it."""

from __future__ import annotations

import asyncio

from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.pace import Pace
from tidegate.inference.frontend.queue.budget import ByteBudget

_COPIED_BYTES = 64 * 1024
"""The largest body that is joined with its head: beyond it, a second buffer costs less than the copy."""


class Outgoing:
    """The writing half of one connection."""

    __slots__ = (
        "_budget",
        "_joined",
        "_limits",
        "_loop",
        "_pace",
        "_transport",
        "_unread_bytes",
        "_unsent_bytes",
        "full",
    )

    def __init__(self, transport: asyncio.Transport, budget: ByteBudget, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._budget = budget
        self._limits = limits
        # At a mark of 0, a write that the socket does not take whole pauses at once: while none is paused, nothing is
        # unsent and there is nothing to count.
        transport.set_write_buffer_limits(high=0)
        self.full = False
        """Whether the socket has not taken all that was written."""
        self._joined: list[bytes] | None = None
        """Parts of a stream that came in the same round of the loop as one that was written."""
        self._unsent_bytes = 0
        """What the socket has not taken, as far as it is held of the budget."""
        self._pace: Pace | None = None
        self._unread_bytes = 0

    def send(self, head: bytes, body: bytes) -> None:
        """Write to the client, unless it is gone."""
        transport = self._transport
        if transport.is_closing():
            return
        if self._joined:
            head = b"".join((*self._joined, head))
            self._joined.clear()
        self._unread_bytes = 0
        if len(body) > _COPIED_BYTES:
            transport.writelines((head, body))
        else:
            transport.write(head + body)
        if self.full:
            self.count_unsent()

    def send_part(self, data: bytes) -> None:
        """Write a part of a stream: at once, or with the others that come in the same round of the loop, at its end."""
        if self._joined is None:
            self._joined = []
            self._loop.call_soon(self._round_over)
            self.send(data, b"")
        else:
            self._joined.append(data)

    def send_joined(self) -> None:
        """Write the parts that wait for the end of the round."""
        if self._joined:
            self.send(b"", b"")

    def _round_over(self) -> None:
        self.send_joined()
        self._joined = None

    def count_unsent(self) -> None:
        """Hold of the budget what the socket has not taken, and no more."""
        unsent_bytes = self._transport.get_write_buffer_size()
        self._budget.hold(unsent_bytes - self._unsent_bytes)
        self._unsent_bytes = unsent_bytes

    def release(self) -> None:
        """Hold nothing any more: the socket is gone."""
        self._budget.release(self._unsent_bytes)
        self._unsent_bytes = 0

    def too_slow(self, now_s: float) -> bool:
        """Whether the client reads at less than the least rate. Asked twice a second."""
        left = self._transport.get_write_buffer_size()
        if self._unsent_bytes:
            self.count_unsent()
        if not left:
            self._unread_bytes = 0
        elif not self._unread_bytes or self._pace is None:
            self._unread_bytes, self._pace = left, self._limits.pace(now_s)
        else:
            return self._pace.too_slow(now_s, self._unread_bytes - left)
        return False
