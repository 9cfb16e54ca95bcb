"""Start the real server as a process on a real socket, for tests.

with running({"code/inference.py": SOURCE}) as server:
    server.post(b"…", "application/json")
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.polling import PATIENCE_S, until

START_S = PATIENCE_S
_HELD_PORTS = 64
_held: deque[socket.socket] = deque()


@dataclass(slots=True, kw_only=True)
class Reply:
    """What came back: status, lower-case headers, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        return self.json()["error"]


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server; every call opens a connection of its own."""

    process: subprocess.Popen[bytes]
    port: int
    model_dir: Path
    log_path: Path
    _connections: list[http.client.HTTPConnection] = field(default_factory=list)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Reply(
                status=response.status, headers={k.lower(): v for k, v in response.getheaders()}, body=response.read()
            )

    def post(self, body: Any, content_type: str | None = "application/json", **headers: str) -> Reply:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if content_type is not None:
            sent["content-type"] = content_type
        return self.request("POST", "/invocations", body, sent)

    def ping(self) -> int:
        return self.request("GET", "/ping").status

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def entries(self) -> list[dict[str, Any]]:
        """The server's own lines of the log, without one that is just being written."""
        whole = self.log().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def ended(self) -> int:
        """Wait for the server to end by itself; its exit status."""
        try:
            return self.process.wait(timeout=START_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server does not end\n{self.log()}") from None

    def workers(self) -> list[psutil.Process]:
        """The processes that have the model, the forks of the fork server."""
        return [worker for parent in psutil.Process(self.process.pid).children() for worker in parent.children()]

    def wait_until(self, condition: Any, what: str, timeout_s: float = START_S) -> Any:
        return wait_until(condition, what, timeout_s, self.log)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


def wait_until(condition: Any, what: str, timeout_s: float = START_S, log: Any = str) -> Any:
    """Poll until `condition()` is true and return its value; a server or process that is not there counts as false."""

    def forgiving() -> Any:
        with contextlib.suppress(OSError, http.client.HTTPException, psutil.NoSuchProcess):
            return condition()
        return None

    return until(forgiving, what, timeout_s=timeout_s, log=log, pause_s=0.01)


def free_port() -> int:
    """A port that the kernel gives to nobody else, neither here nor in the tests that run beside these.

    It stays bound by a socket that does not listen, and is let go when many more have been asked for. Linux lets a
    server bind it all the same, because that sets SO_REUSEADDR, as this socket does.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    if len(_held) > _HELD_PORTS:
        _held.popleft().close()
    return int(held.getsockname()[1])


@atexit.register
def _let_ports_go() -> None:
    while _held:
        _held.pop().close()


def write_files(root: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def start(
    base_dir: Path, environment: Mapping[str, str], port: int | None = None, python: str = sys.executable
) -> Server:
    """Start the server on `base_dir`, run by `python`, without waiting for anything."""
    port = port or free_port()
    ours = ("SAGEMAKER_", "TIDEGATE_", "TS_", "OMP_", "PIP_", "OTEL_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    log_path = base_dir / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "inference", "serve"],
            env={
                **kept,
                "SAGEMAKER_BASE_DIR": str(base_dir),
                "SAGEMAKER_BIND_TO_PORT": str(port),
                "TIDEGATE_HOST": "127.0.0.1",
                "TIDEGATE_WORKERS": "1",
                "PYTHONSAFEPATH": "1",
                "PIP_CONFIG_FILE": os.devnull,  # not this machine's
                **environment,
            },
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    return Server(process=process, port=port, model_dir=base_dir / "model", log_path=log_path)


@contextlib.contextmanager
def running(files: Mapping[str, str | bytes], *, wait: bool = True, **environment: str) -> Iterator[Server]:
    """A server of a model directory that holds `files`; ready, unless `wait` is off."""
    with tempfile.TemporaryDirectory(prefix="tidegate-test-") as base:
        (Path(base) / "model").mkdir()
        write_files(Path(base) / "model", files)
        server = start(Path(base), environment)
        try:
            if wait:
                server.wait_until(
                    lambda: server.process.poll() is not None or server.ping() == 200, "the server is ready"
                )
                assert server.process.poll() is None, server.log()
            yield server
        finally:
            tree = [server.process.pid, *(p.pid for p in _tree(server.process.pid))]
            server.process.terminate()
            try:
                server.process.wait(timeout=START_S)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
            wait_until(lambda: not any(_alive(pid) for pid in tree), "every process of the server is gone")


def _tree(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
