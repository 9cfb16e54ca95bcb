"""The error family of the server, and the road on which each class may occur.

    client ─(1)▶ frontend ─(2)▶ queue ─(3)▶ worker: input_fn ▶ predict_fn ▶ output_fn ─(4)▶ frontend ─▶ client
       (1) BadRequest NotFound ModelNotFound MethodNotAllowed RequestTimedOut PayloadTooLarge UpgradeRequired
           HeaderTooLarge SpoolFull Forbidden
       (2) NotReady Overloaded Draining
       (3) WorkerDied HandlerTimedOut
       (4) BadRequest PayloadTooLarge UnsupportedMediaType NotAcceptable HandlerFailed OutOfMemory RaisedByHandler

    POST /models ─▶ frontend ─▶ worker: model_fn
       AlreadyLoaded ModelLoadFailed OutOfMemory

    POST /adapters, a request with an adapter ─▶ frontend ─▶ worker: peft
       AdapterNotFound AlreadyLoaded AdapterLoadFailed OutOfMemory

    client ─▶ frontend: repository ─▶ disk ─▶ worker: model_fn
       ModelNotFound VersionNotFound ModelRequired InvalidVersion ModelLoading ModelTooLarge ModelLoadFailed

Each class knows its HTTP status, a short machine-readable code and a public sentence. What the client sees is
exactly `status` and `{"error": {"code", "message", "request_id"}}`, written by `frontend/http/response.py`; tracebacks
go to the log only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links: up to their end
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]",
    re.DOTALL,
)


def plain(text: str) -> str:
    """`text` without what would steer a terminal: user code and libraries colour what they say."""
    return text if text.isprintable() else _ESCAPE.sub("", text)


def text_of(error: BaseException) -> str:
    """`str(error)`, or a few words where that raises: user code's errors have a `__str__` of their own."""
    try:
        return str(error)
    except Exception:
        return "its text cannot be shown"


def one_line(error: BaseException, limit: int = 500) -> str:
    """The text of `error` as one line without its final full stop."""
    text = " ".join(text_of(error).split())
    return (text if len(text) <= limit else text[: limit - 1] + "…").rstrip(".") or "no message"


def some_of(names: Iterable[str], *, limit: int = 5) -> str:
    """The first of many names, for a sentence."""
    listed = list(names)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")


class RequestError(Exception):
    """A request that is answered with an error; `str(error)` is the sentence that the client reads."""

    status = 500
    code = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))

    @property
    def message(self) -> str:
        return str(self.args[0])


class BadRequest(RequestError):
    """The body, a header or the request line cannot be understood."""

    status, code = 400, "bad_request"


class NotFound(RequestError):
    """No such path or model."""

    status, code = 404, "not_found"


class ModelNotFound(RequestError):
    """The repository holds no model of this name; or a chat names none that is loaded.

    `param` is the member of the chat's body that names it: OpenAI's clients, whose code this is, look for it.
    """

    status, code = 404, "model_not_found"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Forbidden(RequestError):
    """A browser sent it from a page, or by a name, that is not this server's own; only where `TIDEGATE_PAGES` is on."""

    status, code = 403, "forbidden"


class AdapterNotFound(RequestError):
    """The model has no adapter of the name that the request, or the path, has."""

    status, code = 404, "adapter_not_found"


class VersionNotFound(RequestError):
    """The model has no such version or label, or it cannot be loaded as it lies there."""

    status, code = 404, "version_not_found"


class ModelRequired(RequestError):
    """The repository holds several models, and the request names none."""

    status, code = 400, "model_required"


class InvalidVersion(RequestError):
    """What is asked for is neither a number nor `latest` nor can it be a label."""

    status, code = 400, "invalid_version"


class MethodNotAllowed(RequestError):
    """The path exists, the verb does not; `allowed` are those that do."""

    status, code = 405, "method_not_allowed"

    def __init__(self, message: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class NotAcceptable(RequestError):
    """None of the types in Accept can be produced."""

    status, code = 406, "not_acceptable"


class RequestTimedOut(RequestError):
    """The client was too slow to send its request."""

    status, code = 408, "request_timed_out"


class PayloadTooLarge(RequestError):
    """The body is over the limit, as it is sent or unpacked."""

    status, code = 413, "payload_too_large"


class UnsupportedMediaType(RequestError):
    """The body's Content-Type cannot be read, or its Content-Encoding unpacked."""

    status, code = 415, "unsupported_media_type"


class UpgradeRequired(RequestError):
    """The path speaks WebSocket, and the request did not ask for one."""

    status, code = 426, "upgrade_required"


class HeaderTooLarge(RequestError):
    """The request line and headers are over the limit in bytes or in number."""

    status, code = 431, "header_too_large"


class RaisedByHandler(RequestError):
    """User code chose the status itself, by an exception with `status_code` (as the toolkit's own errors have)."""

    code = "handler_refused"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class HandlerFailed(RequestError):
    """User code raised, or returned something that cannot be sent."""

    status, code = 500, "handler_failed"


class UnknownTransferCoding(RequestError):
    """The body comes in a transfer coding other than chunked."""

    status, code = 501, "unknown_transfer_coding"


class VersionNotSupported(RequestError):
    """The request line names a version of HTTP that is not spoken here."""

    status, code = 505, "version_not_supported"


class WorkerDied(RequestError):
    """The process that computed this request died, and will not be tried again with it."""

    status, code = 500, "worker_died"


class NotReady(RequestError):
    """No worker has the model loaded (yet, or any more)."""

    status, code = 503, "not_ready"


class Overloaded(RequestError):
    """The queue is full, or the expected wait is longer than the time limit."""

    status, code = 503, "overloaded"


class Draining(RequestError):
    """The server is stopping."""

    status, code = 503, "draining"


class HandlerTimedOut(RequestError):
    """User code took longer than the time limit; its worker was replaced."""

    status, code = 504, "handler_timed_out"


class ModelLoading(RequestError):
    """The model is on its way to memory and takes longer than this request may wait, or is not tried again yet."""

    status, code = 503, "model_loading"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelTooLarge(RequestError):
    """The model does not fit into what models may take, whatever else went."""

    status, code = 507, "model_too_large"


class OutOfMemory(RequestError):
    """This item alone does not fit into the memory of the device."""

    status, code = 507, "out_of_memory"


class SpoolFull(RequestError):
    """The disk has no room for the body."""

    status, code = 507, "spool_full"


class AlreadyLoaded(RequestError):
    """A model of this name is loaded."""

    status, code = 409, "already_loaded"


class ModelLoadFailed(RequestError):
    """A model of a multi-model endpoint, or of a repository, could not be loaded; the sentence is the worker's own."""

    status, code = 500, "model_load_failed"


class AdapterLoadFailed(RequestError):
    """An adapter could not be put onto the model; the sentence is the worker's own."""

    status, code = 500, "adapter_load_failed"


class DeploymentError(Exception):
    """A mistake of whoever deployed: the server says the sentence, never turns healthy and exits with 1."""

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class LoadInterrupted(DeploymentError):
    """A worker was lost while it loaded a model, or none could be started: the model itself said nothing."""


class ModelDoesNotFit(DeploymentError):
    """The memory that is there does not hold the model (507 where a client asked for the load)."""
