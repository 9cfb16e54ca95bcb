"""Who sent a request, as far as it matters while the answer is made: whether he is still there.

One thread watches the connections of all requests that are being answered: a thread for each would cost a short request
more than all the rest.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Caller:
    """The other end of a request's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    @contextmanager
    def on_leave(self, act: Callable[[], None]) -> Iterator[None]:
        """Calls ``act``, which must not wait, in another thread if the caller hangs up before the block ends."""
        watch = _Watch(self._connection, act)
        _watcher.begin(watch)
        try:
            yield
        finally:
            _watcher.end(watch)


@dataclass(slots=True)
class _Watch:
    connection: socket.socket
    act: Callable[[], None]
    goes_on: bool = True

    def caller_has_left(self) -> bool:
        """Else it is the next request: whether this one is still wanted, nothing tells any more."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class _Watcher:
    """The thread starts with the first request, and waits as long as the process lives."""

    def __init__(self) -> None:
        # That of Linux and that of macOS take new connections while another thread waits in them.
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, watch: _Watch) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="callers", daemon=True)
                self._thread.start()
            self._selector.register(watch.connection, selectors.EVENT_READ, watch)

    def end(self, watch: _Watch) -> None:
        """Once this returns, nothing of the watch is called any more."""
        with self._lock:
            self._forget(watch)

    def _forget(self, watch: _Watch) -> None:
        if watch.goes_on:
            watch.goes_on = False
            self._selector.unregister(watch.connection)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                watch: _Watch = key.data
                with self._lock:
                    if watch.goes_on:
                        self._forget(watch)
                        if watch.caller_has_left():
                            watch.act()


_watcher = _Watcher()
