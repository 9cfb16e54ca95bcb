"""The members of a request to the runtime, and the headers that reach the container and come back from it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from botocore.model import StructureShape

from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_error
from tidegate.local_cloud.sagemaker.shapes import check, operation_model

PREFIX = "X-Amzn-SageMaker-"
# Members of the request that reach the container, and their headers there. SageMaker drops every other header.
FORWARDED = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": f"{PREFIX}Custom-Attributes",
    "InferenceId": f"{PREFIX}Inference-Id",
    "SessionId": f"{PREFIX}Session-Id",
    "TargetVariant": f"{PREFIX}Target-Variant",
    "TargetModel": f"{PREFIX}Target-Model",
}
_RETURNED = (f"{PREFIX}Custom-Attributes", f"{PREFIX}New-Session-Id", f"{PREFIX}Closed-Session-Id")
# Members that say how SageMaker itself is to act.
HONOURED = frozenset(
    {
        "EndpointName",
        "Body",
        "InferenceComponentName",
        "TargetContainerHostname",
        "InputLocation",
        "S3OutputPathExtension",
        "Filename",
        "RequestTTLSeconds",
        "InvocationTimeoutSeconds",
        *FORWARDED,
    }
)
# Members that only endpoints have which the local cloud does not have.
REFUSED = {
    "EnableExplanations": "explainers",
    "PrefixAwareId": "prefix-aware routing",
}


def read_members(operation: str, name: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The members of the request, checked against the operation's shape."""
    named = _headers_of(operation)
    given = tuple((member, headers[header]) for member, header in named if header in headers)
    return dict(_checked(operation, name, given))


@functools.cache
def _headers_of(operation: str) -> tuple[tuple[str, str], ...]:
    """The members that come in headers, each with the name of its header in small letters."""
    return tuple(
        (member, shape.serialization.get("name", member).lower())
        for member, shape in _shape_of(operation).members.items()
        if shape.serialization.get("location") == "header"
    )


def _shape_of(operation: str) -> StructureShape:
    model = operation_model("sagemaker-runtime", operation)
    if model is None or model.input_shape is None:
        raise LookupError(f"botocore does not know {operation}")
    return model.input_shape


@functools.lru_cache(maxsize=256)
def _checked(operation: str, name: str, given: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Clients ask the same again and again; what was found right once need not be looked at again."""
    shape, members = _shape_of(operation), {"EndpointName": name, **dict(given)}
    try:
        # The body's own bound is the limit's: the model still says 6 MB, the documentation 25 MB.
        body = {"Body": b""} if "Body" in shape.members else {}
        check(shape, _typed(shape, members) | body)
    except ServiceError as error:
        raise validation_error(error.message) from error
    for member in members.keys() - HONOURED:
        feature = REFUSED.get(member, "it")
        raise validation_error(f"Endpoint {name} does not take {member}: the local cloud does not have {feature}.")
    return members


def _typed(shape: StructureShape, members: Mapping[str, str]) -> dict[str, Any]:
    """Numbers in headers as numbers; what is not one stays text, which the check then names."""
    return {
        name: int(value) if shape.members[name].type_name == "integer" and value.isdecimal() else value
        for name, value in members.items()
    }


def container_headers(members: Mapping[str, str]) -> dict[str, str]:
    return {header: members[member] for member, header in FORWARDED.items() if member in members}


def returned_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name.lower()] for name in _RETURNED if name.lower() in headers}
