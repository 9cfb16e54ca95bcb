"""Every answer of our SageMaker beside botocore's model of its operation.

A client drops silently what its model has not, and does not miss what the model promises; other clients do not. So the
bytes are looked at before the client reads them, and a test fails at the call whose answer is not as the model has it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from botocore.model import OperationModel, Shape, StructureShape

from tidegate.local_cloud.sagemaker.shapes import compiled_pattern

COMMON_ERRORS = frozenset(
    {
        "AccessDeniedException",
        "InternalFailure",
        "SerializationException",
        "ServiceUnavailable",
        "ThrottlingException",
        "UnknownOperationException",
        "ValidationError",
        "ValidationException",
    }
)
"""Those that any operation may answer and that none lists ("Common Error Types" in the API reference)."""
NOT_GIVEN = {
    # Versions of a group have no such name, and the SDKs (ModelPackage.refresh) would ask for it if they had.
    "DescribeModelPackage.ModelPackageName",
}
"""Required by the model, and yet not in each of the service's answers."""
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "structure": (dict,),
    "list": (list,),
    "map": (dict,),
}


@dataclass
class Answers:
    """What clients were answered, by the operation's name: the status and, of JSON, the document."""

    by_operation: dict[str, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))

    def follow(self, client: Any) -> Any:
        """Looks at every answer that ``client`` gets from now on; returns the client."""
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-parse.{service}", self._look)
        return client

    def _look(self, operation_model: OperationModel, response_dict: Mapping[str, Any], **_: Any) -> None:
        status, body = response_dict["status_code"], response_dict["body"]
        streamed = operation_model.has_event_stream_output and status < 300
        found = [] if streamed else list(faults_of(operation_model, status, response_dict["headers"], body))
        assert not found, f"{operation_model.name} answered {status}: {'; '.join(found)}\n{body[:2000]!r}"
        plain = not streamed and not operation_model.has_streaming_output and operation_model.name != "InvokeEndpoint"
        self.by_operation[operation_model.name].append((status, json.loads(body) if plain and body else None))


def watched(client: Any) -> Any:
    """A client each of whose answers must be as the model has it."""
    return Answers().follow(client)


def faults_of(operation: OperationModel, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """What is wrong with an answer, in sentences."""
    if status >= 300:
        yield from _faults_of_error(operation, status, headers, body)
        return
    shape = operation.output_shape
    if shape is None:  # the service then answers with nothing, or with an empty object
        if body.strip() not in (b"", b"{}"):
            yield f"an answer without members has {body[:200]!r}"
        return
    in_headers = {
        name: member.serialization["name"]
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header"
    }
    for name, header in in_headers.items():
        if name in shape.required_members and header not in headers:
            yield f"the header {header} is missing"
    if "payload" in shape.serialization:
        return
    document = json.loads(body or b"{}")
    for name in in_headers.keys() & document.keys():
        yield f"{name} belongs in a header"
    yield from faults(shape, document, operation.name, without=frozenset(in_headers))


def _faults_of_error(operation: OperationModel, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # what stands before the service says that, and knows no code
        return
    document = json.loads(body)
    code = document.get("__type") or headers.get("x-amzn-errortype", "")
    modelled = {shape.error_code: shape for shape in operation.error_shapes}
    if code not in modelled and code not in COMMON_ERRORS:
        yield f"the error {code} is none of {', '.join(sorted(modelled))} and no common one"
    if not document.get("message") and not document.get("Message"):
        yield f"the error {code} says nothing"
    if code in modelled:
        members = {name: value for name, value in document.items() if name not in ("__type", "message", "Message")}
        yield from faults(modelled[code], members, code, without=frozenset({"Message", "message"}))


def faults(shape: Shape, value: Any, path: str, *, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """Where ``value`` is not as ``shape`` has it. Members in ``without`` are elsewhere in the answer."""
    expected = _TYPES.get(shape.type_name)
    if expected is not None and (
        not isinstance(value, expected) or (isinstance(value, bool) and shape.type_name != "boolean")
    ):
        yield f"{path} is {value!r}, which is no {shape.type_name}"
        return
    match shape.type_name:
        case "structure":
            yield from _faults_of_structure(shape, value, path, without)
        case "list":
            yield from _outside(shape, len(value), path)
            for index, item in enumerate(value):
                yield from faults(shape.member, item, f"{path}[{index}]")
        case "map":
            yield from _outside(shape, len(value), path)
            for key, item in value.items():
                yield from faults(shape.key, key, f"{path}, a key")
                yield from faults(shape.value, item, f"{path}[{key!r}]")
        case "string":
            yield from _faults_of_text(shape, value, path)
        case "integer" | "long" | "float" | "double":
            yield from _outside(shape, value, path)


def _faults_of_structure(
    shape: StructureShape, value: Mapping[str, Any], path: str, without: frozenset[str]
) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value and name not in without and f"{path}.{name}" not in NOT_GIVEN:
            yield f"{path}.{name} is missing"
    for name, item in value.items():
        if name in shape.members:
            yield from faults(shape.members[name], item, f"{path}.{name}")
        else:
            yield f"{path}.{name} is a member that the service does not have"


def _faults_of_text(shape: Any, value: str, path: str) -> Iterator[str]:
    if shape.enum:
        if value not in shape.enum:
            yield f"{path} is {value!r}, which is none of {', '.join(shape.enum)}"
        return
    yield from _outside(shape, len(value), path)
    pattern = shape.metadata.get("pattern")
    if pattern is not None and compiled_pattern(pattern).fullmatch(value) is None:
        yield f"{path} is {value!r}, which is not as {pattern} has it"


def _outside(shape: Shape, size: float, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and size < low) or (high is not None and size > high):
        yield f"{path} has the size {size}, and the model bounds it by {low} and {high}"
