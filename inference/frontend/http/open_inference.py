"""The routes of the open inference protocol, KServe's and Triton's "v2", with Triton's model repository extension.

Tensors are read and written in the worker; here are the paths, and what is known of the models without asking one.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and
docs/protocol/extension_model_repository.md of https://github.com/triton-inference-server/server.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from tidegate.inference.errors import BadRequest, NotFound, PayloadTooLarge
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import AtOnce, InTask, Responder, Route
from tidegate.inference.frontend.http.response import Response, json_response
from tidegate.inference.version import own_version

EXTENSIONS = ("binary_tensor_data", "model_repository")
MAX_READ_BYTES = 64 * 1024
"""The longest body that is read in the loop of all connections; those that load a model hold a few names."""
_READ = ("GET", "HEAD")


class Described(NamedTuple):
    """One model, as its metadata has it. Each tensor is its `name`, `datatype` and `shape`."""

    versions: tuple[str, ...]
    inputs: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()


class Indexed(NamedTuple):
    """One version of a model, as the index has it."""

    name: str
    version: str
    ready: bool
    state: str
    """READY, LOADING, UNLOADING or UNAVAILABLE."""
    reason: str = ""


class Models(Protocol):
    """The models of this server. A version is None where the client names none; it is a number, `latest` or a label."""

    def ask(self, request: Request, name: str, version: str | None) -> Responder:
        """What answers a request for inference; its path names both. Raises `RequestError`."""

    def describe(self, name: str, version: str | None) -> Described:
        """What is known of a model. Raises `RequestError` where it or its version is not known."""

    def demand_ready(self, name: str, version: str | None) -> None:
        """Raise `RequestError` unless the model would answer now."""

    def index(self) -> AsyncIterator[Indexed]:
        """All models that are here, or could be loaded."""

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Return when the model is loaded. Raises `RequestError`."""

    async def unload(self, name: str) -> None:
        """Return when it is gone. Raises `RequestError`."""


class OpenInference:
    """Finds what answers a path below /v2."""

    def __init__(self, models: Models, demand_server_ready: Callable[[], None]) -> None:
        self._models = models
        self._demand_server_ready = demand_server_ready

    def route(self, path: list[str]) -> Route:
        """The route of `path`, what follows /v2 cut at its slashes. Raises `NotFound`."""
        match path:
            case []:
                return _get(self._server)
            case ["health", "live"]:
                return _get(lambda _: json_response({"live": True}))
            case ["health", "ready"]:
                return _get(self._server_ready)
            case ["repository", "index"]:
                return Route(("POST",), lambda _: InTask(self._index))
            case ["repository", "models", name, ("load" | "unload") as action] if name:
                change = self._load if action == "load" else self._unload
                return Route(("POST",), lambda _: InTask(partial(change, name)))
            case ["models", name, "versions", version, *rest] if name and version:
                found = self._of_model(name, version, rest)
            case ["models", name, *rest] if name:
                found = self._of_model(name, None, rest)
            case _:
                found = None
        if found is None:
            where = "/".join(("/v2", *path))[:200]
            raise NotFound(f"There is nothing at {where}; tensors are sent to POST /v2/models/NAME/infer.")
        return found

    def _of_model(self, name: str, version: str | None, rest: list[str]) -> Route | None:
        match rest:
            case ["infer"]:
                return Route(("POST",), lambda request: self._models.ask(request, name, version))
            case []:
                return _get(lambda _: self._model(name, version))
            case ["ready"]:
                return _get(lambda _: self._model_ready(name, version))
        return None

    def _server(self, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        return json_response({"name": "tidegate", "version": own_version(), "extensions": EXTENSIONS})

    def _server_ready(self, request: Request) -> Response:  # noqa: ARG002 - a route like the others
        self._demand_server_ready()
        return json_response({"live": True, "ready": True})  # the protocol's text says `live` here too

    def _model(self, name: str, version: str | None) -> Response:
        found = self._models.describe(name, version)
        return json_response({"name": name, "platform": "pytorch", **found._asdict()})

    def _model_ready(self, name: str, version: str | None) -> Response:
        self._models.demand_ready(name, version)
        return json_response({"name": name, "ready": True})

    async def _index(self, request: Request) -> Response:
        only_ready = _object(request).get("ready", False)
        if not isinstance(only_ready, bool):
            raise BadRequest("'ready' must be true or false.")
        # Entry by entry: of ten thousand models, all of them at once would keep others waiting.
        entries = [_entry(each) async for each in self._models.index() if each.ready or not only_ready]
        return Response(200, "application/json", f"[{', '.join(entries)}]".encode())

    async def _load(self, name: str, request: Request) -> Response:
        await self._models.load(name, _parameters(request))
        return json_response({})

    async def _unload(self, name: str, request: Request) -> Response:
        _parameters(request)
        await self._models.unload(name)
        return json_response({})


def _get(respond: Callable[[Request], Response]) -> Route:
    return Route(_READ, lambda _: AtOnce(respond))


def _parameters(request: Request) -> Mapping[str, Any]:
    parameters = _object(request).get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest("'parameters' must be an object.")
    return parameters


def _object(request: Request) -> dict[str, Any]:
    """The object that is the body; an empty one where there is no body."""
    if request.body.size > MAX_READ_BYTES:
        raise PayloadTooLarge(f"The body has {request.body.size} bytes; {MAX_READ_BYTES} are read here.")
    data = request.body.whole()
    try:
        content = json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BadRequest("The body must be empty or a JSON object.")
    return content


def _entry(each: Indexed) -> str:
    return json.dumps({"name": each.name, "version": each.version, "state": each.state, "reason": each.reason})
