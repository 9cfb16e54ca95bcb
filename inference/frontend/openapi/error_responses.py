"""The errors of each kind of operation, as response objects; statuses, codes and words are those of `errors`."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tidegate.inference import errors
from tidegate.inference.errors import RequestError

Kinds = tuple[type[RequestError], ...]

TRANSPORT: Kinds = (
    errors.BadRequest,
    errors.Forbidden,
    errors.RequestTimedOut,
    errors.PayloadTooLarge,
    errors.HeaderTooLarge,
    errors.RequestError,
    errors.UnknownTransferCoding,
    errors.VersionNotSupported,
)
"""What any request may be answered with."""
STARTING: Kinds = (errors.NotReady, errors.Draining)
PREDICTION: Kinds = (
    *STARTING,
    errors.AdapterNotFound,
    errors.NotAcceptable,
    errors.UnsupportedMediaType,
    errors.HandlerFailed,
    errors.WorkerDied,
    errors.AdapterLoadFailed,
    errors.Overloaded,
    errors.HandlerTimedOut,
    errors.OutOfMemory,
    errors.SpoolFull,
    errors.RaisedByHandler,
)
REPOSITORY: Kinds = (
    errors.ModelRequired,
    errors.InvalidVersion,
    errors.ModelNotFound,
    errors.VersionNotFound,
    errors.ModelLoadFailed,
    errors.ModelLoading,
    errors.ModelTooLarge,
)
"""What choosing a model of a repository may end with."""
LOADING: Kinds = (errors.NotFound, errors.AlreadyLoaded, errors.ModelLoadFailed, errors.OutOfMemory, errors.NotReady)
ADAPTER: Kinds = (errors.AdapterNotFound, errors.AlreadyLoaded, errors.AdapterLoadFailed, *STARTING)
CONVERSATION: Kinds = (errors.UpgradeRequired, errors.NotFound, errors.Overloaded, *STARTING)

ERROR, ERROR_OF_TENSORS = "Error", "OpenInferenceError"
_RANGES = ("4XX", "5XX")
"""Where a status is the script's choice; a status of its own, where there is one, goes before."""


def family() -> list[type[RequestError]]:
    """Every kind of error, by status and code."""
    found = (each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, RequestError))
    return sorted(set(found), key=lambda each: (getattr(each, "status", 0), each.code))


def schemas() -> dict[str, Any]:
    """The bodies of errors."""
    codes = sorted({each.code for each in family()})
    return {
        ERROR: {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["code", "message", "request_id"],
                    "properties": {
                        "code": {"type": "string", "enum": codes},
                        "message": {"type": "string", "description": "One sentence for the caller."},
                        "request_id": {"type": "string", "description": "The log has it too."},
                        "type": {"type": "string", "description": "Of a chat that names no model."},
                        "param": {"type": "string", "description": "Of a chat that names no model."},
                    },
                }
            },
        },
        ERROR_OF_TENSORS: {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string", "description": "One sentence for the caller."}},
        },
    }


class ErrorResponses:
    """Collects what operations refer to, as the components of a document."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def of(self, kinds: Iterable[type[RequestError]], *, open_inference: bool = False) -> dict[str, Any]:
        """The responses of an operation that may end with `kinds`, by status."""
        by_status: Mapping[str, list[type[RequestError]]] = defaultdict(list)
        for kind in sorted({*kinds, *TRANSPORT}, key=lambda each: each.code):
            for status in _RANGES if kind is errors.RaisedByHandler else [str(kind.status)]:
                by_status[status].append(kind)
        return {
            status: self._reference(status, found, open_inference=open_inference)
            for status, found in sorted(by_status.items())
        }

    def _reference(self, status: str, kinds: list[type[RequestError]], *, open_inference: bool) -> dict[str, str]:
        codes = [kind.code for kind in kinds]
        name = "-".join([status, *codes, *(["v2"] if open_inference else [])])
        schema = ERROR_OF_TENSORS if open_inference else ERROR
        response: dict[str, Any] = {
            "description": " ".join(f"`{kind.code}`: {words_of(kind)}" for kind in kinds),
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        }
        if status == "503":
            response["headers"] = {
                "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
            }
        if open_inference:
            response.setdefault("headers", {})["X-Tidegate-Request-Id"] = {"schema": {"type": "string"}}
        self.components[name] = response
        return {"$ref": f"#/components/responses/{name}"}


def words_of(kind: type[RequestError]) -> str:
    """When an error comes, in a sentence: the first of its class."""
    if kind is RequestError:
        return "The server failed; its log says why."
    return " ".join((inspect.getdoc(kind) or kind.code).partition("\n\n")[0].split())
