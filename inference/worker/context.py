"""The `context` that user functions may take as their last argument, as TorchServe made it.

It is one object for the worker's life; what it says about requests changes with each call. Index 0 is the request
at hand in `input_fn` and `output_fn`; in a `predict_fn` that computes a batch, the indices follow the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch

from tidegate.inference import protocol
from tidegate.inference.protocol import ADAPTER_HEADER, REQUEST_ID_HEADER, SESSION_HEADER
from tidegate.inference.request_trace import fields_of_all, request_id_in
from tidegate.inference.worker.session import Session, session_of
from tidegate.inference.worker.user_metrics import Metrics

ADAPTER_LINE = ADAPTER_HEADER.encode()
"""Where this is not in the headers of a request, it asks for no adapter."""
ENCODING_LINE = b"content-encoding: "
"""Where this is not in them, its body is as it is; the frontend writes names in lower case."""


class RequestProcessor:
    """One request's headers, and what user code decided about its response."""

    def __init__(self, received: protocol.Request) -> None:
        self._received = received
        self.response_content_type: str | None = None
        self.response_headers: dict[str, str] = {}
        self.response_status: int | None = None

    @cached_property
    def _headers(self) -> dict[str, str]:
        lines = (line.partition(": ") for line in self._received.headers.decode("latin-1").split("\r\n"))
        # Not splitlines(): it also ends a line at \x85, which is part of many UTF-8 characters.
        headers = {name: value for name, _, value in lines}
        headers["content-type"] = self._received.content_type
        headers["accept"] = self._received.accept
        return {name: value for name, value in headers.items() if value}

    @property
    def header_lines(self) -> bytes:
        """The headers as lines, each with its CRLF."""
        return self._received.headers

    @property
    def adapter(self) -> str | None:
        """The adapter that the request asks for; None for the model as it was loaded."""
        if ADAPTER_LINE not in self._received.headers:
            return None
        return self.get_request_property(ADAPTER_HEADER)

    @property
    def decisions(self) -> tuple[str | None, dict[str, str], int | None]:
        """What is decided about the response so far, to go back to when a call has to be made again."""
        return self.response_content_type, dict(self.response_headers), self.response_status

    @decisions.setter
    def decisions(self, decisions: tuple[str | None, dict[str, str], int | None]) -> None:
        self.response_content_type, self.response_headers, self.response_status = decisions

    def take_content_encoding(self) -> str | None:
        """What the Content-Encoding header says, which is gone from then on: the server unpacks the body."""
        name = ENCODING_LINE
        if name not in self._received.headers:
            return None
        self._headers.pop("content-encoding", None)
        lines = self._received.headers.split(b"\r\n")
        return ", ".join(line.removeprefix(name).decode("latin-1") for line in lines if line.startswith(name)) or None

    def get_request_property(self, key: str) -> str | None:
        """A request header by name, in any case."""
        return self._headers.get(key.lower())

    def get_request_properties(self) -> dict[str, str]:
        """All request headers, by lower-case name."""
        return dict(self._headers)

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:  # noqa: ARG002 - HTTP has no use for it
        """Answer with this HTTP status."""
        self.response_status = int(code)

    def add_response_property(self, key: str, value: str) -> None:
        """Add a response header; one called Content-Type sets the answer's type."""
        if key.lower() == "content-type":
            self.response_content_type = value
        else:
            self.response_headers[key] = value

    def get_response_status_code(self) -> int:
        """The status that is set so far."""
        return self.response_status or 200

    def get_response_status_phrase(self) -> str | None:
        """Nothing: HTTP clients go by the number."""
        return None

    def get_response_headers(self) -> dict[str, str]:
        """The headers that are set so far, with the content type where it is."""
        typed = {"content-type": self.response_content_type} if self.response_content_type else {}
        return {**self.response_headers, **typed}

    def get_response_header(self, key: str) -> str | None:
        """One header that is set so far, in any case."""
        return next((value for name, value in self.get_response_headers().items() if name.lower() == key.lower()), None)


class Told(Protocol):
    """A request at hand, whose processor may be made only now."""

    @property
    def processor(self) -> RequestProcessor: ...


class _Given(NamedTuple):
    processor: RequestProcessor


IN_CONVERSATION: ContextVar[Sequence[Told]] = ContextVar("in_conversation", default=())
"""The request that opened the conversation at hand, where a `stream_fn` runs."""

_OWN = frozenset({"request_processor", "asked", "kept"})
"""The attributes that the server itself sets while there are requests."""


class Context:
    """What user code can learn about its surroundings and set on its responses."""

    def __init__(
        self,
        *,
        model_name: str,
        manifest: dict[str, Any],
        system_properties: dict[str, Any],
        sessions_dir: str | None = None,
        model_version: int = 1,
        get_model: Callable[[str | None, str], Any] | None = None,
        devices: Sequence[torch.device] = (),
    ) -> None:
        self.model_name = model_name
        self.model_version = model_version
        self.manifest = manifest
        self.system_properties = system_properties
        self.model_yaml_config: dict[str, Any] = {}
        self.devices = tuple(devices) or (torch.device("cpu"),)
        """Where the worker computes: the GPUs that are its own, or the CPU."""
        self.device = self.devices[0]
        """The first of them, which is torch's current device."""
        self.metrics = Metrics(self._id_for_metrics)
        self._sessions_dir = sessions_dir
        self._get_model = get_model
        self._verified_form: Callable[[], Any] = lambda: None
        self._here = threading.local()
        # Each thread of user code has requests of its own, and so has each task of the event loop.
        self._requests: ContextVar[Sequence[Told]] = ContextVar("requests", default=())
        self.kept: str | None = None
        """An attribute that the script has set while there was a request at hand; None where there is none."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name not in _OWN and "_requests" in self.__dict__ and len(self._requests.get()) > 0:
            self.kept = name

    def get_model(self, name: str | None = None, version: str | int = "latest") -> Any:
        """A model of the repository, loaded in this process: by the script's `load_model(model_path)`, else as usual.

        `version` is a number, `latest` or a label; `name` may be left out where the repository has one model. It is
        kept here until its room is needed for another: ask for it at each request, and keep no reference.

        Raises `RequestError`, which has `status`, `code` and `message`, and answers the request if it is not caught.
        """
        if self._get_model is None:
            raise RuntimeError("context.get_model needs a model repository: set TIDEGATE_MODEL_REPOSITORY.")
        return self._get_model(None if name is None else str(name), str(version))

    def verified_form(self) -> Any:
        """A callable in the place of the model's network, or None: the fastest form of it that this machine can serve.

        It takes what the network takes in evaluation mode and returns what that returns. Ask for it in `model_fn`, and
        load the model where there is none. What `export` proved is asked once more when `model_fn` is done, by the
        archive's example: where the answer is wrong, `model_fn` is called again and gets the next form, or None.
        """
        return self._verified_form()

    def lend_forms(self, verified_form: Callable[[], Any]) -> None:
        """Say what `verified_form` returns."""
        self._verified_form = verified_form

    def of_model(self, name: str, version: int, model_dir: str, manifest: dict[str, Any]) -> Context:
        """A context for the functions of another model that is loaded in this process."""
        return Context(
            model_name=name,
            manifest=manifest,
            system_properties={**self.system_properties, "model_dir": model_dir},
            sessions_dir=self._sessions_dir,
            model_version=version,
            get_model=self._get_model,
            devices=self.devices,
        )

    @property
    def request_processor(self) -> Sequence[RequestProcessor]:
        """The requests at hand."""
        self._here.asked = True
        return tuple([each.processor for each in self._requests.get()])

    @request_processor.setter
    def request_processor(self, requests: Sequence[RequestProcessor]) -> None:
        self.turn_to(*map(_Given, requests))

    def turn_to(self, *requests: Told) -> None:
        """Let everything here be about these requests."""
        self._requests.set(requests)

    def log_fields(self, request_id: str | None = None) -> dict[str, object]:
        """What a line of the log says of the requests at hand, or of the one with this id: ids and traces."""
        at_hand = (each.processor for each in self._requests.get() or IN_CONVERSATION.get())
        named = [(request_id_in(each.header_lines), each.header_lines) for each in at_hand]
        return fields_of_all(each for each in named if request_id in (None, each[0]))

    @property
    def asked(self) -> bool:
        """Whether this thread has asked about its requests since this was set to False."""
        return getattr(self._here, "asked", False)

    @asked.setter
    def asked(self, value: bool) -> None:
        self._here.asked = value

    @property
    def request_ids(self) -> dict[int, str]:
        """The ids of the requests at hand, by index."""
        return {idx: self.get_request_id(idx) for idx in range(len(self.request_processor))}

    def get_request_id(self, idx: int = 0) -> str:
        """The id that the log and the client know this request by."""
        return self.get_request_header(idx, REQUEST_ID_HEADER) or ""

    def get_request_header(self, idx: int, key: str) -> str | None:
        """A request header by name, in any case."""
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        """All request headers, by lower-case name."""
        return self.request_processor[idx].get_request_properties()

    def get_session(self, idx: int = 0) -> Session | None:
        """The stateful session that a request is in, None where it is in none or sessions are off."""
        return session_of(self._sessions_dir, self.get_request_header(idx, SESSION_HEADER))

    @property
    def adapter(self) -> str | None:
        """The adapter that the model has at hand, by the name that the request calls it; None where it names none.

        It is the same for all requests of a call.
        """
        requests = self._requests.get()
        return requests[0].processor.adapter if len(requests) > 0 else None

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Set the answer's Content-Type."""
        self.request_processor[idx].response_content_type = value

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a response header."""
        self.request_processor[idx].add_response_property(key, value)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Answer with this HTTP status."""
        self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        """Answer every request at hand with this HTTP status."""
        for request in self.request_processor:
            request.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        """The status and phrase that are set so far."""
        request = self.request_processor[idx]
        return request.get_response_status_code(), request.get_response_status_phrase()

    def get_response_headers(self, idx: int) -> dict[str, str]:
        """The response headers that are set so far."""
        return self.request_processor[idx].get_response_headers()

    def get_response_content_type(self, idx: int) -> str | None:
        """The response's content type, where one is set."""
        return self.request_processor[idx].response_content_type

    def _id_for_metrics(self, idx: int | None) -> str:
        # A value that is said of no request in particular belongs to the one at hand, unless there are several.
        if idx is None:
            return self.get_request_id(0) if len(self.request_processor) == 1 else ""
        return self.get_request_id(idx)
