"""What a socket has not taken of what was written to it: held of the byte budget, and how fast it is read."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios

from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.pace import Pace
from tidegate.inference.frontend.queue.budget import ByteBudget


class Unsent:
    """The unsent bytes of one connection."""

    __slots__ = (
        "_budget",
        "_held_bytes",
        "_limits",
        "_looked_s",
        "_pace",
        "_read_before_bytes",
        "_transport",
        "_waited_s",
        "watched",
        "written_bytes",
    )

    def __init__(self, transport: asyncio.Transport, budget: ByteBudget, limits: Limits) -> None:
        self._transport = transport
        self._budget = budget
        self._limits = limits
        self._held_bytes = 0
        self.written_bytes = 0
        """All that was given to the transport; counted by who writes."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """A response begins: the client's rate is that of reading this one."""
        self._pace: Pace | None = None
        self._looked_s: float | None = None
        self._waited_s = 0.0
        self._read_before_bytes = 0
        self.watched = False
        """Whether anything is known of how fast the client reads the response at hand."""

    def count(self) -> None:
        """Hold of the budget what the socket has not taken, and no more."""
        unsent_bytes = self._transport.get_write_buffer_size()
        self._budget.hold(unsent_bytes - self._held_bytes)
        self._held_bytes = unsent_bytes

    def release(self) -> None:
        """Hold nothing any more: the socket is gone."""
        self._budget.release(self._held_bytes)
        self._held_bytes = 0

    def unread_bytes(self) -> int:
        """What was written and the client's system has not acknowledged."""
        return self._transport.get_write_buffer_size() + _in_kernel_bytes(self._transport)

    def too_slow(self, now_s: float) -> bool:
        """Whether the client reads at less than the least rate. Asked twice a second.

        Only the time counts in which bytes wait here for the client: in the rest it waits for us.
        """
        left_bytes = self._transport.get_write_buffer_size()
        if self._held_bytes:
            self.count()
        looked_s, self._looked_s = self._looked_s, now_s if left_bytes else None
        if not left_bytes:
            return False
        self.watched = True
        if looked_s is not None:
            self._waited_s += now_s - looked_s
        read_bytes = self.written_bytes - self.unread_bytes()
        if self._pace is None:
            self._pace, self._read_before_bytes = self._limits.reading_pace(self._waited_s), read_bytes
        return self._pace.too_slow(self._waited_s, read_bytes - self._read_before_bytes)


def _in_kernel_bytes(transport: asyncio.Transport) -> int:
    """What the kernel has taken and the client's has not acknowledged; 0 where it does not say.

    The kernel takes megabytes at once and then nothing until a good part of them is read: how fast a client reads can
    only be seen behind it. Source: tcp(7), SIOCOUTQ.
    """
    try:
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    except (OSError, ValueError):
        return 0
    size: int = struct.unpack("i", told)[0]
    return size
