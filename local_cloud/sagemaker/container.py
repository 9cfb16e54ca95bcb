"""What a model's container is to those who start one, and how it is found healthy, as the platform does it.

Two types stand behind :class:`ContainerRunner`: :mod:`.process_container` runs the server as a plain process with the
container's environment, :mod:`.docker_container` runs the model's image.
"""

from __future__ import annotations

import atexit
import http.client
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PING_TIMEOUT_S = 2.0  # "your-algorithms-inference-code": time-out of one /ping attempt
STOP_GRACE_S = 30.0  # the same page: SIGTERM, then SIGKILL 30 seconds later
DEFAULT_STARTUP_TIMEOUT_S = 480.0  # the same page: 8 minutes to answer /ping with 200
_SELDOM_TAKEN = range(20_000, 30_000)
_KEPT_PORTS = 64
_kept: deque[socket.socket] = deque()


class ContainerFailed(Exception):
    """The container never became healthy; the text is a failure reason of one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container to start. ``base_dir`` plays ``/opt/ml``; stdout and stderr are appended to ``log``.

    ``image`` is what the model names; only a runner of images looks at it. ``what`` it runs, as its last words call it.
    """

    image: str
    base_dir: Path
    environment: Mapping[str, str]
    log: Path
    what: str = "server"


class Container(Protocol):
    """A started container."""

    @property
    def port(self) -> int:
        """The loopback port at which it will answer."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def wait(self) -> int:
        """Blocks until it has ended and returns its exit code."""

    def last_words(self) -> str:
        """One line that says best why it ended."""

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """SIGTERM, SIGKILL after ``grace_s``; returns when nothing of it is left. Idempotent."""


class ContainerRunner(Protocol):
    """Starts containers."""

    def start(self, spec: ContainerSpec) -> Container:
        """Returns at once; health is the caller's question. Raises :class:`ContainerFailed` when nothing started."""

    def path_inside(self, base_dir: Path, path: Path) -> str:
        """What the server calls ``path``, which lies in the directory that plays ``/opt/ml``."""


def free_port() -> int:
    """A loopback port that was free a moment ago, and is likely to be so for long.

    It lies below those that the kernel gives to outgoing connections, and to those who leave the choice to it: it may
    take seconds until the server that is to have it has started.
    """
    for _ in range(1000):
        port = secrets.choice(_SELDOM_TAKEN)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ContainerFailed("no loopback port is free")


def kept_port() -> int:
    """A loopback port that nobody else is given while the server that is to have it starts.

    It stays bound by a socket that does not listen, until many more have been asked for. Linux lets a server bind it
    all the same, if that sets SO_REUSEADDR, as ours does; elsewhere the port was free a moment ago.
    """
    if sys.platform != "linux":
        return free_port()
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _kept.append(kept)
    if len(_kept) > _KEPT_PORTS:
        _kept.popleft().close()
    port: int = kept.getsockname()[1]
    return port


@atexit.register
def _let_ports_go() -> None:
    while _kept:
        _kept.pop().close()


def await_healthy(container: Container, *, timeout_s: float, cancelled: threading.Event) -> None:
    """Returns at the first 200 of GET /ping; raises :class:`ContainerFailed` when that does not come.

    A container that ended, one that used up ``timeout_s`` and one whose start was cancelled each have their own reason.
    """
    deadline = time.monotonic() + timeout_s
    while not cancelled.is_set():
        if container.exit_code() is not None:
            raise ContainerFailed(container.last_words())
        status = ping(container.port)
        if status == http.HTTPStatus.OK:
            return
        if time.monotonic() >= deadline:
            last = "nothing answers at its port" if status is None else f"it answers {status}"
            raise ContainerFailed(
                f"the container did not answer GET /ping with 200 within {timeout_s:g} seconds"
                f" (ContainerStartupHealthCheckTimeoutInSeconds); {last}"
            )
        cancelled.wait(0.05)
    raise ContainerFailed("the start was cancelled")


def ping(port: int) -> int | None:
    """The status of one GET /ping, or None when there was no answer within the platform's two seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PING_TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
