"""The worker's end of its socket, where several threads read from it: each frame is seen by whoever waits for it."""

from __future__ import annotations

import socket
import threading
from typing import Any

from tidegate.inference.protocol import Kind, cancel_frame
from tidegate.inference.worker.channel import Channel


class Turn:
    """The lock of those who read; `late` is given it only when `may_come` is set, as on a busy machine."""

    def __init__(self) -> None:
        self.late: threading.Thread | None = None
        self.waits, self.may_come = threading.Event(), threading.Event()
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if threading.current_thread() is self.late:
            self.waits.set()
            assert self.may_come.wait(60)
        return self._lock.acquire(blocking, timeout if blocking else -1)

    def release(self) -> None:
        self._lock.release()


def test_what_another_thread_has_read_meanwhile_is_not_waited_for_any_more() -> None:
    """A script's `context.get_model` reads too while it waits, and what it finds may be the next request."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel, turn, seen = Channel(theirs), Turn(), list[Any]()

        def receive() -> None:
            seen.append(channel.receive(wait=True))
            seen.append(channel.next_frame(Kind.CANCEL))

        channel._receiving = turn  # type: ignore[assignment]
        turn.late = threading.Thread(target=receive, daemon=True)
        turn.late.start()
        assert turn.waits.wait(60)
        ours.sendall(cancel_frame(7))
        assert channel.listen(60)
        turn.may_come.set()
        turn.late.join(60)
        waits_on = turn.late.is_alive()
        ours.shutdown(socket.SHUT_RDWR)
        turn.late.join(60)
        assert not waits_on
        assert seen[0] is True
        assert seen[1][0] is Kind.CANCEL
