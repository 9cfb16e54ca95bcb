"""The members of a request to the runtime, and the headers that reach the container and come back from it."""

from __future__ import annotations

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
    model = operation_model("sagemaker-runtime", operation)
    if model is None or model.input_shape is None:
        raise LookupError(f"botocore does not know {operation}")
    members = {"EndpointName": name}
    for member, shape in model.input_shape.members.items():
        header = shape.serialization.get("name", member).lower()
        if shape.serialization.get("location") == "header" and header in headers:
            members[member] = headers[header]
    try:
        # The body's own bound is the limit's: the model still says 6 MB, the documentation 25 MB.
        body = {"Body": b""} if "Body" in model.input_shape.members else {}
        check(model.input_shape, _typed(model.input_shape, members) | body)
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
