"""Who sent a request, as far as it matters while the answer is made: whether he is still there."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Caller:
    """The other end of a request's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    @contextmanager
    def on_leave(self, act: Callable[[], None]) -> Iterator[None]:
        """Calls ``act`` once, in a thread of its own, if the caller hangs up before the block ends."""
        ended, end = socket.socketpair()
        watcher = threading.Thread(target=self._watch, args=(ended, act), name="caller", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            end.close()
            watcher.join()
            ended.close()

    def _watch(self, ended: socket.socket, act: Callable[[], None]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ)
            selector.register(self._connection, selectors.EVENT_READ)
            if any(key.fileobj is ended for key, _ in selector.select()):
                return
        try:
            left = not self._connection.recv(1, socket.MSG_PEEK)
        except OSError:
            left = True
        if left:  # else it is the next request: whether this one is still wanted, nothing tells any more
            act()
