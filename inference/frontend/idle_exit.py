"""When a server that nobody asks anything ends by itself. Pure: the time is passed in."""

from __future__ import annotations

import math

_ABOUT_THE_SERVER = ("/ping", "/v2/repository/index")
"""Asked by probes, whatever the verb."""


def counts(method: str, path: str) -> bool:
    """Whether a request asks for work; what only reads how the server is (`/ping`, `/metrics`, `GET /models`) does not.

    A WebSocket is not looked at here: it is at work for as long as it is open.
    """
    return method not in ("GET", "HEAD") and path not in _ABOUT_THE_SERVER


class IdleExit:
    """Watches for `after_s` seconds without requests; what happens between two looks only prolongs them."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.asked = False
        """Whether a request that counts came since the last look; set by whoever admits it."""
        self._idle_since_s = math.inf

    def over(self, now_s: float, *, busy: bool) -> bool:
        """Look again: whether it is time to end. `busy`: the server is starting, or something is at hand."""
        if busy:
            self._idle_since_s = math.inf
        elif self.asked or self._idle_since_s == math.inf:
            self._idle_since_s = now_s
        self.asked = False
        return now_s - self._idle_since_s >= self.after_s
