"""A server of a model repository: started, asked what it has, sampled."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.contestants import Start
from benchmarks.environments import BUILD
from benchmarks.processes import START_TIMEOUT_S, DidNotStart, Server, free_ports


def place(name: str) -> Path:
    """An empty folder for one case."""
    folder = BUILD / "running" / f"repository-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def start_of(folder: Path, repository: str | Path | None, **settings: object) -> Start:
    """How to start it; without a repository the server of the one model in `folder/model`."""
    port = free_ports(1)
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    ours = {
        "SAGEMAKER_BASE_DIR": str(folder),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_WORKERS": "1",
        "TIDEGATE_THREADS_PER_WORKER": "1",
        **{name: str(value) for name, value in settings.items()},
    }
    if repository is not None:
        ours = {"TIDEGATE_MODEL_REPOSITORY": str(repository), **ours}
    command = [sys.executable, "-P", "-m", "tidegate.inference", "serve"]
    return Start(command=command, environment=kept | ours, folder=folder, port=port)


@contextlib.contextmanager
def serving(start: Start) -> Iterator[Server]:
    """The server, when its repository has been listed."""
    with Server(start) as server:
        wait_until_healthy(server)
        yield server


def wait_until_healthy(server: Server) -> None:
    """Until `/ping` says 200. Raises `DidNotStart`."""
    wait_until(lambda: _get(server.start.port, "/ping")[0] == 200, "the server is healthy", server)


def wait_until(condition: Callable[[], object], what: str, server: Server, timeout_s: float = START_TIMEOUT_S) -> float:
    """Poll until something is so; returns the seconds that it took. Raises `DidNotStart`."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        with contextlib.suppress(OSError, HTTPException, ValueError, LookupError):
            if condition():
                return time.monotonic() - started
        time.sleep(0.02)
    raise DidNotStart(f"gave up after {timeout_s:g} s waiting until {what}: {server.last_words()}")


def _get(port: int, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()


def models(server: Server, name: str = "") -> Any:
    """What `/models` says."""
    return json.loads(_get(server.start.port, f"/models/{name}" if name else "/models")[1])


def unload(server: Server, name: str) -> None:
    """Have a model out of memory."""
    status, said = _get(server.start.port, f"/v2/repository/models/{name}/unload", "POST", b"{}")
    if status != 200:
        raise DidNotStart(f"{name} could not be unloaded: {status} {said[:200]!r}")


def metrics(server: Server) -> dict[str, float]:
    """Every sample of `/metrics` of the repository, by its whole series."""
    found = {}
    for line in _get(server.start.port, "/metrics")[1].decode().splitlines():
        series, _, value = line.rpartition(" ")
        if series.startswith("tidegate_repository_"):
            found[series.removeprefix("tidegate_repository_")] = float(value)
    return found
