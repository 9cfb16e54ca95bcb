"""Operations of a description, put together: each with its parameters, its bodies, its answer and its errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidegate.inference.frontend.openapi.error_responses import ErrorResponses, Kinds

JSON, TEXT = "application/json", "text/plain"
_IN_BRACES = re.compile(r"\{(\w+)\}")
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9]+")

PATH_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "model_name": {"description": "A model by the name that `GET /models` has.", "schema": {"type": "string"}},
    "version": {
        "description": "A version: its number, `latest`, or in a repository a label.",
        "schema": {"type": "string"},
    },
    "adapter_name": {"description": "An adapter by the name that it is registered by.", "schema": {"type": "string"}},
}


def header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """A header that a request may have."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


PARAMETERS: Mapping[str, dict[str, Any]] = {
    "InferenceId": header(
        "X-Amzn-SageMaker-Inference-Id",
        "InvokeEndpoint's InferenceId: the id of the request, in its errors and the log.",
    ),
    "CustomAttributes": header(
        "X-Amzn-SageMaker-Custom-Attributes", "InvokeEndpoint's CustomAttributes: text that the script can read.",
        maxLength=1024,
    ),
    "ModelChoice": header(
        "X-Amzn-SageMaker-Custom-Attributes",
        "InvokeEndpoint's CustomAttributes. `model=NAME;version=V` names the model; the rest is for the script.",
        maxLength=1024,
    ),
    "SessionId": header(
        "X-Amzn-SageMaker-Session-Id",
        "InvokeEndpoint's SessionId: a session that is open here, or `NEW_SESSION` to begin one.",
    ),
    "TargetModel": header(
        "X-Amzn-SageMaker-Target-Model",
        "InvokeEndpoint's TargetModel, for the script to read: here the path names the model.",
    ),
    "AdapterIdentifier": header(
        "X-Amzn-SageMaker-Adapter-Identifier",
        "An adapter of the model by its name, which SageMaker sets for an inference component with one.",
    ),
    "ContentEncoding": header("Content-Encoding", "How the body is packed: `gzip`, `deflate`, or not at all."),
    "InferenceHeaderContentLength": header(
        "Inference-Header-Content-Length", "How many bytes of the body are JSON, where binary tensors follow.",
        pattern="^[0-9]{1,18}$",
    ),
    "Limit": {"name": "limit", "in": "query", "description": "Entries of a page.",
              "schema": {"type": "integer", "minimum": 0}},
    "NextPageToken": {"name": "next_page_token", "in": "query", "description": "`nextPageToken` of the page before.",
                      "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"}},
}  # fmt: skip
REQUEST_HEADERS = ("InferenceId", "CustomAttributes", "AdapterIdentifier", "ContentEncoding")


class Operations:
    """Collects operations by path and verb. Each id is used once."""

    def __init__(self, *, known: Mapping[str, str]) -> None:
        """`known` has an example for path parameters: a name that there is."""
        self.paths: dict[str, dict[str, Any]] = {}
        self.errors = ErrorResponses()
        self.parameters: dict[str, Any] = {}
        self._known = known
        self._ids: set[str] = set()

    def add(
        self,
        verb: str,
        path: str,
        summary: str,
        *,
        tag: str,
        answers: Mapping[str, Any],
        errors: Iterable[Kinds] = (),
        name: str = "",
        description: str = "",
        parameters: Sequence[str] = (),
        request: Mapping[str, Any] | None = None,
        body_required: bool = True,
        open_inference: bool = False,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one. `answers` are response objects by status, `request` is a `content` object, `name` begins its id."""
        kinds = [kind for each in errors for kind in each]
        operation: dict[str, Any] = {
            "operationId": self._id(name or f"{verb} {path}"),
            "tags": [tag],
            "summary": summary,
            **({"description": description} if description else {}),
        }
        told = [self._path_parameter(each) for each in _IN_BRACES.findall(path)]
        for each in parameters:
            self.parameters[each] = PARAMETERS[each]
            told.append({"$ref": f"#/components/parameters/{each}"})
        if told:
            operation["parameters"] = told
        if request is not None:
            operation["requestBody"] = {"required": body_required, "content": request}
        operation["responses"] = {**answers, **self.errors.of(kinds, open_inference=open_inference)}
        self.paths.setdefault(path, {})[verb] = operation | dict(extensions or {})

    def _path_parameter(self, name: str) -> dict[str, Any]:
        example = {"example": self._known[name]} if name in self._known else {}
        return {"name": name, "in": "path", "required": True, **PATH_PARAMETERS[name], **example}

    def _id(self, words: str) -> str:
        base = _NOT_IN_AN_ID.sub("_", words).strip("_").lower()[:80] or "operation"
        found, number = base, 1
        while found in self._ids:
            number += 1
            found = f"{base}_{number}"
        self._ids.add(found)
        return found


def answer(description: str, content: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A response object."""
    return {"description": description, **({"content": content} if content is not None else {}), **more}


def json_answer(description: str, **properties: Any) -> dict[str, Any]:
    """The response of an object that has these properties, and maybe others."""
    return answer(description, {JSON: {"schema": json_object(**properties)}})


def json_object(*, optional: Mapping[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    """An object that has `properties`, and may have the `optional` ones and others."""
    return {
        "type": "object",
        **({"required": list(properties)} if properties else {}),
        "properties": {**properties, **(optional or {})},
    }


def named(name: str, content_type: str = TEXT) -> dict[str, Any]:
    """The `content` of a body that is text."""
    return {content_type: {"schema": {"type": "string", "title": name}}}
