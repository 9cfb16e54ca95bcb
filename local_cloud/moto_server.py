"""moto's threaded server, in this process, on a free loopback port, with our CloudFormation in it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

from moto.core.common_models import BaseModel
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from tidegate.local_cloud.request_gate import NoPages
from tidegate.local_cloud.sagemaker.http_server import is_free


def hold_on_to_nothing() -> None:
    """A resource that is deleted or replaced leaves the memory, in this process.

    moto has a list of all that it ever made, for a page of its own that shows them; a cloud that lives for long would
    grow by some kilobytes with each object that is overwritten and each message that is sent.
    """
    BaseModel.__new__ = _made  # type: ignore[method-assign]


def _made(cls: type[BaseModel], *_: Any, **__: Any) -> BaseModel:
    return object.__new__(cls)


class _QuietHandler(MotoRequestHandler):
    """moto's handler with kept-alive connections, without Nagle's delay and without a log line for every request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        logging.getLogger("moto.requests").debug('"%s" %s %s', self.requestline, code, size)


class MotoServer:
    """Binds at once, answers from :meth:`start` to :meth:`close`. State is in the process: there can be only one."""

    def __init__(self, *, port: int = 0) -> None:
        """At ``port``, if it is free, and else at a free one."""
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1",
            port if is_free(port) else 0,
            NoPages(DomainDispatcherApplication(create_backend_app)),
            threaded=True,
            request_handler=_QuietHandler,
        )
        self._server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="moto", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def put_in_front(self, wrap: Callable[[Any], Any]) -> None:
        """Puts an application in front of moto's own. Before :meth:`start`."""
        self._server.app = wrap(self._server.app)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
