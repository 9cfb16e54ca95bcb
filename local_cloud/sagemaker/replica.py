"""One server that is kept running: started, found healthy, replaced when it dies, stopped.

A container of an instance of a production variant, with its watcher thread and its connections; nobody else touches
them. The platform replaces an unhealthy instance by a new one; here the container that ended is started again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from tidegate.local_cloud.sagemaker.container import (
    STOP_GRACE_S,
    Container,
    ContainerFailed,
    ContainerRunner,
    ContainerSpec,
    await_healthy,
)
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer
from tidegate.local_cloud.sagemaker.container_client import ContainerClient
from tidegate.local_cloud.sagemaker.state import now

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_STEADY_AFTER_S = 60.0  # a container that served this long is started again at once when it dies


def next_pause_s(last_pause_s: float, *, lived_s: float) -> float:
    """How long to wait before a dead container is started again: at once after a long life, else longer and longer."""
    if lived_s >= _STEADY_AFTER_S:
        return 0.0
    return min(max(_FIRST_PAUSE_S, last_pause_s * 2), _LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container ended in service; the time is that of the cloud's clock."""

    code: int
    moment: datetime


def latest(exits: Iterable[Exit | None]) -> Exit | None:
    """The last of these; None where there is none."""
    return max((each for each in exits if each is not None), key=lambda each: each.moment, default=None)


Ready = Callable[[ContainerClient, Path], None]


class Replica:
    """Start with :meth:`start`, call through :meth:`lease`, end with :meth:`stop`."""

    def __init__(
        self,
        *,
        name: str,
        runner: ContainerRunner,
        spec: ContainerSpec,
        startup_timeout_s: float,
        ready: Ready | None = None,
    ) -> None:
        """``ready`` is called with every container that has become healthy, before it takes requests."""
        self.name = name
        self.log = spec.log
        self._runner = runner
        self._spec = spec
        self._startup_timeout_s = startup_timeout_s
        self._ready = ready
        self._stopping = threading.Event()
        self._changed = threading.Condition()  # guards the five below
        self._container: Container | None = None
        self._client: ContainerClient | None = None
        self._leases = 0
        self._restarts = 0
        self._last_exit: Exit | None = None
        self._watcher = threading.Thread(target=self._watch, name=f"watch {name}", daemon=True)

    def start(self) -> None:
        """Returns when the container is healthy; raises :class:`ContainerFailed` (then nothing is left running)."""
        self._bring_up()
        self._watcher.start()

    @property
    def base_dir(self) -> Path:
        """What plays ``/opt/ml``."""
        return self._spec.base_dir

    @property
    def process_id(self) -> int | None:
        """Of what runs as a process; None where nothing runs, or a container of docker does."""
        with self._changed:
            return getattr(self._container, "process_id", None) if self._client is not None else None

    @property
    def restarts(self) -> int:
        """How often the container died in service and was replaced."""
        with self._changed:
            return self._restarts

    @property
    def last_exit(self) -> Exit | None:
        """How the container ended the last time that it died in service; None where it never did."""
        with self._changed:
            return self._last_exit

    @contextmanager
    def lease(self) -> Iterator[ContainerClient]:
        """The connections to the container; a stop waits for the leases. Raises NoAnswer while there is none."""
        with self._changed:
            if self._client is None:
                raise NoAnswer("the container is being replaced")
            client = self._client
            self._leases += 1
        try:
            yield client
        finally:
            with self._changed:
                self._leases -= 1
                self._changed.notify_all()

    def has_lost(self, client: ContainerClient, within_s: float) -> bool:
        """Whether the container of these connections has ended; waits up to ``within_s`` for it to be noticed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._client is not client, timeout=within_s)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Lets running calls end, then stops the container; returns when nothing is left of it.

        A stream may go on for minutes: after half of ``grace_s`` the container gets its SIGTERM in spite of it, so that
        it is the container that says goodbye, and not a SIGKILL.
        """
        deadline = time.monotonic() + grace_s
        self._stopping.set()
        with self._changed:
            self._changed.wait_for(lambda: self._leases == 0, timeout=grace_s / 2)
            container = self._container
        if container is not None:
            container.stop(max(0.0, deadline - time.monotonic()) if grace_s else 0.0)
        if self._watcher.is_alive():
            self._watcher.join()
        with self._changed:
            container = self._container
        if container is not None:  # the watcher may just have brought up another one
            container.stop(0.0)
        self._drop_client()

    def _bring_up(self) -> None:
        container = self._runner.start(self._spec)
        with self._changed:
            self._container = container
        client = ContainerClient(container.port)
        try:
            await_healthy(container, timeout_s=self._startup_timeout_s, cancelled=self._stopping)
            if self._ready is not None:
                self._ready(client, self._spec.base_dir)
        except BaseException:
            client.close()
            container.stop(0.0)
            raise
        with self._changed:
            self._client = client

    def _watch(self) -> None:
        pause_s = 0.0
        while True:
            with self._changed:
                container = self._container
            if container is None or self._stopping.is_set():
                return
            born = time.monotonic()
            code = container.wait()
            if not self._stopping.is_set():
                with self._changed:
                    self._last_exit = Exit(code=code, moment=now())
            self._drop_client()
            if self._stopping.is_set():
                return
            container.stop(0.0)
            pause_s = next_pause_s(pause_s, lived_s=time.monotonic() - born)
            logger.warning("%s ended with exit code %s; it is replaced in %.1f s", self.name, code, pause_s)
            self._write_in_log(f"the server ended with exit code {code}; it is replaced in {pause_s:.1f} s")
            while not self._stopping.wait(pause_s):
                try:
                    self._bring_up()
                except (ContainerFailed, OSError) as failure:  # OSError: this machine is short of something
                    pause_s = next_pause_s(pause_s, lived_s=0.0)
                    logger.warning("%s did not come back, next try in %.1f s: %s", self.name, pause_s, failure)
                else:
                    with self._changed:
                        self._restarts += 1
                    break

    def _write_in_log(self, sentence: str) -> None:
        """Where whoever wants the reason looks first: a line among those of the server itself."""
        with suppress(OSError), self.log.open("a+b") as log:
            begun = log.tell() > 0 and _last_byte(log) != b"\n"
            log.write(f"{chr(10) if begun else ''}local cloud: {sentence}\n".encode())

    def _drop_client(self) -> None:
        with self._changed:
            client, self._client = self._client, None
            self._changed.notify_all()
        if client is not None:
            client.close()


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
