"""A client that opens a WebSocket to a model that is not loaded: it waits until that is, or is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from tidegate.inference.errors import Draining, RequestError
from tidegate.inference.frontend.http.peer import Peer, Upgrade
from tidegate.inference.frontend.http.response import encode, error_response
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.repository import Answering, Repository

UNREAD_BYTES = 64 * 1024
"""What a client may send before it is answered; it has no business to."""


class Application(Protocol):
    """What is needed from the server."""

    answering: int

    def opened(self, peer: Peer) -> bool: ...
    def closed(self, peer: Peer) -> None: ...


class WaitingSocket(asyncio.Protocol):
    """Owns the socket while the model is loaded, and then hands it to the conversation that `open_` makes."""

    def __init__(
        self,
        application: Application,
        repository: Repository,
        selector: Selector,
        open_: Callable[[Answering], Upgrade],
        request_id: str,
    ) -> None:
        self._application = application
        self._repository = repository
        self._selector = selector
        self._open = open_
        self._request_id = request_id
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._rest = b""
        self._over = False

    def take(self, transport: asyncio.Transport, rest: bytes) -> None:
        """Own the socket from now on, and ask for the model."""
        self._transport, self._rest = transport, rest
        transport.set_protocol(self)
        self._application.answering += 1
        self._application.opened(self)
        try:
            self._repository.want(self, self._selector)
        except RequestError as error:
            self.refused(error)

    # --- Waiter

    def granted(self, answering: Answering) -> None:
        """The model is loaded."""
        try:
            conversation = self._open(answering)
        except RequestError as error:
            self.refused(error)
            return
        self._end()
        self._transport.resume_reading()
        conversation.take(self._transport, self._rest)

    def refused(self, error: RequestError) -> None:
        """It cannot be had, or not in time."""
        if not self._over:
            self._end()
            self._repository.own_metrics.responses[error.status] += 1
            self._transport.write(encode(error_response(error, self._request_id), keep_alive=False))
            self._transport.close()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._application.answering -= 1
            self._application.closed(self)

    # --- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > UNREAD_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - there is nobody left to tell
        self._end()
        self._repository.leave(self)

    # --- Peer

    at_work = True

    def sweep(self, now_s: float) -> None:
        """Nothing: the wait has a deadline of its own."""

    def idle_s(self, now_s: float) -> float:  # noqa: ARG002 - a connection like the others
        return 0.0

    def close_if_idle(self) -> None:
        self._repository.leave(self)
        self.refused(Draining("The server is stopping."))

    def abort(self) -> None:
        self._transport.abort()
