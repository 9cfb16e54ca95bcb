"""The description of this server: the paths of its mode, each for the models that are loaded now.

Only what is served: a path that the server would answer with 404 is left out, and tests ask for every other one.
What OpenAPI cannot say (the messages of a WebSocket) is said in words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from tidegate.inference.errors import ModelNotFound, NotFound, NotReady, VersionNotFound
from tidegate.inference.frontend.http.responders import CHAT, CONVERSE
from tidegate.inference.frontend.models.registry import SINGLE_MODEL
from tidegate.inference.frontend.openapi import error_responses as errors
from tidegate.inference.frontend.openapi.described_model import DescribedModel, LoadedModel, described, plain
from tidegate.inference.frontend.openapi.operations import (
    JSON,
    REQUEST_HEADERS,
    TEXT,
    Operations,
    answer,
    json_answer,
    json_object,
    named,
)
from tidegate.inference.frontend.openapi.schemas import ANYTHING
from tidegate.inference.version import own_version

VERSION = "3.1.1"
MAX_MODELS = 20
"""Loaded revisions that are described one by one; others are asked by the paths with a name in them."""
_EVENTS = "text/event-stream"
_PREDICTIONS, _CHATS, _SOCKETS = "Predictions", "Chat completions", "WebSockets"
_MODELS, _ADAPTERS, _TENSORS, _SERVER = "Models", "Adapters", "Open inference protocol", "Server"
_TAGS = {
    _PREDICTIONS: "What InvokeEndpoint and InvokeEndpointWithResponseStream ask of the container.",
    _CHATS: "OpenAI's chat completions, which the script's `chat_fn` answers.",
    _SOCKETS: "InvokeEndpointWithBidirectionalStream opens a WebSocket, whose messages OpenAPI cannot describe.",
    _MODELS: "The models of this server.",
    _ADAPTERS: "Adapters (LoRA and its like) of the model.",
    _TENSORS: "KServe's and Triton's v2: named tensors.",
    _SERVER: "Health, metrics, and what a transform job asks.",
}


class Mode(StrEnum):
    """Which paths the server has."""

    SINGLE = "single"
    MULTI = "multi-model"
    REPOSITORY = "repository"


_MODES = {
    Mode.SINGLE: "It serves one model.",
    Mode.MULTI: "It serves several models (SageMaker's multi-model contract): `POST /models` loads one, and "
    "InvokeEndpoint's TargetModel becomes the name in the path.",
    Mode.REPOSITORY: "It serves a model repository: paths and the header `X-Amzn-SageMaker-Custom-Attributes` choose "
    "model and version. A model that is not loaded is loaded by its first request, and described from then on.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the description is made from, besides the files of the models: taken at one moment."""

    mode: Mode
    url: str
    loaded: tuple[LoadedModel, ...]
    """By name and version."""
    default: tuple[str, int | None] | None = None
    """Which of them answers where a request names none; None where nobody does."""
    unversioned: Mapping[str, int] = field(default_factory=dict)
    """In a repository, which version answers now where a request names a model alone."""
    sessions: bool
    default_accept: str
    max_body_bytes: int
    max_response_bytes: int
    max_queue_wait_s: float
    queue_size: int
    timeout_s: float


def document(facts: Facts) -> bytes:
    """The description as JSON. Reads files, and so belongs into a thread."""
    models = [described(each, default_accept=facts.default_accept) for each in facts.loaded[:MAX_MODELS]]
    return json.dumps(_Document(facts, models).whole(), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


class _Document:
    def __init__(self, facts: Facts, models: list[DescribedModel]) -> None:
        self._facts = facts
        self._models = models
        known = {"model_name": models[0].loaded.name, "version": "latest"} if models else {}
        self._operations = Operations(known=known)
        self._headers = (
            *(each if each != "CustomAttributes" or facts.mode is not Mode.REPOSITORY else "ModelChoice"
              for each in REQUEST_HEADERS),
            *(["SessionId"] if facts.sessions else []),
            *(["TargetModel"] if facts.mode is Mode.MULTI else []),
        )  # fmt: skip
        self._choosing = errors.REPOSITORY if facts.mode is Mode.REPOSITORY else ()
        """What choosing a model may end with."""

    def whole(self) -> dict[str, Any]:
        facts = self._facts
        self._predictions()
        self._all_chats()
        self._sockets()
        self._models_paths()
        if facts.mode is Mode.SINGLE:
            self._adapters()
        self._tensors()
        self._server()
        operations = self._operations
        used = {tag for verbs in operations.paths.values() for each in verbs.values() for tag in each["tags"]}
        return {
            "openapi": VERSION,
            "info": self._info(),
            "servers": [{"url": facts.url, "description": "this server, on this machine only"}],
            "tags": [{"name": name, "description": words} for name, words in _TAGS.items() if name in used],
            "paths": operations.paths,
            "components": {
                "schemas": errors.schemas(),
                "parameters": operations.parameters,
                "responses": operations.errors.components,
            },
            "x-tidegate-limits": {
                "max_body_bytes": facts.max_body_bytes,
                "max_response_bytes": facts.max_response_bytes,
                "timeout_s": facts.timeout_s,
                "max_queue_wait_s": facts.max_queue_wait_s,
                "queue_size": facts.queue_size,
            },
        }

    def _info(self) -> dict[str, Any]:
        facts, model = self._facts, self._models[0] if self._models else None
        only = model if facts.mode is Mode.SINGLE else None
        lines = [f"A Tidegate server, version {own_version()}. {_MODES[facts.mode]}"]
        if only is not None and only.made:
            lines.append("The version is the git revision of the model's code, or the time when the model was saved.")
        if only is not None and only.note:
            lines.append(only.note)
        if not facts.loaded:
            lines.append("No model is loaded now. A model is described here once it is loaded.")
        if len(facts.loaded) > MAX_MODELS:
            lines.append(
                f"{len(facts.loaded)} models are loaded; {MAX_MODELS} of them have operations of their own here."
            )
        lines.append(
            "`HEAD` is answered where `GET` is, but for lists of models and adapters. A verb that a path does not have "
            "is answered with 405 (`method_not_allowed`), a path that is not here with 404 (`not_found`)."
        )
        told = {
            "title": (only.title if only is not None else "") or "Tidegate",
            "version": (only.made if only is not None else "") or own_version(),
            "description": "\n\n".join(lines),
        }
        return told | ({"x-tidegate-lineage": only.lineage} if only is not None and only.lineage else {})

    # --- predictions

    def _ways(self) -> Iterator[tuple[str, str, DescribedModel | None]]:
        """Where predictions are asked: the path before `/invoke`, what names it, and who answers there."""
        facts = self._facts
        for model in self._models:
            name, version = model.loaded.name, model.loaded.version
            if name.strip(".") == "":
                continue  # clients take a path with such a name for another one
            below = f"/models/{quote(name, safe='')}"
            if version is None or facts.unversioned.get(name) == version:
                yield below, name, model
            if version is not None:
                yield f"{below}/versions/{version}", f"{name} {version}", model
        if facts.mode is not Mode.SINGLE:
            yield "/models/{model_name}", "a model", None
        if facts.mode is Mode.REPOSITORY:
            yield "/models/{model_name}/versions/{version}", "a version of a model", None

    def _predictions(self) -> None:
        if self._facts.mode is not Mode.MULTI:
            self._predict("/invocations", "", self._default)
        for below, words, model in self._ways():
            self._predict(f"{below}/invoke", words, model)

    @property
    def _default(self) -> DescribedModel | None:
        wanted = self._facts.default
        found = (each for each in self._models if (each.loaded.name, each.loaded.version) == wanted)
        return next(found, None)

    def _predict(self, path: str, words: str, model: DescribedModel | None) -> None:
        kinds = (errors.PREDICTION, self._choosing, (NotFound,) if "/models/" in path else ())
        alone = self._facts.mode is Mode.SINGLE
        shown = "" if alone or not words else f" of {plain(words) or 'this model'}"
        self._operations.add(
            "post",
            path,
            f"Ask for a prediction{shown}",
            name=f"invoke {'' if alone and path == '/invocations' else words if words else ''}",
            tag=_PREDICTIONS,
            description=self._said_of(model),
            parameters=self._headers,
            request=model.request if model is not None else {ANYTHING: {"schema": {}}},
            body_required=model is not None and model.loaded.bodies["reads"] is not None,
            answers={"200": self._predicted(model)},
            errors=kinds,
            extensions=_asked(model, path),
        )

    def _predicted(self, model: DescribedModel | None) -> dict[str, Any]:
        told = answer(
            "The answer, of the type that Accept asks for. What a script yields is sent as it comes.",
            model.answer if model is not None else {ANYTHING: {"schema": {}}},
        )
        if self._facts.mode is Mode.REPOSITORY:
            words = "Which model and version answered: `model=NAME;version=V`."
            told["headers"] = {
                "X-Amzn-SageMaker-Custom-Attributes": {"description": words, "schema": {"type": "string"}}
            }
        return told

    def _said_of(self, model: DescribedModel | None) -> str:
        facts = self._facts
        timeout_s = facts.timeout_s if model is None else model.loaded.timeout_s
        lines = [
            f"A body has at most {facts.max_body_bytes} bytes (413). User code may take {timeout_s:g} s (504), a "
            f"request may wait {facts.max_queue_wait_s:g} s for a worker, and {facts.queue_size} may wait (503).",
        ]
        if model is None:
            return lines[0]
        loaded = model.loaded
        if loaded.finds_batch_size:
            lines.append("How many requests share one call of the model is found on live traffic.")
        elif loaded.max_batch_size > 1:
            lines.append(
                f"Up to {loaded.max_batch_size} requests that come within {1000 * loaded.max_wait_s:g} ms may share a "
                "call of the model, where that changes no answer."
            )
        if loaded.bodies["reads"] is None:
            lines.append("A function of the script reads the body: only that knows all types that it takes.")
        if loaded.bodies["writes"] is None:
            lines.append("A function of the script writes the answer: only that knows all types that it gives.")
        return "\n\n".join([*lines, *([model.note] if model.note and facts.mode is not Mode.SINGLE else [])])

    # --- chats and conversations

    def _all_chats(self) -> None:
        chatting = [each for each in self._models if each.loaded.bodies["chats"]]
        if not chatting:
            return
        alone = self._facts.mode is Mode.SINGLE
        self._chat(CHAT, chatting[0], () if alone else (ModelNotFound,), any_model=not alone)
        for below, words, model in self._ways():
            if model is None or model.loaded.bodies["chats"]:
                self._chat(f"{below}{CHAT}", model or chatting[0], (NotFound,), words=words)

    def _chat(
        self, path: str, model: DescribedModel, more: errors.Kinds, *, any_model: bool = False, words: str = ""
    ) -> None:
        text = {"type": "string"}
        message = json_object(role=text)
        request = {
            "type": "object",
            "required": ["messages", *(["model"] if any_model else [])],
            "properties": {
                "model": {**text, "description": "The name of a loaded model." if any_model else "Any text."},
                "messages": {"type": "array", "minItems": 1, "items": message},
                "stream": {"type": ["boolean", "null"], "description": f"Answer as {_EVENTS}."},
                "stream_options": {"type": ["object", "null"]},
                "n": {"enum": [1, None]},
            },
        }
        messages = [{"role": "user", "content": "Hello"}]
        example = {"summary": "A question", "value": {"model": model.loaded.name, "messages": messages}}
        choice = json_object(index={"type": "integer"}, message=message, finish_reason=text)
        chat = json_object(id=text, object=text, created={"type": "integer"}, model=text,
                           choices={"type": "array", "items": choice})  # fmt: skip
        self._operations.add(
            "post",
            path,
            f"Chat{f' with {plain(words)}' if words and path != CHAT and plain(words) else ''}",
            name=f"chat {words}",
            tag=_CHATS,
            parameters=self._headers,
            request={JSON: {"schema": request, "examples": {"question": example}}},
            answers={
                "200": answer(
                    "The answer; with `stream`, server-sent events that end with `data: [DONE]`.",
                    {JSON: {"schema": chat}, _EVENTS: {"schema": text}},
                )
            },
            errors=(errors.PREDICTION, self._choosing, more),
            extensions=_asked(model, path),
        )

    def _sockets(self) -> None:
        talking = [each for each in self._models if each.loaded.converses]
        if not talking:
            return
        if self._facts.mode is not Mode.MULTI:
            self._socket(f"/{CONVERSE}")
        for below, words, model in self._ways():
            if model is None or model.loaded.converses:
                self._socket(f"{below}/{CONVERSE}", words)

    def _socket(self, path: str, words: str = "") -> None:
        told = "A WebSocket client opens it."
        if path == f"/{CONVERSE}":  # (X-Amzn-SageMaker-Model-Invocation-Path)
            told += " So it does at any other path that is not listed here: SageMaker lets its clients choose one."
        self._operations.add(
            "get",
            path,
            f"Open a WebSocket{f' to {plain(words)}' if plain(words) else ''}",
            name=f"converse {words}",
            tag=_SOCKETS,
            description=f"{told} What its messages hold is the `stream_fn` of the script to say.",
            parameters=self._headers[:2],
            answers={"101": answer("The connection is a WebSocket from here on.")},
            errors=(errors.CONVERSATION, self._choosing),
        )

    # --- models, adapters, tensors

    def _models_paths(self) -> None:
        add, text = self._operations.add, {"type": "string"}
        entry = json_object(modelName=text, modelUrl=text)
        listed = self._choosing and (NotReady, ModelNotFound)
        add(
            "get",
            "/models",
            "List models",
            tag=_MODELS,
            parameters=("Limit", "NextPageToken"),
            answers={"200": json_answer("A page of them.", models={"type": "array", "items": entry},
                                        optional={"nextPageToken": text})},
            errors=(listed,),
        )  # fmt: skip
        of_one = f"/models/{SINGLE_MODEL}" if self._facts.mode is Mode.SINGLE else "/models/{model_name}"
        missing = (NotFound,)
        answers = {"200": answer("What is known of it.", {JSON: {"schema": entry}})}
        add("get", of_one, "Describe a model", tag=_MODELS, answers=answers, errors=(listed, missing))
        if self._facts.mode is Mode.MULTI:
            example = {"model_name": "NAME", "url": "/opt/ml/models/NAME/model"}
            asked = {JSON: {"schema": json_object(model_name=text, url=text), "example": example}}
            done = {"200": json_answer("It is loaded.", status=text)}
            add("post", "/models", "Load a model", tag=_MODELS, request=asked, answers=done, errors=(errors.LOADING,))
            gone = {"200": json_answer("It is gone, and its memory is free.", status=text)}
            add("delete", of_one, "Unload a model", tag=_MODELS, answers=gone, errors=(missing,))

    def _adapters(self) -> None:
        add, text = self._operations.add, {"type": "string"}
        kinds = (errors.ADAPTER,)
        entry = json_object(name=text, src=text, pin={"type": "boolean"}, state=text, requests={"type": "integer"})
        listed = json_answer("All of them.", adapters={"type": "array", "items": entry})
        add("get", "/adapters", "List adapters", tag=_ADAPTERS, answers={"200": listed}, errors=kinds)
        wanted = json_object(name=text, src=text, optional={"preload": {"type": "boolean"}, "pin": {"type": "boolean"}})
        example = {"name": "NAME", "src": "adapters/NAME", "preload": True, "pin": False}
        asked = {JSON: {"schema": wanted, "example": example}}
        done = {"200": answer("It is registered.", named("Said", TEXT))}
        add("post", "/adapters", "Register an adapter", tag=_ADAPTERS, request=asked, answers=done, errors=kinds)
        one = {"200": answer("What is known of it.", {JSON: {"schema": entry}})}
        add("get", "/adapters/{adapter_name}", "Describe an adapter", tag=_ADAPTERS, answers=one, errors=kinds)
        gone = {"200": answer("It is gone.", named("Said", TEXT))}
        add("delete", "/adapters/{adapter_name}", "Remove an adapter", tag=_ADAPTERS, answers=gone, errors=kinds)

    def _tensors(self) -> None:
        facts, text, flag = self._facts, {"type": "string"}, {"type": "boolean"}
        one = SINGLE_MODEL if facts.mode is Mode.SINGLE else "{model_name}"

        def add(verb: str, path: str, summary: str, kinds: tuple[errors.Kinds, ...] = (), **more: Any) -> None:
            self._operations.add(verb, path, summary, tag=_TENSORS, errors=kinds, open_inference=True, **more)

        server = json_answer("The server.", name=text, version=text, extensions={"type": "array", "items": text})
        add("get", "/v2", "Describe the server", answers={"200": server})
        live = json_answer("It is up.", live=flag)
        add("get", "/v2/health/live", "Whether the server is up", answers={"200": live})
        ready = json_answer("It takes requests.", ready=flag)
        starting = (errors.STARTING,)
        add("get", "/v2/health/ready", "Whether the server is ready", starting, answers={"200": ready})
        tensor = json_object(name=text, datatype=text, shape={"type": "array", "items": {"type": "integer"}})
        tensors = {"type": "array", "items": tensor}
        about = json_answer(
            "Its tensors, as far as they are known.",
            name=text, platform=text, versions={"type": "array", "items": text}, inputs=tensors, outputs=tensors,
        )  # fmt: skip
        with_data = {"type": "array", "minItems": 1, "items": tensor}
        asked = {
            JSON: {
                "schema": json_object(
                    inputs=with_data, optional={"id": text, "outputs": {"type": "array", "items": {"type": "object"}}}
                )
            }
        }
        given = json_answer("The outputs.", model_name=text, outputs=tensors)
        given["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        kinds = ((NotFound, VersionNotFound), self._choosing)
        for below in (f"/v2/models/{one}", f"/v2/models/{one}/versions/{{version}}"):
            add("get", below, "Describe a model's tensors", kinds, answers={"200": about})
            there = {"200": json_answer("It is.", name=text, ready=flag)}
            add("get", f"{below}/ready", "Whether a model is ready", (*kinds, *starting), answers=there)
            add(
                "post",
                f"{below}/infer",
                "Ask for a prediction by named tensors",
                (*kinds, errors.PREDICTION),
                parameters=(*self._headers, "InferenceHeaderContentLength"),
                request=asked | {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                answers={"200": given},
            )
        listed = json_object(name=text, version=text, state=text, reason=text)
        index = answer("All of them.", {JSON: {"schema": {"type": "array", "items": listed}}})
        wanted = {JSON: {"schema": json_object(optional={"ready": flag}), "example": {}}}
        add("post", "/v2/repository/index", "List models", starting, request=wanted, body_required=False,
            answers={"200": index})  # fmt: skip
        if facts.mode is Mode.SINGLE:
            return  # it has one model, from its start to its end
        parameters = {JSON: {"schema": json_object(optional={"parameters": {"type": "object"}}), "example": {}}}
        for action, words in (("load", "Load a model"), ("unload", "Unload a model")):
            add(
                "post",
                f"/v2/repository/models/{{model_name}}/{action}",
                words,
                (*kinds, errors.LOADING),
                request=parameters,
                body_required=False,
                answers={"200": json_answer("It is done.")},
            )

    # --- the server

    def _server(self) -> None:
        add = self._operations.add
        healthy = {"200": answer("It takes requests. The body is empty.")}
        for verb in ("get", "post"):
            add(verb, "/ping", "Whether the server is healthy", tag=_SERVER, answers=healthy, errors=(errors.STARTING,))
        metrics = {"200": answer("The metrics in Prometheus's text form.", named("Metrics"))}
        add("get", "/metrics", "Metrics", tag=_SERVER, answers=metrics)
        number = {"type": "integer", "minimum": 1}
        parameters = json_answer(
            "What a transform job is to do.",
            MaxConcurrentTransforms=number, BatchStrategy={"enum": ["MULTI_RECORD", "SINGLE_RECORD"]},
            MaxPayloadInMB=number,
        )  # fmt: skip
        words = "What a transform job asks before it begins"
        add("get", "/execution-parameters", words, tag=_SERVER, answers={"200": parameters})


def _asked(model: DescribedModel | None, path: str) -> Mapping[str, Any]:
    """Which model of the playground an operation asks."""
    if model is None or "{" in path:
        return {}
    loaded = model.loaded
    version = {} if loaded.version is None else {"version": str(loaded.version)}
    return {"x-tidegate-playground": {"model": loaded.name, **version}}
