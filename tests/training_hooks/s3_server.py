"""moto's S3 on a loopback port, with what S3 promises and moto does not: one conditional write at a time.

A test may look at each request before it is handled.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.inference.repository.s3_proxy import ENVIRONMENT, client_of

BUCKET = "models"


def nothing(method: str, path: str) -> str | None:
    """Look at a request and let it pass."""


@dataclass(slots=True, kw_only=True)
class S3:
    """The server. `before` is called with the method and the path of every request.

    What it returns is the status and the code of an error that is answered instead, such as `503 SlowDown`.
    """

    url: str
    before: Callable[[str, str], str | None] = nothing
    requests: list[str] = field(default_factory=list)
    _client: Any = None
    _in_flight: int = 0
    _idle: threading.Condition = field(default_factory=threading.Condition)
    _conditional: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to ask this server and no other."""
        return {
            **ENVIRONMENT,
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def client(self) -> Any:
        if self._client is None:
            self._client = client_of(self.url)
        return self._client

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """All objects below a prefix, by key without it."""
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return {key.removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}

    def restore(self, objects: Mapping[str, bytes]) -> None:
        """Make these all that there is."""
        for key in self.objects().keys() - objects.keys():
            self.client().delete_object(Bucket=BUCKET, Key=key)
        for key, data in objects.items():
            self.client().put_object(Bucket=BUCKET, Key=key, Body=data)

    def handle(self, application: Any, environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append(f"{method} {path}")
        conditional = "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ
        with self._counted():
            if refusal := self.before(method, path):
                status, code = refusal.split()
                start_response(f"{status} {code}", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{code}</Code><Message>by the test</Message></Error>".encode()]
            with self._conditional if conditional else contextlib.nullcontext():
                return list(application(environ, start_response))

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._idle:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._idle:
                self._in_flight -= 1
                self._idle.notify_all()

    def wait_until_idle(self) -> None:
        """Return when no request is being handled, also none of a process that was killed."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._in_flight == 0, timeout=60)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[S3]:
    """A server with the bucket, empty, for as long as the block takes."""
    _empty()
    application = DomainDispatcherApplication(create_backend_app)
    s3 = S3(url="")
    server = make_server(
        "127.0.0.1",
        0,
        lambda environ, start_response: s3.handle(application, environ, start_response),
        threaded=True,
        request_handler=_Quiet,
    )
    server.daemon_threads = True  # type: ignore[attr-defined]
    s3.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        s3.client().create_bucket(Bucket=BUCKET)
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        _empty()


def _empty() -> None:
    """What moto has of S3 is the process's: another server of it would have the objects of this one."""
    for _, _, backend in list(s3_backends.iter_backends()):
        backend.reset()


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """This process, too, asks that server."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
