"""The frontend's end of one worker: frames out, outcomes in, and what is known of its life."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

from tidegate.inference import protocol
from tidegate.inference.frontend.queue.pending_request import Ticket
from tidegate.inference.protocol import Answer, Done, Error, FrameReader, Kind, ModelSpec, Progress


class Owner(Protocol):
    """Who is told what happens to a worker."""

    def worker_ready(self, worker: WorkerLink) -> None: ...
    def worker_failed(self, worker: WorkerLink, message: str, *, too_large: bool) -> None: ...
    def worker_answered(self, worker: WorkerLink, outcome: Answer | Error) -> None: ...
    def worker_goes_on(self, worker: WorkerLink, progress: Progress) -> None: ...
    def worker_done(self, worker: WorkerLink, done: Done) -> None: ...
    def worker_lost(self, worker: WorkerLink) -> None: ...


class WorkerLink(asyncio.Protocol):
    """One worker process, from its fork to the end of its socket."""

    def __init__(self, owner: Owner, slot: int, pid: int) -> None:
        self.owner = owner
        self.slot = slot
        self.pid = pid
        self.ready = False
        self.may_join = True
        self.proving = False
        self.hung = False
        self.batch: dict[int, Ticket] = {}
        self.sizes: deque[int] = deque()
        self.started_s = 0.0
        self.heard_s = 0.0
        self.gpu_bytes = 0
        self.timer: asyncio.TimerHandle | None = None
        self._reader = FrameReader()
        self._transport: asyncio.WriteTransport | None = None

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.ready and not self.sizes

    @property
    def shared(self) -> int:
        """How many requests it was given in the batches that are not done: who is to blame when it dies."""
        return sum(self.sizes)

    async def attach(self, channel: socket.socket, spec: ModelSpec) -> None:
        """Take over the frontend's end of the socket and have the worker load its model."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=channel)
        self._write(protocol.frame(Kind.LOAD, spec.to_json()))

    def compute(self, tickets: Sequence[Ticket]) -> None:
        """Send a batch, which the worker takes up when it is done with those before."""
        self.batch.update({ticket.item.id: ticket for ticket in tickets})
        self.sizes.append(len(tickets))
        self._write(protocol.compute_frame([ticket.item for ticket in tickets]))

    def kill(self) -> None:
        """End the process and what it started; `worker_lost` follows when the socket closes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Let the worker leave when it has finished what it is doing."""
        if self._transport is not None:
            self._transport.close()

    def cut_off(self) -> None:
        """Let go of the socket at once, whatever is still on its way: `worker_lost` follows."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        for kind, payload in self._reader.feed(data):
            if kind == Kind.ANSWER:
                self.owner.worker_answered(self, protocol.parse_answer(payload))
            elif kind == Kind.ERROR:
                self.owner.worker_answered(self, protocol.parse_error(payload))
            elif kind == Kind.DONE:
                self.owner.worker_done(self, protocol.parse_done(payload))
            elif kind == Kind.PROGRESS:
                self.owner.worker_goes_on(self, protocol.parse_progress(payload))
            elif kind == Kind.READY:
                self.ready = True
                self.may_join = protocol.parse_ready(payload)
                self.owner.worker_ready(self)
            else:
                message, too_large = protocol.parse_failed(payload)
                self.owner.worker_failed(self, message, too_large=too_large)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the exit status says more
        self.ready = False
        self.owner.worker_lost(self)
