"""What the server and the protocols on its sockets know of one another."""

from __future__ import annotations

import asyncio
from typing import Protocol

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import Responder
from tidegate.inference.frontend.queue.budget import ByteBudget
from tidegate.inference.frontend.queue.spool import Spool


class Peer(Protocol):
    """A client's socket as the server sees it, whatever is spoken on it."""

    @property
    def at_work(self) -> bool:
        """Whether a client waits here for what a model does; nobody does who asks how the server is."""

    def sweep(self, now_s: float) -> None: ...
    def idle_s(self, now_s: float) -> float: ...
    def close_if_idle(self) -> None: ...
    def abort(self) -> None: ...


class Upgrade(Protocol):
    """Another protocol that takes over a connection."""

    def take(self, transport: asyncio.Transport, rest: bytes) -> None:
        """Own the socket from now on; `rest` is what came after the head of the request."""


class Application(Protocol):
    """What a connection needs from the server."""

    limits: Limits
    budget: ByteBudget
    spool: Spool
    draining: bool
    answering: int
    max_connections: int

    def opened(self, peer: Peer) -> bool: ...
    def closed(self, peer: Peer) -> None: ...
    def next_id(self) -> str: ...
    def admit(self, request: Request) -> Responder: ...
    def refused(self, request: Request, error: RequestError) -> None: ...
    def upgrade(self, request: Request) -> Upgrade | None: ...
