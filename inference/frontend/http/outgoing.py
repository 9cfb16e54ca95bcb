"""What goes to a client: written at once, and held of the byte budget while the socket does not take it."""

from __future__ import annotations

import asyncio

from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.unsent import Unsent
from tidegate.inference.frontend.queue.budget import ByteBudget

_COPIED_BYTES = 64 * 1024
"""The largest body that is joined with its head: beyond it, a second buffer costs less than the copy."""


class Outgoing:
    """The writing half of one connection."""

    __slots__ = (
        "_loop",
        "_transport",
        "full",
        "joined",
        "unsent",
    )

    def __init__(self, transport: asyncio.Transport, budget: ByteBudget, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self.unsent = Unsent(transport, budget, limits)
        # At a mark of 0, a write that the socket does not take whole pauses at once: while none is paused, nothing is
        # unsent and there is nothing to count.
        transport.set_write_buffer_limits(high=0)
        self.full = False
        """Whether the socket has not taken all that was written."""
        self.joined: list[bytes] | None = None
        """Parts of a stream that came in the same round of the loop as one that was written."""

    def send(self, head: bytes, body: bytes) -> None:
        """Write to the client, unless it is gone."""
        transport = self._transport
        if transport.is_closing():
            return
        if self.joined:
            head = b"".join((*self.joined, head))
            self.joined.clear()
        self.unsent.written_bytes += len(head) + len(body)
        if len(body) > _COPIED_BYTES:
            transport.writelines((head, body))
        else:
            transport.write(head + body)
        if self.full:
            self.unsent.count()

    def send_part(self, data: bytes) -> None:
        """Write a part of a stream: at once, or with the others that come in the same round of the loop, at its end."""
        if self.joined is None:
            self.joined = []
            self._loop.call_soon(self._round_over)
            self.send(data, b"")
        else:
            self.joined.append(data)

    def send_joined(self) -> None:
        """Write the parts that wait for the end of the round."""
        if self.joined:
            self.send(b"", b"")

    def _round_over(self) -> None:
        self.send_joined()
        self.joined = None
