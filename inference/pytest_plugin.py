"""A fixture for pytest: `pytest_plugins = ["tidegate.inference.pytest_plugin"]` in the top `conftest.py`.

It starts the real server, as a process on a free port of the loopback address, of the model that a test names:

    def test_a_seven_is_a_seven(serve_model):
        model = serve_model("model/")
        assert model.invoke(Path("seven.png")).json()["label"] == 7

It is named there and not found by itself (no entry point): an installed package should not take part in the tests of
projects that do not ask for it.
"""

from __future__ import annotations

import http.client
import json
import mimetypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tidegate.inference.log_lines import readable

_START_TIMEOUT_S = 480.0  # what the platform gives a container to become healthy
_STOP_TIMEOUT_S = 40.0  # the server itself gives what is in flight 25 s
_ANSWER_TIMEOUT_S = 60.0  # the platform's, of a whole answer
_PAUSE_S = 0.05
_REPORTED_LINES = 200
_CHUNK_BYTES = 65536
_INVOCATIONS = "/invocations"

Body = bytes | str | Path | dict[str, Any] | list[Any]


class ModelDidNotStart(AssertionError):
    """The server ended, or was not ready within 8 minutes; the text has the last line and the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the status, headers by their names in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON. Raises ValueError where it is none."""
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class ServedModel:
    """A model behind a server that is ready. Every call opens a connection of its own."""

    port: int
    log_file: Path
    asked: int = field(default=0)

    @property
    def url(self) -> str:
        """Where the server is, `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self.port}"

    def invoke(
        self,
        body: Body,
        *,
        path: str = _INVOCATIONS,
        content_type: str | None = None,
        accept: str | None = None,
        **headers: str,
    ) -> Answer:
        """The answer to one request, whatever its status is; `path` is `/v1/chat/completions` for a `chat_fn`.

        `body` is sent as it is; a dict or list becomes JSON, and a Path is the file's bytes. Where `content_type` is
        not said, it is that of the file's name, or application/json for JSON, text/plain for a str, and
        application/octet-stream for bytes. Further headers are named in Python's way:
        `X_Amzn_SageMaker_Custom_Attributes="…"`.
        """
        with self._asked(path, body, content_type, accept, headers) as response:
            return Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(),
            )

    def stream(
        self,
        body: Body,
        *,
        path: str = _INVOCATIONS,
        content_type: str | None = None,
        accept: str | None = None,
        **headers: str,
    ) -> Iterator[bytes]:
        """The parts of a response as they come. Raises AssertionError with the body where its status is not 200."""
        with self._asked(path, body, content_type, accept, headers) as response:
            if response.status != 200:
                raise AssertionError(f"{response.status}: {response.read().decode(errors='replace')}")
            while part := response.read1(_CHUNK_BYTES):
                yield part

    def log(self) -> str:
        """What the server and the script have written so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def _asked(
        self, path: str, body: Body, content_type: str | None, accept: str | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        content, its_type = _content(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Content-Type"] = content_type or its_type
        if accept is not None:
            sent["Accept"] = accept
        self.asked += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_TIMEOUT_S)
        try:
            connection.request("POST", path, content, sent)
            yield connection.getresponse()
        finally:
            connection.close()


def _content(body: Body) -> tuple[bytes, str]:
    match body:
        case bytes():
            return body, "application/octet-stream"
        case str():
            return body.encode(), "text/plain"
        case Path():
            return body.read_bytes(), mimetypes.guess_type(body.name)[0] or "application/octet-stream"
    return json.dumps(body).encode(), "application/json"


ServeModel = Callable[..., ServedModel]


@pytest.fixture(scope="session")
def serve_model(request: pytest.FixtureRequest) -> Iterator[ServeModel]:
    """A function: `serve_model(MODEL, *, environment={}, wrapper=None)` is the :class:`ServedModel` of MODEL.

    MODEL and the wrapper are what `tidegate serve` takes. The server is started when it is first asked for, is the same
    for all tests that ask for the same, and ends with the tests. Variables of this process that are settings of the
    server do not reach it: `environment` has them. Raises :class:`ModelDidNotStart`; TypeError for a variable that is
    no string.
    """
    running: dict[object, ServedModel] = {}
    request.config.stash[_RUNNING] = running
    with ExitStack() as stack:

        def serve(
            model: str | os.PathLike[str],
            *,
            environment: Mapping[str, str] | None = None,
            wrapper: str | os.PathLike[str] | None = None,
        ) -> ServedModel:
            words = ("serve", _absolute(model), *(() if wrapper is None else ("--wrapper", _absolute(wrapper))))
            variables = _variables(environment or {})
            key = (words, frozenset(variables.items()))
            if key not in running:
                running[key] = stack.enter_context(_served(words, variables))
            return running[key]

        yield serve


def _variables(environment: Mapping[Any, Any]) -> dict[str, str]:
    for name, value in environment.items():
        if not isinstance(name, str) or not isinstance(value, str):
            written = f"{str(name)!r}: {str(value)!r}"
            raise TypeError(f"environment={{{name!r}: {value!r}}}: names and values are strings; write {written}")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"environment={{{name!r}: {value!r}}} cannot be a variable: no '=' in a name, no NUL byte")
    return dict(environment)


def _absolute(place: str | os.PathLike[str]) -> str:
    text = os.fspath(place)
    return text if text.startswith("s3://") else str(Path(text).absolute())


@contextmanager
def _served(words: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[ServedModel]:
    settings = ("SAGEMAKER_", "TIDEGATE_", "TS_", "MMS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    with tempfile.TemporaryDirectory(prefix="tidegate-served-") as folder:
        log_file = Path(folder, "server.log")
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tidegate", *words, "--host", "127.0.0.1", "--port", "0"],
                env={**kept, "TIDEGATE_WORKERS": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield ServedModel(port=_port_when_ready(process, log_file, words[1]), log_file=log_file)
        finally:
            process.terminate()
            try:
                process.wait(timeout=_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port_when_ready(process: subprocess.Popen[bytes], log_file: Path, model: str) -> int:
    deadline = time.monotonic() + _START_TIMEOUT_S
    port: int | None = None
    while process.poll() is None and time.monotonic() < deadline:
        port = port or _listens_at(log_file)
        if port is not None and _is_ready(port):
            return port
        time.sleep(_PAUSE_S)
    log = log_file.read_text(encoding="utf-8", errors="replace").strip()
    ended = process.poll() is not None
    what = log.rpartition("\n")[2] if ended else f"it was not ready within {_START_TIMEOUT_S:.0f} s"
    raise ModelDidNotStart(f"{model} is not served: {what}\n{_for_people(log)}")


def _for_people(log: str) -> str:
    """The lines as a terminal has them, tracebacks on lines of their own."""
    return "\n".join(map(readable, log.splitlines()))


def _listens_at(log_file: Path) -> int | None:
    """The port that the server names in its log, once that line is whole."""
    for line in log_file.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0].splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("message") == "listening":
                return int(entry["port"])
    return None


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


_RUNNING = pytest.StashKey[dict[object, ServedModel]]()
_ASKED_BEFORE = pytest.StashKey[dict[object, int]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Remembers which models a test asks."""
    item.stash[_ASKED_BEFORE] = {key: model.asked for key, model in item.config.stash.get(_RUNNING, {}).items()}
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed is reported with the last lines of the servers that it asked."""
    report = yield
    if report.failed and call.when == "call":
        before = item.stash.get(_ASKED_BEFORE, {})
        for key, model in item.config.stash.get(_RUNNING, {}).items():
            lines = _for_people(model.log()).splitlines()
            if model.asked > before.get(key, 0) and lines:
                cut = [f"… {len(lines) - _REPORTED_LINES} lines more"] if len(lines) > _REPORTED_LINES else []
                report.sections.append((f"tidegate serve at {model.url}", "\n".join([*cut, *lines[-_REPORTED_LINES:]])))
    return report
