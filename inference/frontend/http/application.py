"""What the paths of this server do. `_invoke` is the request: admitted, queued, sent, awaited, answered."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from heapq import nlargest
from itertools import count
from time import monotonic

from tidegate.inference.errors import MethodNotAllowed, NotFound, NotReady, RequestError
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.http.exchange import Exchange, Response, error_body, error_response
from tidegate.inference.frontend.metrics import Abandoned
from tidegate.inference.frontend.models.model_routes import ModelRoutes
from tidegate.inference.frontend.models.registry import SINGLE_MODEL, Registry
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.queue.pending_request import Ticket
from tidegate.inference.protocol import Answer
from tidegate.inference.settings import MIB, Settings

log = logging.getLogger("tidegate.http")

QUIET_S = 1.0
"""How long a connection must have been idle before it has to make room for another."""
_INFERENCE_ID = b"x-amzn-sagemaker-inference-id"


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a path, by which verbs, and for which model."""

    methods: tuple[str, ...]
    respond: Callable[[Exchange], Awaitable[Response]]
    model: str | None = None
    """The model that is asked, where the route asks one."""


class Application:
    """The server as its connections see it."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self.draining = False
        self.connections: set[Connection] = set()
        self.bytes_held = 0
        self.answering = 0
        self.connections_closed = 0
        """How many idle connections had to make room for others since somebody asked."""
        self.connections_refused = 0
        """How many clients found no room since somebody asked."""
        self._ids = count(1)
        self._id_prefix = os.urandom(4).hex()
        self._answer = self._invoke if registry.sessions is None else self._invoke_in_session
        invoke = Route(("POST",), self._answer, SINGLE_MODEL)
        self._routes = {
            # The platform's text names GET and, once, POST for /ping.
            "/ping": Route(("GET", "POST", "HEAD"), self._ping),
            "/invocations": invoke,
            f"/models/{SINGLE_MODEL}/invoke": invoke,
            "/execution-parameters": Route(("GET", "HEAD"), self._execution_parameters),
            "/metrics": Route(("GET", "HEAD"), self._metrics),
        }
        self._models = ModelRoutes(registry)
        if settings.multi_model:
            del self._routes["/invocations"], self._routes[f"/models/{SINGLE_MODEL}/invoke"]

    # --- what a connection asks

    def opened(self, connection: Connection) -> bool:
        """Whether one more connection may be open."""
        if len(self.connections) >= self.settings.max_connections:
            self._make_room()
        if len(self.connections) >= self.settings.max_connections:
            self.connections_refused += 1
            return False
        self.connections.add(connection)
        return True

    def _make_room(self) -> None:
        # Several at once: looking through all of them for each new client would be an attack's own work.
        now_s = monotonic()
        quiet = [each for each in self.connections if each.idle_s(now_s) >= QUIET_S]
        for connection in nlargest(1 + len(self.connections) // 16, quiet, key=lambda each: each.idle_s(now_s)):
            self.connections.discard(connection)
            connection.close_if_idle()
            self.connections_closed += 1

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)

    def next_id(self) -> str:
        """An id for a request that brings none."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    def hold_bytes(self, count: int) -> bool:
        """Count bodies in (and, negative, out of) memory; whether they are within what all may take together."""
        self.bytes_held += count
        return self.bytes_held <= self.settings.max_bytes_in_flight

    def admit(self, exchange: Exchange) -> None:
        """Refuse, before its body is read, what cannot be answered. Raises `RequestError`."""
        exchange.id = exchange.header(_INFERENCE_ID) or exchange.id
        route = self._routes.get(exchange.path) or self._route_of_models(exchange)
        if exchange.method not in route.methods:
            verbs = ", ".join(route.methods)
            raise MethodNotAllowed(f"{exchange.path} answers {verbs}, not {exchange.method}.", route.methods)
        exchange.route = route
        if route.model is not None:
            self._pool(route.model).admit(self.bytes_held + exchange.content_length)

    def _route_of_models(self, exchange: Exchange) -> Route:
        settings, (_, *path) = self.settings, exchange.path.split("/")
        match path:
            case ["models"]:
                return Route(("GET", "POST") if settings.multi_model else ("GET",), self._models.answer)
            case ["models", name] if name:
                return Route(("GET", "DELETE") if settings.multi_model else ("GET",), self._models.answer)
            case ["models", name, "invoke"] if name:
                return Route(("POST",), self._answer, name)
            case ["adapters", *_]:
                raise NotFound("There are no adapters here: put them into the model's archive, or load it as a model.")
        where = "POST /models/NAME/invoke" if settings.multi_model else "POST /invocations"
        raise NotFound(f"There is nothing at {exchange.path[:200]}; predictions are at {where}.")

    async def respond(self, exchange: Exchange) -> Response:
        """Answer an admitted exchange, whatever happens."""
        route = exchange.route
        assert isinstance(route, Route)  # noqa: S101 - set by admit
        self.answering += 1
        try:
            return await route.respond(exchange)
        except RequestError as error:
            return error_response(error, exchange.id)
        except Exception:
            log.exception("the server itself failed", extra={"request_id": exchange.id})
            return error_body(500, "internal_error", "The server failed; its log says why.", exchange.id)
        finally:
            self.answering -= 1

    def finished(self, exchange: Exchange | None, status: int) -> None:
        """Note an answer that was written."""
        route = exchange.route if exchange is not None else None
        if isinstance(route, Route) and (pool := self.registry.get(route.model)):
            pool.metrics.responses[status] += 1

    def abandoned(self, exchange: Exchange, state: Abandoned) -> None:
        """Note a client that left before its answer: one that no model was asked yet, or that is there already."""
        route = exchange.route
        if isinstance(route, Route) and (pool := self.registry.get(route.model)):
            pool.metrics.abandoned[state] += 1

    # --- the routes

    async def _invoke(self, exchange: Exchange) -> Response:
        route = exchange.route
        assert isinstance(route, Route)  # noqa: S101 - set by admit
        assert route.model is not None  # noqa: S101 - only routes of a model lead here
        pool = self._pool(route.model)
        lines = [b"%b: %b\r\n" % header for header in exchange.headers]
        lines.append(b"x-tidegate-request-id: %b\r\n" % exchange.id.encode("latin-1"))
        ticket = await pool.answer(
            exchange.header(b"content-type"), exchange.header(b"accept"), b"".join(lines), exchange.whole_body
        )
        outcome = ticket.outcome.result()
        if isinstance(outcome, Answer):
            headers = outcome.headers + (_timing(ticket) if self.settings.server_timing else b"")
            return Response(outcome.status, outcome.content_type, outcome.body, headers)
        return error_body(outcome.status, outcome.code, outcome.message, exchange.id)

    async def _invoke_in_session(self, exchange: Exchange) -> Response:
        route, sessions = exchange.route, self.registry.sessions
        assert isinstance(route, Route)  # noqa: S101 - set by admit
        assert route.model is not None  # noqa: S101 - only routes of a model lead here
        assert sessions is not None  # noqa: S101 - else this is no route's answer
        return await sessions.answer(self._invoke, exchange, route.model)

    async def _ping(self, exchange: Exchange) -> Response:
        if self.draining:
            return error_body(503, "draining", "The server is stopping.", exchange.id)
        if self.settings.multi_model:
            # Healthy without any model; and one that is ill is that model's trouble, not the instance's.
            if self.registry.ready:
                return Response(200, "application/json", b"")
            return error_body(503, "not_ready", "The server is starting.", exchange.id)
        for pool in self.registry.pools.values():
            if not pool.healthy:
                return error_body(503, "not_ready", f"The model '{pool.spec.name}' is not ready.", exchange.id)
        if not self.registry.pools:
            return error_body(503, "not_ready", "The server is starting.", exchange.id)
        return Response(200, "application/json", b"")

    async def _execution_parameters(self, exchange: Exchange) -> Response:  # noqa: ARG002 - a route like the others
        settings = self.settings
        pools = self.registry.pools.values()
        slots = max((pool.limits.workers * pool.limits.max_batch_size for pool in pools), default=1)
        concurrent = settings.max_concurrent_transforms or slots
        # CreateTransformJob allows 100 MB for the product of the two.
        payload_mb = max(1, min(settings.max_body_bytes // MIB, 6 if concurrent * 6 <= 100 else 100 // concurrent))
        content = {
            "MaxConcurrentTransforms": concurrent,
            "BatchStrategy": settings.batch_strategy,
            "MaxPayloadInMB": payload_mb,
        }
        return Response(200, "application/json", json.dumps(content).encode())

    def _pool(self, name: str) -> ModelPool:
        pool = self.registry.get(name)
        if pool is None and not self.registry.pools and not self.settings.multi_model:
            raise NotReady("The server is starting.")
        return pool or self.registry.find(name)

    async def _metrics(self, exchange: Exchange) -> Response:  # noqa: ARG002 - a route like the others
        from tidegate.inference.frontend import prometheus_text  # noqa: PLC0415 - see server.py

        gauges = {name: pool.gauges for name, pool in self.registry.pools.items()}
        return Response(200, prometheus_text.CONTENT_TYPE, prometheus_text.render(gauges))


def _timing(ticket: Ticket) -> bytes:
    now_s = monotonic()
    parts = (("queue", ticket.sent_s - ticket.admitted_s), ("worker", now_s - ticket.sent_s))
    timing = ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in parts)
    return f"server-timing: {timing}\r\n".encode()
