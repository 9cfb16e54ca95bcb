"""What the paths of this server do, and which connections it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from heapq import nlargest
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

from tidegate.inference.conversation_frames import Opening
from tidegate.inference.errors import (
    Draining,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    NotReady,
    RequestError,
    UpgradeRequired,
)
from tidegate.inference.frontend.http.ask_model import AskModel, lines_for_worker
from tidegate.inference.frontend.http.ask_named_model import AskNamedModel
from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.open_inference import Models, OpenInference
from tidegate.inference.frontend.http.peer import Peer, Upgrade
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import CHAT, CONVERSE, AtOnce, InTask, Responder, Route
from tidegate.inference.frontend.http.response import Response, json_response
from tidegate.inference.frontend.http.websocket import WebSocket, WebSocketLimits, is_opening
from tidegate.inference.frontend.http.websocket_connection import Model, WebSocketConnection
from tidegate.inference.frontend.idle_exit import IdleExit, counts
from tidegate.inference.frontend.metrics import ModelGauges
from tidegate.inference.frontend.models.adapter_routes import AdapterRoutes
from tidegate.inference.frontend.models.loaded_models import LoadedModels
from tidegate.inference.frontend.models.model_routes import ModelRoutes
from tidegate.inference.frontend.models.registry import SINGLE_MODEL, Registry
from tidegate.inference.frontend.queue.budget import ByteBudget
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.queue.spool import Spool
from tidegate.inference.protocol import Form
from tidegate.inference.settings import MIB, Settings

if TYPE_CHECKING:  # imported where there is a repository: a server without one starts sooner
    from tidegate.inference.frontend.http.pages import Pages
    from tidegate.inference.frontend.http.repository_paths import RepositoryPaths
    from tidegate.inference.frontend.repository.repository import Repository

ROOM_AFTER_S = 1.0
"""How long a connection must have been idle before it has to make room for another."""
_CHAT = CHAT.split("/")[1:]
_INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
_PAGES = ", and TIDEGATE_PAGES=on serves /playground, /docs and /openapi.json"
_ELSEWHERE = {
    **dict.fromkeys(("/playground", "/docs", "/openapi.json", "/"), _PAGES),
    **dict.fromkeys(("/health", "/healthz", "/ready"), ", and the health check is GET /ping"),
}
"""What is said beside it of a path that people try."""


class Application:
    """The server as its connections see it."""

    def __init__(self, settings: Settings, registry: Registry, repository: Repository | None = None) -> None:
        self.settings = settings
        self.registry = registry
        self.repository = repository
        self.budget = ByteBudget(settings.max_bytes_in_flight)
        self.spool = Spool(settings, self.budget)
        self.limits = Limits.of(settings, self.spool.threshold_bytes)
        self.max_connections = settings.max_connections
        self.idle_exit = None if settings.idle_exit_s is None else IdleExit(settings.idle_exit_s)
        self.draining = False
        self.answering = 0
        self.connections: set[Peer] = set()
        self.connections_closed = 0
        """How many idle connections had to make room for others since somebody asked."""
        self.connections_refused = 0
        """How many clients found no room since somebody asked."""
        self._ids = count(1)
        self._id_prefix = os.urandom(4).hex()
        self._models = ModelRoutes(registry)
        models: Models = LoadedModels(settings, registry, self._ask, self._find)
        read = ("GET", "HEAD")
        ping, parameters, metrics = AtOnce(self._ping), AtOnce(self._execution_parameters), AtOnce(self._metrics)
        self._routes = {
            # The platform's text names GET and, once, POST for /ping.
            "/ping": Route(("GET", "POST", "HEAD"), lambda _: ping),
            "/execution-parameters": Route(read, lambda _: parameters),
            "/metrics": Route(read, lambda _: metrics),
        }
        self._of_repository: RepositoryPaths | None = None
        if repository is not None:
            from tidegate.inference.frontend.http.repository_paths import RepositoryPaths  # noqa: PLC0415 - see above
            from tidegate.inference.frontend.http.repository_tensors import RepositoryTensors  # noqa: PLC0415

            self._of_repository = RepositoryPaths(
                repository, registry.sessions, default=settings.default_model, timed=settings.server_timing
            )
            self._routes |= self._of_repository.fixed
            models = RepositoryTensors(self._of_repository)
        elif settings.multi_model:
            self._routes[CHAT] = Route(("POST",), lambda _: AskNamedModel(self._chat))
        else:
            invoke = Route(("POST",), self._ask_single)
            chat = Route(("POST",), lambda _: self._ask(SINGLE_MODEL, Form.CHAT))
            self._routes |= {"/invocations": invoke, f"/models/{SINGLE_MODEL}/invoke": invoke, CHAT: chat}
        self._open_inference = OpenInference(models, self._demand_ready)
        self._pages: Pages | None = None
        if settings.pages:
            from tidegate.inference.frontend.http.pages import Pages  # noqa: PLC0415 - on few servers

            max_body_bytes = self.limits.body.max_bytes
            self._pages = Pages(settings, registry, repository, max_body_bytes=max_body_bytes)
            self._routes |= self._pages.routes

    # --- what a connection asks

    def opened(self, peer: Peer) -> bool:
        """Whether one more connection may be open."""
        if len(self.connections) >= self.max_connections:
            self._make_room()
        if len(self.connections) >= self.max_connections:
            self.connections_refused += 1
            return False
        self.connections.add(peer)
        return True

    def _make_room(self) -> None:
        # Several at once: looking through all of them for each new client would be an attack's own work.
        now_s = monotonic()
        idle = [each for each in self.connections if each.idle_s(now_s) >= ROOM_AFTER_S]
        for peer in nlargest(1 + len(self.connections) // 16, idle, key=lambda each: each.idle_s(now_s)):
            self.connections.discard(peer)
            peer.close_if_idle()
            self.connections_closed += 1

    def closed(self, peer: Peer) -> None:
        """Forget a connection."""
        self.connections.discard(peer)

    def next_id(self) -> str:
        """An id for a request that brings none."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    def admit(self, request: Request) -> Responder:
        """What will answer a request; before its body is read. Raises `RequestError` for what cannot be answered."""
        request.id = (_INFERENCE_ID in request.by_name and request.header(_INFERENCE_ID)) or self.next_id()
        if self._pages is not None:
            self._pages.demand_own(request)
        methods, responder = self._routes.get(request.path) or self._route_of_models(request)
        if request.method not in methods:
            verbs = ", ".join(methods)
            raise MethodNotAllowed(f"{request.path} answers {verbs}, not {request.method}.", methods)
        if self.idle_exit is not None and counts(request.method, request.path):
            self.idle_exit.asked = True
        return responder(request)

    def refused(self, request: Request, error: RequestError) -> None:
        """Hear of a request that is refused without a responder having begun: for a server that logs requests."""

    def upgrade(self, request: Request) -> Upgrade | None:
        """What takes over the connection of a request that offers an upgrade; None where the offer is ignored.

        Raises `RequestError` for a WebSocket that cannot be opened.
        """
        if not is_opening(request.method, request.headers):
            return None
        paths = self._of_repository
        name = self._talks_to(request.path) if paths is None else None
        if name is None and (paths is None or not paths.talks(request.path)):
            return None
        if self._pages is not None:
            self._pages.demand_own(request)
        if self.draining:
            raise Draining("The server is stopping.")
        if self.idle_exit is not None:
            self.idle_exit.asked = True
        request.id = request.header(_INFERENCE_ID) or request.id
        if paths is not None:
            return paths.upgrade(self, request, self._converse)
        return self._converse(request, self._find(name or ""))

    def _converse(self, request: Request, pool: Model, said: Mapping[str, str] | None = None) -> Upgrade:
        """Open a WebSocket to the model of `pool`, with the headers in `said`. Raises `RequestError`."""
        settings = self.settings
        limits = WebSocketLimits(message_bytes=settings.max_message_bytes, frame_bytes=settings.max_frame_bytes)
        try:
            return WebSocketConnection(
                self,
                WebSocket(request.target.decode("latin-1"), request.headers, limits, said),
                pool,
                Opening(0, request.path, request.query, request.header(b"content-type"), lines_for_worker(request)),
                max_s=settings.max_conversation_s,
                ping_s=settings.ping_interval_s,
            )
        except RequestError as error:
            pool.metrics.responses[error.status] += 1
            raise

    def _talks_to(self, path: str) -> str | None:
        """The model whose `stream_fn` is at `path`; None where the path is another route's, or nobody's."""
        match path.split("/"):
            case ["", "models", name, last] if name and last == CONVERSE:
                return name
            case ["", "models" | "adapters", *_]:
                return None
        # A client of the platform chooses the path (X-Amzn-SageMaker-Model-Invocation-Path).
        return None if path in self._routes or self.settings.multi_model else SINGLE_MODEL

    def _find(self, name: str) -> ModelPool:
        pool = self.registry.get(name)
        if pool is None:
            if not self.registry.pools and not self.settings.multi_model:
                raise NotReady("The server is starting.")
            pool = self.registry.find(name)
        return pool

    def _ask_single(self, request: Request) -> Responder:  # noqa: ARG002 - a route like the others
        return self._ask(SINGLE_MODEL)

    def _ask(self, name: str, form: Form = Form.PLAIN) -> Responder:
        pool = self.registry.get(name)
        if pool is None:
            pool = self._find(name)
        pool.admit()
        return AskModel(pool, self.registry.sessions, timed=self.settings.server_timing, form=form)

    def _adapters(self) -> Responder:
        settings = self.settings
        routes = AdapterRoutes(
            self._find(SINGLE_MODEL), adapters_dir=settings.adapters_dir, timeout_s=settings.timeout_s
        )
        return InTask(routes.answer)

    def _chat(self, name: str) -> Responder:
        """What answers a chat whose body names a model. Raises `ModelNotFound`."""
        if self.registry.get(name) is None:
            what = f"There is no model '{name[:200]}' here" if name else "The body does not say to which model it goes"
            raise ModelNotFound(
                f"{what}: 'model' must be the name of a loaded one. GET /models lists them, POST /models loads "
                f"another, and each is at /models/NAME{CHAT} too.",
                param="model",
            )
        return self._ask(name, Form.CHAT)

    def _route_of_models(self, request: Request) -> Route:
        multi_model, (_, *path) = self.settings.multi_model, request.path.split("/")
        if path[:1] == ["v2"]:
            return self._open_inference.route(path[1:])
        if self._of_repository is not None:
            return self._of_repository.route(request.path)
        match path:
            case ["models"]:
                return Route(("GET", "POST") if multi_model else ("GET",), lambda _: InTask(self._models.answer))
            case ["models", name] if name:
                return Route(("GET", "DELETE") if multi_model else ("GET",), lambda _: InTask(self._models.answer))
            case ["models", name, "invoke"] if name:
                return Route(("POST",), lambda _: self._ask(name))
            case ["models", name, *rest] if name and rest == _CHAT:
                return Route(("POST",), lambda _: self._ask(name, Form.CHAT))
            case ["models", _, last] | [last] if last == CONVERSE and (len(path) > 1 or not multi_model):
                raise UpgradeRequired(f"{request.path[:200]} is a WebSocket: GET it with 'Upgrade: websocket'.")
            case ["adapters", *_] if multi_model:
                raise NotFound("There are no adapters here: put them into the model's archive, or load it as a model.")
            case ["adapters"]:
                return Route(("GET", "POST"), lambda _: self._adapters())
            case ["adapters", name] if name:
                return Route(("GET", "DELETE"), lambda _: self._adapters())
        where = "POST /models/NAME/invoke" if multi_model else "POST /invocations"
        known = _ELSEWHERE.get(request.path, "")
        raise NotFound(f"There is nothing at {request.path[:200]}; predictions are at {where}{known}.")

    def idle_for_too_long(self, now_s: float) -> bool:
        """Whether the server was to end by itself by now (TIDEGATE_IDLE_EXIT_S). Asked twice a second."""
        return self.idle_exit is not None and self.idle_exit.over(now_s, busy=self._busy())

    def _busy(self) -> bool:
        try:
            self._demand_ready()
        except RequestError:
            return True  # it starts, or ends already
        return any(peer.at_work for peer in self.connections)

    # --- the routes that know their answer

    def _ping(self, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        self._demand_ready()
        return Response(200, "application/json", b"")

    def _demand_ready(self) -> None:
        """Raise the error that says why the server should be sent nothing now."""
        if self.draining:
            raise Draining("The server is stopping.")
        if self.settings.many_models:
            # Healthy without any model; a model that is ill is no fault of the instance.
            if not self.registry.ready:
                raise NotReady("The server is starting.")
            if self.repository is not None and not self.repository.ready:
                raise NotReady(self.repository.starting)
            return
        for pool in self.registry.pools.values():
            if not pool.healthy:
                raise NotReady(f"The model '{pool.spec.name}' is not ready.")
        if not self.registry.pools:
            raise NotReady("The server is starting.")

    def _execution_parameters(self, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        settings = self.settings
        pools = self.registry.pools.values()
        slots = max((pool.limits.slots for pool in pools), default=settings.workers or 1)
        concurrent = settings.max_concurrent_transforms or slots
        # CreateTransformJob allows 100 MB for the product of the two.
        payload_mb = max(1, min(settings.max_body_bytes // MIB, 6 if concurrent * 6 <= 100 else 100 // concurrent))
        content = {
            "MaxConcurrentTransforms": concurrent,
            "BatchStrategy": settings.batch_strategy,
            "MaxPayloadInMB": payload_mb,
        }
        return json_response(content)

    def _metrics(self, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        from tidegate.inference.frontend import prometheus_text  # noqa: PLC0415 - see server.py

        models, of_repository = self.registry.gauges(), None
        if self.repository is not None:
            models[""] = ModelGauges(metrics=self.repository.own_metrics, waiting=0, computing=0, workers={})
            of_repository = self.repository.gauges()
        return Response(200, prometheus_text.CONTENT_TYPE, prometheus_text.render(models, of_repository))
