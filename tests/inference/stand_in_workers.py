"""Workers and a fork server without processes, on a clock that jumps: what a `ModelPool` sees of its workers, exactly.

A stand-in worker speaks the real frames over a real socket pair, in the loop of the test. No time passes in between:
when nothing is ready, the loop's clock jumps to the next timer, so a back-off of a minute is tested in microseconds and
to the very second, on a machine however busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from tidegate.inference import protocol
from tidegate.inference.begun_page import BegunPage
from tidegate.inference.frontend.queue import model_pool
from tidegate.inference.frontend.queue.body import MemoryBody
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.reply import Failure
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.protocol import Answer, Done, FrameReader, Kind, ModelSpec, Request

FIRST_PID = 1 << 23
"""Above what the kernel gives to any process (2^22), so that no signal of a test can reach one."""


class JumpingSelector(selectors.SelectSelector):
    """Never waits: says by `jump` how long it would have."""

    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing is ready and no timer is set: the test waits for ever"
            self.jump(timeout)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves by a microsecond with each round, and to the next timer when nothing happens."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        selector = JumpingSelector()
        selector.jump = self._jump
        super().__init__(selector)

    def time(self) -> float:
        return self._now_s

    def _jump(self, seconds: float) -> None:
        # Not by nothing: a timer whose time is a rounding error away would come again and again.
        self._now_s += max(seconds, 1e-6)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test on a clock of its own. What the loop would only log (a callback that raised) fails the test."""
    faults: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        runner.run(test)
    assert not faults, faults


class StandInWorker(asyncio.Protocol):
    """The far end of a worker's socket. It loads and answers at once, unless it is told otherwise."""

    def __init__(self, fork_server: StandInForkServer, pid: int) -> None:
        self.fork_server = fork_server
        self.pid = pid
        self.spec: ModelSpec | None = None
        self.batches: list[list[Request]] = []
        self.alone: list[bool] = []
        """Of each of them, whether its requests were only on their way together."""
        self.controls: list[tuple[str, int]] = []
        """What it was told of its streams: CANCEL, PAUSE or RESUME, and the request."""
        self.alive = True
        self.immortal = False
        self.transport: asyncio.Transport | None = None
        self.page: BegunPage | None = None
        self.handed_over = 0
        self._reader = FrameReader()

    def opened(self, end: socket.socket) -> None:
        """The first bytes are there, and with them the page; a transport has no eye for that."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(end)
        data, descriptors, _, _ = socket.recv_fds(end, 1 << 16, 2)
        for descriptor in descriptors[1:]:
            self.page = BegunPage(descriptor)
        for descriptor in descriptors:
            os.close(descriptor)
        transport = loop._make_socket_transport(end, self)  # type: ignore[attr-defined]
        self.transport = transport
        if data:
            self.data_received(data)
        else:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a hang-up, however it came
        self.ended(0)

    def data_received(self, data: bytes) -> None:
        for kind, payload in self._reader.feed(data):
            if kind == Kind.LOAD:
                self.spec = ModelSpec.from_json(payload)
                self.fork_server.on_load(self)
            elif kind == Kind.COMPUTE:
                alone, requests = protocol.parse_compute(payload)
                self.batches.append(requests)
                self.alone.append(alone)
                if self.fork_server.begins:
                    self.begin(len(self.batches[-1]))
                self.fork_server.on_batch(self)
            else:
                self.controls.append((Kind(kind).name, protocol.parse_id(payload)))

    def begin(self, count: int) -> list[bool]:
        """Begin the next requests; returns which of them were not taken back."""
        assert self.page is not None
        first, self.handed_over = self.handed_over, self.handed_over + count
        return [self.page.begin(place) for place in range(first, first + count)]

    @property
    def bodies(self) -> list[list[str]]:
        """The bodies of every batch that it was given."""
        return [[bytes(item.body).decode() for item in batch] for batch in self.batches]

    def write(self, *frames: bytes) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(b"".join(frames))

    def ready(self) -> None:
        self.write(protocol.ready_frame(may_join=True, has_page=self.page is not None))

    def fail(self, sentence: str) -> None:
        """Say why the model cannot be loaded, and exit."""
        self.write(protocol.failed_frame(sentence, too_large=False))
        self.end(1 << 8)

    def answer(self) -> None:
        """Answer the newest batch with its own bodies."""
        items = self.batches[-1]
        answers = [protocol.answer_frame(Answer(item.id, 200, "text/plain", b"", bytes(item.body))) for item in items]
        self.write(*answers, protocol.done_frame(Done(0.1, 0.2, 0.3)))

    def end(self, status: int) -> None:
        """End as a process does: its socket closes, and its parent reports a status as waitpid gives it."""
        self.ended(status)
        if self.transport is not None:
            self.transport.abort()

    def ended(self, status: int) -> None:
        if self.alive:
            self.alive = False
            if self.fork_server.pool is not None:
                self.fork_server.pool.worker_exited(self.pid, status)


def load_at_once(worker: StandInWorker) -> None:
    worker.ready()


def answer_at_once(worker: StandInWorker) -> None:
    worker.answer()


def do_nothing(worker: StandInWorker) -> None:
    """Hang."""


@dataclass(kw_only=True)
class StandInForkServer:
    """Starts stand-in workers; the errors in `refusals` are raised first, one for each start."""

    on_load: Callable[[StandInWorker], None] = load_at_once
    on_batch: Callable[[StandInWorker], None] = answer_at_once
    begins: bool = True
    """Whether workers begin at once what they are handed."""
    refusals: list[Exception] = field(default_factory=list)
    started: list[StandInWorker] = field(default_factory=list)
    started_s: list[float] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    pool: ModelPool | None = None

    async def start(self, packages_dir: str | None = None) -> tuple[int, socket.socket]:  # noqa: ARG002 - as the real one
        loop = asyncio.get_running_loop()
        self.started_s.append(loop.time())
        if self.refusals:
            raise self.refusals.pop(0)
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        worker = StandInWorker(self, FIRST_PID + len(self.started))
        self.started.append(worker)
        loop.add_reader(theirs, worker.opened, theirs)
        return worker.pid, ours

    def kill(self, pid: int, number: int) -> None:
        """What `os.killpg` does here."""
        assert number == signal.SIGKILL
        worker = self.started[pid - FIRST_PID]
        if not worker.alive:
            raise ProcessLookupError
        self.killed.append(pid)
        if not worker.immortal:
            worker.end(signal.SIGKILL)

    @property
    def alive(self) -> list[StandInWorker]:
        return [worker for worker in self.started if worker.alive]


def limits(**changes: Any) -> PoolLimits:
    numbers: dict[str, Any] = {
        "workers": 1,
        "gpus": 0,
        "queue_size": 100,
        "max_batch_size": 1,
        "max_wait_s": 0.005,
        "timeout_s": 5.0,
        "max_queue_wait_s": 60.0,
        "load_timeout_s": 30.0,
        "crash_loop_s": 120.0,
        "retry": True,
    }
    return PoolLimits(**{**numbers, **changes})


SPEC = ModelSpec(
    name="toy",
    model_dir="/nowhere",
    program=None,
    threads=1,
    verify=False,
    max_batch_size=1,
    default_accept="application/json",
    max_decoded_bytes=1,
    max_response_bytes=1,
    max_image_pixels=1,
    log_level=20,
)


class Asked:
    """One client: it asks at once, and its reply fails the test where an event comes out of turn."""

    def __init__(self, pool: ModelPool, body: str) -> None:
        self._pool = pool
        self.ended = asyncio.Event()
        self.status = 0
        self.code = ""
        self.body = b""
        self._left = False
        kept = MemoryBody()
        kept.append(body.encode())
        self.request = PendingRequest(content_type="text/plain", accept="", headers=b"", body=kept, reply=self)
        pool.submit(self.request)

    def leave(self) -> None:
        """Close the connection."""
        self._left = True
        self._pool.cancel(self.request)

    def done(self) -> bool:
        return self.ended.is_set()

    @property
    def outcome(self) -> tuple[int, str]:
        """What it came to: (200, body) or (status, code)."""
        assert self.done(), "it has no outcome"
        return self.status, self.code or self.body.decode()

    # --- Reply

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        assert not self._left
        assert not self.status, "it was begun or ended before"
        assert (content_type, headers) == ("text/plain", b"")
        self.status, self._length = status, length

    def write(self, data: bytes) -> None:
        assert self.status
        assert not self.done()
        self.body += data

    def end(self) -> None:
        assert self.status
        assert not self.done()
        assert self._length in (None, len(self.body))
        self.ended.set()

    def fail(self, error: Failure) -> None:
        assert not self._left
        assert not self.done()
        self.status, self.code = error.status, error.code
        self.ended.set()


@dataclass(kw_only=True)
class House:
    """A pool with its stand-ins, and the causes that it gave for giving up."""

    pool: ModelPool
    fork_server: StandInForkServer
    gave_up: list[str]

    def ask(self, *bodies: str) -> list[Asked]:
        """Queue requests."""
        return [Asked(self.pool, body) for body in bodies]

    async def passes_until(self, condition: Callable[[], Any], within_s: float = 1000.0) -> None:
        """Let time pass until something is so."""
        loop = asyncio.get_running_loop()
        limit_s = loop.time() + within_s
        await settled()
        while not condition():
            assert loop.time() < limit_s, "it never came to be"
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def house(
    monkeypatch: pytest.MonkeyPatch,
    fork_server: StandInForkServer | None = None,
    *,
    prove: bool = False,
    **changes: Any,
) -> AsyncIterator[House]:
    """A pool that is not loaded yet; closed at the end, with every stand-in gone."""
    fork_server = fork_server or StandInForkServer()
    gave_up: list[str] = []
    monkeypatch.setattr(model_pool.os, "killpg", fork_server.kill)
    monkeypatch.setattr(model_pool, "monotonic", asyncio.get_running_loop().time)
    spec = replace(SPEC, prove=prove)
    pool = ModelPool(spec, limits(**changes), cast(ForkServer, fork_server), gave_up.append)
    fork_server.pool = pool
    try:
        yield House(pool=pool, fork_server=fork_server, gave_up=gave_up)
    finally:
        pool.close()
        await settled()
        for worker in fork_server.alive:
            worker.end(0)
        await settled()


async def settled() -> None:
    """Until nothing happens any more without time passing."""
    await asyncio.sleep(0.0001)


async def outcomes(asked: Sequence[Asked]) -> list[tuple[int, str]]:
    """What each came to, when the last of them is there."""
    for each in asked:
        await each.ended.wait()
    return [each.outcome for each in asked]
