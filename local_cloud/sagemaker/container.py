"""Starts a model's container and watches it become healthy, as the platform does.

The seam is :class:`ContainerRunner`: today the server runs as a plain process with the container's environment
(:class:`ProcessRunner`); a runner that starts an image with docker fits in the same place.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from local_cloud.processes import end_group, process_birth

PING_TIMEOUT_S = 2.0  # "your-algorithms-inference-code": time-out of one /ping attempt
STOP_GRACE_S = 30.0  # the same page: SIGTERM, then SIGKILL 30 seconds later
DEFAULT_STARTUP_TIMEOUT_S = 480.0  # the same page: 8 minutes to answer /ping with 200

# What a process needs to run at all on this machine. The rest of the caller's environment stays outside, as it would
# outside a container; above all the AWS_* variables.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_CERT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)


class ContainerFailed(Exception):
    """The container never became healthy; the text is a failure reason of one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container to start. ``base_dir`` plays ``/opt/ml``; stdout and stderr are appended to ``log``."""

    base_dir: Path
    environment: Mapping[str, str]
    log: Path


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
        """Returns at once; health is the caller's question."""

    def path_inside(self, base_dir: Path, path: Path) -> str:
        """What the server calls ``path``, which lies in the directory that plays ``/opt/ml``."""


@dataclass(frozen=True, slots=True)
class ProcessRunner:
    """Runs the server as a process group of its own on a free loopback port.

    ``command`` is what the image's entry point would run; ``registry`` is a directory with one file per running process
    group, held under a lock by the process, so that a later start can end what a killed supervisor left behind.
    """

    registry: Path
    command: Sequence[str] = field(default=(sys.executable, "-m", "inference", "serve"))

    def start(self, spec: ContainerSpec) -> Container:
        port = free_port()
        # A container's /tmp goes with the container, also where the server was killed and could not tidy up.
        temporary = spec.base_dir / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= spec.environment
        environment |= {
            "SAGEMAKER_BASE_DIR": str(spec.base_dir),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "TIDEGATE_HOST": "127.0.0.1",
            "TMPDIR": str(temporary),
            # A user's inference.py in the working directory must not hide the package `inference`.
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
        }
        return ProcessContainer(self.command, environment, spec, port, self.registry)

    def path_inside(self, base_dir: Path, path: Path) -> str:  # noqa: ARG002 - a process sees what everybody sees
        return str(path)


class ProcessContainer:
    """A server process with everything it started."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], spec: ContainerSpec, port: int, registry: Path
    ) -> None:
        self._port = port
        self._spec = spec
        self._stop_lock = threading.Lock()
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = spec.log.stat().st_size if spec.log.exists() else 0
        with spec.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=spec.base_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._entry = registry / str(self._process.pid)
        self._entry.parent.mkdir(parents=True, exist_ok=True)
        self._entry.write_text(process_birth(self._process.pid) or "")

    @property
    def port(self) -> int:
        return self._port

    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def last_words(self) -> str:
        with self._spec.log.open("rb") as log:
            log.seek(self._log_start)
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("tidegate: error: ")]
        said = errors[-1] if errors else " | ".join(lines[-3:])
        return said or f"the server ended with exit code {self._process.poll()} and said nothing"

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        with self._stop_lock:
            if self._process.poll() is None:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(grace_s)
            # The group is swept even after a clean end: whatever the server forked goes with it.
            end_group(self._process.pid)
            self._process.wait()
            self._entry.unlink(missing_ok=True)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_healthy(container: Container, *, timeout_s: float, cancelled: threading.Event) -> None:
    """Returns at the first 200 of GET /ping; raises :class:`ContainerFailed` when that does not come.

    A container that ended, one that used up ``timeout_s`` and one whose start was cancelled each have their own reason.
    """
    deadline = time.monotonic() + timeout_s
    while not cancelled.is_set():
        if container.exit_code() is not None:
            raise ContainerFailed(container.last_words())
        if ping(container.port) == http.HTTPStatus.OK:
            return
        if time.monotonic() >= deadline:
            raise ContainerFailed(
                f"the container did not answer GET /ping with 200 within {timeout_s:g} seconds"
                " (ContainerStartupHealthCheckTimeoutInSeconds)"
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
