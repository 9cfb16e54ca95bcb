"""The limits of one connection, each a rule on plain numbers with the time passed in.

No Python server has all of them; llhttp refuses only what smuggles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tidegate.inference.errors import BadRequest, HeaderTooLarge, PayloadTooLarge
from tidegate.inference.frontend.http.pace import Pace
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.settings import Settings

PIPELINED = 16
"""Requests that may wait on one connection behind the one at hand; no client needs more."""
DISCARD_S = 5.0
DISCARD_BYTES = 64 * 1024 * 1024
"""How long, and how much, a refused client may go on sending."""
SKIPPED_BYTES = 64 * 1024
"""The longest body of a refused request that is read past so that the connection can go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadLimit:
    """How large a request line with its headers may be, or the trailers of a chunked body."""

    max_bytes: int
    max_count: int

    def error(self, size: int, count: int) -> HeaderTooLarge | None:
        """The error for a head of `size` bytes with `count` headers, None where it is within the limit."""
        if count > self.max_count:
            return HeaderTooLarge(f"There are more than {self.max_count} headers.")
        if size > self.max_bytes:
            return HeaderTooLarge(f"The request line and headers are over {self.max_bytes} bytes.")
        return None


class Framing:
    """What belongs neither to a head nor to a body: the lines of chunks' sizes, and line ends before a request.

    Chunks may have extensions, which nobody reads. There may be as much of all that as of a head, and besides for each
    byte of the body as much as a chunk of one byte needs, with some to spare.
    """

    __slots__ = ("_body_bytes", "_max_bytes", "bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = self._body_bytes = 0

    def add(self, size: int, body_bytes: int) -> None:
        """So many bytes came, of which so many are of the body."""
        self.bytes += size - body_bytes
        self._body_bytes += body_bytes

    def error(self) -> BadRequest | None:
        """The error where there is too much of it."""
        if self.bytes <= self._max_bytes + 16 * self._body_bytes:
            return None
        return BadRequest("There is more around the body's chunks, or before the request, than bodies need.")


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimit:
    """How long a body may be."""

    max_bytes: int
    setting: str = "TIDEGATE_MAX_BODY_BYTES"
    """Which variable says so."""

    @classmethod
    def of(cls, settings: Settings, threshold_bytes: int) -> BodyLimit:
        """The setting's; or less, where a larger body would have no room on an idle server either.

        A body over `threshold_bytes` goes to a file.
        """
        limits = [cls(max_bytes=settings.max_body_bytes)]
        if settings.max_spool_bytes > threshold_bytes:
            limits.append(cls(max_bytes=settings.max_spool_bytes, setting="TIDEGATE_MAX_SPOOL_BYTES"))
        elif settings.max_bytes_in_flight > threshold_bytes:
            limits.append(cls(max_bytes=threshold_bytes, setting="TIDEGATE_MAX_SPOOL_BYTES"))
        else:
            limits.append(cls(max_bytes=settings.max_bytes_in_flight, setting="TIDEGATE_MAX_BYTES_IN_FLIGHT"))
        if settings.max_body_bytes <= threshold_bytes:
            limits.append(cls(max_bytes=settings.max_bytes_in_flight, setting="TIDEGATE_MAX_BYTES_IN_FLIGHT"))
        return min(limits, key=lambda limit: limit.max_bytes)

    def error(self, size: int) -> PayloadTooLarge | None:
        """The error for a body of `size` bytes, announced or arrived, None where it is within the limit."""
        if size <= self.max_bytes:
            return None
        return PayloadTooLarge(f"The body is over the limit of {self.max_bytes} bytes ({self.setting}).")


@dataclass(slots=True, kw_only=True)
class Discard:
    """What a refused client still sends: for a while it may, so that it reads the refusal rather than a reset."""

    started_s: float = math.inf
    """When the refusal was sent; before that, only the bytes count."""
    _bytes: int = 0

    def takes(self, size: int) -> bool:
        """Count `size` bytes more; whether they are still within the limit."""
        self._bytes += size
        return self._bytes <= DISCARD_BYTES

    def over(self, now_s: float) -> bool:
        """Whether the client has had its time."""
        return now_s - self.started_s > DISCARD_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All of them, as the settings say."""

    head: HeadLimit
    body: BodyLimit
    idle_s: float
    """How long a connection may be open without a request."""
    head_s: float
    """How long a head may take."""
    min_bytes_per_s: int
    """How fast a body must come, and a response be read."""

    @classmethod
    def of(cls, settings: Settings, spool_threshold_bytes: int | None = None) -> Limits:
        """The limits that the settings give, with the spool's own threshold where that is another."""
        threshold_bytes = settings.spool_threshold_bytes if spool_threshold_bytes is None else spool_threshold_bytes
        return cls(
            head=HeadLimit(max_bytes=settings.max_header_bytes, max_count=settings.max_header_count),
            body=BodyLimit.of(settings, threshold_bytes),
            idle_s=settings.idle_timeout_s,
            head_s=settings.header_timeout_s,
            min_bytes_per_s=settings.min_body_rate_bytes_per_s,
        )

    def pace(self, now_s: float) -> Pace:
        """The rule for a body that is on its way since `now_s`."""
        window_s = max(self.idle_s, self.head_s)
        return Pace(bytes_per_s=self.min_bytes_per_s, grace_s=self.head_s, window_s=window_s, started_s=now_s)

    def reading_pace(self, now_s: float) -> Pace:
        """The rule for what a client reads from `now_s` on: it may pause for as long as a connection may be idle."""
        return Pace(bytes_per_s=self.min_bytes_per_s, grace_s=self.idle_s, window_s=self.idle_s, started_s=now_s)


def worth_skipping(request: Request) -> bool:
    """Whether the body of a refused request is on its way already, and short enough to keep the connection for."""
    announced = not request.header(b"transfer-encoding") and not request.header(b"expect")
    return announced and request.content_length <= SKIPPED_BYTES
