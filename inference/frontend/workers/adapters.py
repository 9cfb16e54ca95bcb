"""The adapters of one pool: what the table decides is told to the workers, and what they say is told to it.

A request holds a `Lease` from before it is queued until it is answered; as long as one is out, the adapter stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tidegate.inference.adapter_frames import Load, Order, frame_of, outcome_of
from tidegate.inference.errors import AdapterLoadFailed, HandlerTimedOut, NotReady, OutOfMemory, RequestError
from tidegate.inference.frontend.models.adapter_table import Adapter, AdapterTable
from tidegate.inference.frontend.queue.reply import Failure, Reply
from tidegate.inference.protocol import Payload

log = logging.getLogger("tidegate.adapters")

_SETTLE_POLL_S = 0.005


class Link(Protocol):
    """A worker's socket."""

    def send(self, data: bytes) -> None: ...


@dataclass(slots=True, eq=False)
class _Worker:
    link: Link
    owed: deque[Load] = field(default_factory=deque)
    """What it was told to load and has not said anything of, in its order."""


@dataclass(slots=True, eq=False)
class _Registration:
    """Somebody waits until the workers have an adapter."""

    waiting_for: set[int]
    done: asyncio.Future[None]

    def fail(self, error: RequestError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Adapters:
    """See the module. `max_loaded` is how many are in memory at one time."""

    def __init__(self, max_loaded: int) -> None:
        self._table = AdapterTable(max_loaded)
        self._workers: dict[int, _Worker] = {}
        self._registrations: dict[int, _Registration] = {}

    # --- what requests ask

    def take(self, name: str, reply: Reply) -> Lease:
        """Where the answer to a request with the adapter `name` goes. Raises what `AdapterTable.use` raises."""
        adapter, orders = self._table.use(name)
        self._tell(orders)
        return Lease(self, adapter, reply)

    def left(self, adapter: Adapter) -> None:
        """A request with it is over."""
        self._tell(self._table.left(adapter))

    def listing(self) -> list[Adapter]:
        """All of them, by name."""
        return self._table.listing()

    def demand(self, name: str) -> Adapter:
        """One of them. Raises `AdapterNotFound`."""
        return self._table.find(name)

    async def register(self, name: str, directory: str, *, preload: bool, pinned: bool, timeout_s: float) -> None:
        """Return when every worker has the adapter; without `preload`, at once. Raises `RequestError`."""
        if (preload or pinned) and not self._workers:
            raise NotReady("No worker has the model loaded.")
        orders = self._table.register(name, directory, preload=preload, pinned=pinned)
        loads = [order for order in orders if isinstance(order, Load)]
        if not loads:
            return
        number = loads[-1].number
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._registrations[number] = _Registration(set(self._workers), done)
        registered = False
        try:
            self._tell(orders)
            async with asyncio.timeout(timeout_s):
                await done
            self._table.loaded(name)
            registered = True
        except TimeoutError:
            raise HandlerTimedOut(
                f"The workers took longer than {timeout_s:g} s to load the adapter '{name}'."
            ) from None
        finally:
            del self._registrations[number]
            if not registered:
                self._tell(self._table.failed(name))

    async def unregister(self, name: str, timeout_s: float) -> None:
        """Let the requests with an adapter be answered, and forget it.

        Raises `AdapterNotFound`, `NotReady`; and `HandlerTimedOut` where it is still at work after `timeout_s`, when it
        goes with the last answer.
        """
        adapter = self._table.find(name)
        self._tell(self._table.leave(name))
        try:
            async with asyncio.timeout(timeout_s):
                # An answer ends in one place and this waits in another; looking is simpler than being told.
                while adapter.requests:  # noqa: ASYNC110
                    await asyncio.sleep(_SETTLE_POLL_S)
        except TimeoutError:
            raise HandlerTimedOut(
                f"The adapter '{name}' takes no more requests; it goes with the last {adapter.requests} answers."
            ) from None

    # --- what the workers do

    def ready(self, worker: int, link: Link) -> None:
        """A worker has loaded the model: it is told of the adapters before it is sent any request."""
        found = self._workers[worker] = _Worker(link)
        self._send(found, self._table.in_memory())
        for registration in self._registrations.values():
            registration.waiting_for.add(worker)

    def lost(self, worker: int) -> None:
        """A worker's socket has closed."""
        found = self._workers.pop(worker, None)
        if found is None:
            return
        if found.owed:
            first = found.owed[0]
            log.error("a worker was lost while it loaded an adapter", extra={"adapter": first.name})
            self._table.blame(first.number)
            if (registration := self._registrations.get(first.number)) is not None:
                registration.fail(AdapterLoadFailed(f"A worker died while it loaded the adapter '{first.name}'."))
        for registration in self._registrations.values():
            registration.waiting_for.discard(worker)
            if not registration.waiting_for:
                registration.fail(NotReady("No worker has the model loaded any more."))

    def heard(self, worker: int, payload: Payload) -> None:
        """A worker says what came of an order."""
        outcome, found = outcome_of(payload), self._workers.get(worker)
        if found is None or not found.owed or found.owed[0].number != outcome.number:
            return
        load = found.owed.popleft()
        registration = self._registrations.get(outcome.number)
        if outcome.reason:
            log.error("an adapter cannot be loaded: %s", outcome.reason, extra={"adapter": load.name})
        if registration is None:
            return
        if outcome.reason:
            registration.fail((OutOfMemory if outcome.too_large else AdapterLoadFailed)(outcome.reason))
            return
        registration.waiting_for.discard(worker)
        if not registration.waiting_for and not registration.done.done():
            registration.done.set_result(None)

    def _tell(self, orders: Iterable[Order]) -> None:
        orders = list(orders)
        for worker in self._workers.values() if orders else ():
            self._send(worker, orders)

    def _send(self, worker: _Worker, orders: Iterable[Order]) -> None:
        for order in orders:
            if isinstance(order, Load):
                worker.owed.append(order)
            worker.link.send(frame_of(order))


class Lease:
    """The reply of a request with an adapter, which stays until the request is over."""

    __slots__ = ("_adapter", "_adapters", "_reply", "start", "write")

    def __init__(self, adapters: Adapters, adapter: Adapter, reply: Reply) -> None:
        self._adapters = adapters
        self._adapter: Adapter | None = adapter
        self._reply = reply
        self.start, self.write = reply.start, reply.write

    def end(self) -> None:
        """Pass on the end."""
        self.cancel()
        self._reply.end()

    def fail(self, error: Failure) -> None:
        """Pass on the failure."""
        self.cancel()
        self._reply.fail(error)

    def cancel(self) -> None:
        """The request is over, or its client left."""
        if self._adapter is not None:
            adapter, self._adapter = self._adapter, None
            self._adapters.left(adapter)
