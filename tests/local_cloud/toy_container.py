"""A container that does what the test tells it, when the test tells it: a server on a real socket in this process.

`running_sagemaker` gives a SageMaker whose containers are of this kind, so that a test holds both ends of a request.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError

from tests.local_cloud.answers import watched
from tests.local_cloud.conftest import ROLE, await_true
from tidegate.local_cloud.sagemaker.container import ContainerSpec
from tidegate.local_cloud.sagemaker.jobs.runners import ProcessJobs
from tidegate.local_cloud.sagemaker.limits import Limits
from tidegate.local_cloud.sagemaker.roles import UncheckedRoles
from tidegate.local_cloud.sagemaker.service import SageMaker
from tidegate.local_cloud.sagemaker.state import Identity

PATIENCE_S = 60.0


@dataclass
class Exchange:
    """A request that has arrived, and the means to answer it."""

    connection: socket.socket
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    answered: threading.Event = field(default_factory=threading.Event)

    def begin(self, content_type: str = "text/plain", status: int = 200, **headers: str) -> None:
        """The head of an answer in chunks."""
        lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", "Transfer-Encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())

    def chunk(self, content: bytes) -> None:
        self.connection.sendall(b"%x\r\n%s\r\n" % (len(content), content))

    def end(self) -> None:
        """The last chunk: the answer is whole."""
        self.connection.sendall(b"0\r\n\r\n")
        self.answered.set()

    def break_off(self) -> None:
        """The connection ends without the last chunk."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.answered.set()

    def answer(self, body: bytes, status: int = 200) -> None:
        self.begin(status=status)
        if body:
            self.chunk(body)
        self.end()

    def caller_is_gone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        if not readable:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def takes(self) -> bool:
        """Whether the caller's side still takes bytes without waiting."""
        return bool(select.select([], [self.connection], [], 0.2)[1])


class ToyContainer:
    """Answers `/ping` by itself; every other request waits for the test in :meth:`next`."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._port: int = self._server.getsockname()[1]
        self._requests: queue.Queue[Exchange] = queue.Queue()
        self._connections: set[socket.socket] = set()
        self._ended = threading.Event()
        self._deaf = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def next(self) -> Exchange:
        """The next request."""
        return self._requests.get(timeout=PATIENCE_S)

    def die(self) -> None:
        """As a killed process: all connections are gone at once."""
        self.stop()

    def go_deaf(self) -> None:
        """As a killed process before anybody has noticed its end: it has no connection and refuses new ones."""
        self._hang_up()
        self._deaf.wait(PATIENCE_S)

    # What the local cloud calls.

    @property
    def port(self) -> int:
        return self._port

    def exit_code(self) -> int | None:
        return -9 if self._ended.is_set() else None

    def wait(self) -> int:
        self._ended.wait()
        return -9

    def last_words(self) -> str:
        return "it was told to die"

    def stop(self, grace_s: float = 0.0) -> None:
        del grace_s
        self._hang_up()
        self._ended.set()

    def _hang_up(self) -> None:
        for connection in [self._server, *self._connections]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with self._server:
            while not self._ended.is_set():
                try:
                    connection, _ = self._server.accept()
                except OSError:
                    break
                self._connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        self._deaf.set()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader, suppress(OSError):
            while line := reader.readline():
                method, path, _ = line.decode().split(" ")
                headers = dict[str, str]()
                while field_line := reader.readline().strip():
                    name, _, value = field_line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = _chunked(reader) if "transfer-encoding" in headers else b""
                body = body or reader.read(int(headers.get("content-length", "0")))
                if path == "/ping":
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                exchange = Exchange(connection, method, path, headers, body)
                self._requests.put(exchange)
                while not exchange.answered.wait(0.05):
                    if self._ended.is_set():
                        return
        self._connections.discard(connection)


def _chunked(reader: Any) -> bytes:
    body = b""
    while size := int(reader.readline(), 16):
        body += reader.read(size)
        reader.readline()
    reader.readline()
    return body


class ToyRunner:
    """Starts toys; the last one is the endpoint's."""

    def __init__(self) -> None:
        self.containers: list[ToyContainer] = []

    def start(self, spec: ContainerSpec) -> ToyContainer:
        del spec
        self.containers.append(ToyContainer())
        return self.containers[-1]

    def path_inside(self, base_dir: Path, path: Path) -> str:
        del base_dir
        return str(path)


@dataclass
class Stage:
    """A SageMaker with one endpoint, `toy`, and both ends of its requests."""

    sagemaker: SageMaker
    runner: ToyRunner
    clients: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.sagemaker.url

    @property
    def container(self) -> ToyContainer:
        return self.runner.containers[-1]

    def client(self, service: str = "sagemaker-runtime") -> Any:
        made = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1").client(
            service, endpoint_url=self.url, config=Config(retries={"total_max_attempts": 1})
        )
        self.clients.append(made)
        return watched(made)

    def settled(self, endpoint: str = "toy") -> dict[str, Any]:
        """The endpoint's description once it rests."""
        description: dict[str, Any] = {}
        control = self.client("sagemaker")

        def rests() -> bool:
            description.clear()
            description.update(control.describe_endpoint(EndpointName=endpoint))
            return description["EndpointStatus"] in ("InService", "Failed", "UpdateRollbackFailed")

        await_true(rests, f"endpoint {endpoint} settles")
        return description

    def stream(self, body: bytes = b"question", **options: Any) -> Any:
        return self.client().invoke_endpoint_with_response_stream(EndpointName="toy", Body=body, **options)


def _nobody(service: str) -> Any:
    raise EndpointConnectionError(endpoint_url=f"http://{service}.nowhere")


@contextmanager
def running_sagemaker(directory: Path, *, runner: ToyRunner | None = None, **limits: float) -> Iterator[Stage]:
    """A SageMaker in this process with an endpoint in service, for the length of the block."""
    runner = runner or ToyRunner()
    sagemaker = SageMaker(
        # Nothing else of AWS is there: the log groups cannot be written, which the supervisor's log says.
        roles=UncheckedRoles(_nobody),
        runner=runner,
        job_runner=ProcessJobs(directory / "jobs"),
        identity=Identity(region="us-east-1", account="123456789012"),
        directory=directory / "work",
        log_directory=directory / "logs",
        container_environment={},
        announce=lambda *_: None,
        limits=Limits.of(limits),
    )
    sagemaker.start()
    stage = Stage(sagemaker, runner)
    try:
        control = stage.client("sagemaker")
        image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
        control.create_model(ModelName="toy", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image})
        variant = {"VariantName": "only", "ModelName": "toy", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        control.create_endpoint_config(EndpointConfigName="toy", ProductionVariants=[variant])
        control.create_endpoint(EndpointName="toy", EndpointConfigName="toy")
        await_true(
            lambda: control.describe_endpoint(EndpointName="toy")["EndpointStatus"] == "InService", "it is in service"
        )
        yield stage
    finally:
        for client in stage.clients:
            client.close()
        for container in runner.containers:
            container.stop()
        sagemaker.close()
