"""A model behind Tidegate's server for the length of a block, and what is asked of it over HTTP."""

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.child_processes import last_lines, started

PATIENCE_S = 300.0
JSON = "application/json"


class NotServed(Exception):
    """The server did not start, or answered with an error; the text says what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The server's answer: its status, its headers by names in lower case, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that is ready, at a port of this machine's own."""

    port: int

    def ask(
        self,
        body: Any,
        *,
        content_type: str = JSON,
        accept: str = JSON,
        path: str = "/invocations",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Post a request, of bytes or of what becomes JSON.

        Raises `NotServed` where the answer's status is not 200.
        """
        with self._posted(body, path, {"Content-Type": content_type, "Accept": accept, **(headers or {})}) as response:
            return Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(),
            )

    def stream(
        self, body: Any, *, content_type: str = JSON, accept: str = "text/plain", path: str = "/invocations"
    ) -> Iterator[bytes]:
        """Post a request, and yield the parts of its answer as they come. Raises as `ask` does."""
        with self._posted(body, path, {"Content-Type": content_type, "Accept": accept}) as response:
            while part := response.read1():
                yield part

    def get(self, path: str) -> Any:
        """What the server says of itself, as JSON, such as `/models`."""
        with self._asked("GET", path) as response:
            return json.loads(response.read())

    def metrics(self) -> str:
        """What the server counts, in the text form of Prometheus."""
        with self._asked("GET", "/metrics") as response:
            return response.read().decode()

    def is_ready(self) -> bool:
        """Whether `/ping` says that the model takes traffic."""
        with contextlib.suppress(OSError, http.client.HTTPException), self._asked("GET", "/ping") as response:
            return response.status == 200
        return False

    @contextlib.contextmanager
    def _posted(self, body: Any, path: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self._asked("POST", path, content, headers) as response:
            if response.status != 200:
                said = response.read().decode(errors="replace")
                raise NotServed(f"The server answered {response.status} to a request of {path}: {said}")
            yield response

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            yield connection.getresponse()


@contextlib.contextmanager
def serving(*arguments: str, log: Path, environment: Mapping[str, str], directory: Path) -> Iterator[Server]:
    """Run `tidegate serve` on a free port until the end of the block.

    Args:
        arguments: of the command, such as the model's directory.
        log: gets what the server says.
        environment: of the server.
        directory: where it runs.

    Raises:
        NotServed: it ended, or took too long.
    """
    command = [sys.executable, "-m", "tidegate", "serve", *arguments, "--host", "127.0.0.1", "--port", "0"]
    with (
        log.open("wb") as output,
        started(
            command, environment=environment, directory=directory, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while (port := _port(log)) is None or not Server(port=port).is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotServed(f"The server did not start; it said last:{last_lines(log.read_text(errors='replace'))}")
            time.sleep(0.05)
        yield Server(port=port)


def _port(log: Path) -> int | None:
    """The port that the server's log names, once that line is whole."""
    for line in _whole_lines(log):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("message") == "listening":
                return int(entry["port"])
    return None


def _whole_lines(log: Path) -> Sequence[str]:
    return log.read_text(errors="replace").rpartition("\n")[0].splitlines()
