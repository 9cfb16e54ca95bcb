"""Starts the fork server of the workers, asks it for forks, and replaces it when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from itertools import count

from tidegate.inference.frontend.workers.launching import Launched, launch

log = logging.getLogger("tidegate.fork_server")

FORK_TIMEOUT_S = 20.0
"""How long a parent that is up may take to fork, which is a matter of milliseconds, before it counts as stuck."""
CLOSE_TIMEOUT_S = 2.0
HANG_UP_S = 0.2
"""How long the end of the parent's socket and the end of its process may be apart."""


class ForkServerFailed(Exception):
    """The fork server does not start."""


class ForkServer:
    """The one fork server, which has imported torch. `start` forks a worker as soon as it is up."""

    def __init__(self, log_level: int) -> None:
        self._log_level = log_level
        self._on_exit: Callable[[int, int], None] = lambda _pid, _status: None
        self._tokens = count()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[int] | None = None
        self._starting: dict[int, asyncio.Future[int]] = {}
        self._workers: set[int] = set()
        """Those that the present parent waits for."""
        self._orphans: dict[int, int] = {}
        """By pid, the descriptors by which we see the end of those whose parent died."""
        self._was_up = False
        self._closed = False

    def open(self, on_exit: Callable[[int, int], None], launched: Launched | None = None) -> None:
        """Start the parent, or take one that was `launched` before; it imports while the frontend does other things.

        `on_exit` is told the pid and the wait status of every worker that ends.
        """
        self._on_exit = on_exit
        launched = launched or launch(self._log_level)
        launched.taken = True
        self._process, self._control = launched.process, launched.control
        self._control.setblocking(False)
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(self._control.fileno(), self._receive)

    async def gpus(self) -> int:
        """How many GPUs the workers see. Raises `ForkServerFailed` when the parent dies before it can say."""
        return await asyncio.shield(self._up())

    async def start(self, packages_dir: str | None = None) -> tuple[int, socket.socket]:
        """Fork a worker; returns its pid and our end of its socket. Raises `ForkServerFailed`.

        Where `packages_dir` brings a package that the parent has imported already, the worker is a fresh interpreter.
        """
        await self.gpus()
        if self._control is None:
            raise ForkServerFailed("the fork server is gone")
        ours, theirs = socket.socketpair()
        token = next(self._tokens)
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._starting[token] = started
        try:
            with theirs:
                socket.send_fds(
                    self._control,
                    [json.dumps({"start": token, "packages_dir": packages_dir}).encode()],
                    [theirs.fileno()],
                )
            pid = await asyncio.wait_for(started, FORK_TIMEOUT_S)
        except BaseException as error:
            ours.close()
            if isinstance(error, TimeoutError):
                self._kill()
                raise ForkServerFailed(f"the fork server did not fork within {FORK_TIMEOUT_S:g} s") from None
            if isinstance(error, OSError):
                raise ForkServerFailed(f"the fork server cannot be reached: {error}") from error
            raise
        finally:
            self._starting.pop(token, None)
        ours.setblocking(False)
        return pid, ours

    def close(self) -> None:
        """Hang up; the parent kills the workers that are left and ends, and is killed itself where it does not.

        One that is still importing is killed at once: it has no workers yet, and would not look before it is done.
        """
        self._closed = True
        self._disconnect()
        for pid in list(self._orphans):
            self._forget_orphan(pid)
        if self._process is not None:
            if self._ready is None or not self._ready.done():
                self._kill()
            try:
                self._process.wait(timeout=CLOSE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._kill()
                self._process.wait()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _up(self) -> asyncio.Future[int]:
        if self._control is None and self._was_up and not self._closed:
            try:  # one that died before it was up is tried again as often as somebody wants it
                self.open(self._on_exit)
            except OSError as error:
                raise ForkServerFailed(f"the fork server cannot be started: {error}") from error
        if self._ready is None:
            raise ForkServerFailed("the fork server was not started")
        return self._ready

    def _receive(self) -> None:
        while self._control is not None:
            try:
                data = self._control.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._parent_died()
                return
            message = json.loads(data)
            if "started" in message:
                self._workers.add(message["pid"])
                waiting = self._starting.get(message["started"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(message["pid"])
            elif "exited" in message:
                self._workers.discard(message["exited"])
                self._on_exit(message["exited"], message["status"])
            elif self._ready is not None and not self._ready.done():
                self._was_up = True
                self._ready.set_result(message["gpus"])

    def _parent_died(self) -> None:
        self._disconnect()
        how = self._bury()
        log.error("the fork server died", extra={"cause": how})
        error = ForkServerFailed(f"the fork server {how}")
        was_up = self._ready is not None and self._ready.done()
        for waiting in [*self._starting.values(), *([] if was_up or self._ready is None else [self._ready])]:
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # nobody need be waiting for a parent that replaces another
        self._adopt()
        if was_up and not self._closed:
            # Its workers live on: each has its own socket to us.
            try:
                self.open(self._on_exit)
            except OSError as failure:  # tried again when a worker is wanted
                log.error("no fork server can be started", extra={"reason": str(failure)})

    def _adopt(self) -> None:
        """See to the end of the workers that the parent would have told of; how they end is nobody's to know."""
        orphans, self._workers = self._workers, set()
        loop = asyncio.get_running_loop()
        for pid in orphans:
            try:
                self._orphans[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                loop.call_soon(self._on_exit, pid, 0)
            except (AttributeError, OSError) as error:  # an old kernel, or one that does not allow it
                log.warning("the end of a worker cannot be seen", extra={"worker_pid": pid, "reason": str(error)})
            else:
                loop.add_reader(self._orphans[pid], self._orphan_ended, pid)

    def _orphan_ended(self, pid: int) -> None:
        self._forget_orphan(pid)
        self._on_exit(pid, 0)

    def _forget_orphan(self, pid: int) -> None:
        watched = self._orphans.pop(pid)
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)

    def _bury(self) -> str:
        """Wait for the end of a parent that has hung up; returns how it ended, in words."""
        if self._process is None:
            return "is gone"
        try:
            return describe_exit(self._process.wait(timeout=HANG_UP_S))
        except subprocess.TimeoutExpired:  # it lives on, and is of no use
            self._kill()
            self._process.wait()
            return "hung up"

    def _disconnect(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None


def describe_exit(code: int) -> str:
    """How a process ended, in words: its exit status, or the number of a signal as a negative one."""
    if code < 0:
        hint = ", which is how the kernel ends a process that takes too much memory" if code == -signal.SIGKILL else ""
        return f"was killed by signal {-code}{hint}"
    return f"exited with status {code}"
