"""How a batch transform job is to run: request over container over default, as the platform decides it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.local_cloud.sagemaker.errors import validation_exception

_MEBIBYTE = 1024 * 1024
_STRATEGIES = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}
_MAX_PAYLOAD_MB = 100  # CreateTransformJob, MaxPayloadInMB; the product with MaxConcurrentTransforms has the same bound


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformSettings:
    """The decided values. ``max_payload_bytes`` is None for no limit (then requests go out in HTTP chunks)."""

    max_concurrent: int
    max_payload_bytes: int | None
    multi_record: bool
    timeout_s: float
    max_retries: int

    def as_log_line(self) -> str:
        """As the platform writes it into a job's data log, the first line of that."""
        strategy = "MULTI_RECORD" if self.multi_record else "SINGLE_RECORD"
        payload_mb = (self.max_payload_bytes or 0) // _MEBIBYTE
        return f"MaxConcurrentTransforms={self.max_concurrent}, MaxPayloadInMB={payload_mb}, BatchStrategy={strategy}"


def check_transform_request(request: Mapping[str, Any]) -> None:
    """The rules of CreateTransformJob that its shapes do not state. Raises a ValidationException."""
    for where, member in (("TransformInput", "ContentType"), ("TransformOutput", "Accept")):
        value = request.get(where, {}).get(member, "")
        if not (value.isascii() and value.isprintable()):
            raise validation_exception(f"{member} is {value!r}, which no header can hold.")
    payload, concurrent = request.get("MaxPayloadInMB"), request.get("MaxConcurrentTransforms")
    if payload is not None and payload > _MAX_PAYLOAD_MB:
        raise validation_exception(f"MaxPayloadInMB is {payload}; it must be at most {_MAX_PAYLOAD_MB}.")
    if payload and concurrent and payload * concurrent > _MAX_PAYLOAD_MB:
        raise validation_exception(
            f"MaxConcurrentTransforms * MaxPayloadInMB is {payload * concurrent}; it must be at most {_MAX_PAYLOAD_MB}."
        )


def batch_environment(request: Mapping[str, Any]) -> dict[str, str]:
    """The variables that the platform adds to the container of a job ("your-algorithms-batch-code")."""
    environment = {"SAGEMAKER_BATCH": "true"}
    if "MaxPayloadInMB" in request:
        environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(request["MaxPayloadInMB"])
    if "BatchStrategy" in request:
        environment["SAGEMAKER_BATCH_STRATEGY"] = _STRATEGIES[request["BatchStrategy"]]
    if request.get("MaxConcurrentTransforms"):
        environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(request["MaxConcurrentTransforms"])
    return environment


def decide(request: Mapping[str, Any], execution_parameters: Mapping[str, Any]) -> TransformSettings:
    """Request, else the container's ``/execution-parameters``, else 1 / MULTI_RECORD / 6 MB.

    MaxConcurrentTransforms 0 counts as not given: the service then asks the container too.
    """
    concurrent = request.get("MaxConcurrentTransforms") or execution_parameters.get("MaxConcurrentTransforms") or 1
    payload_mb = request.get("MaxPayloadInMB", execution_parameters.get("MaxPayloadInMB", 6))
    strategy = _STRATEGIES.get(request.get("BatchStrategy", "")) or execution_parameters.get(
        "BatchStrategy", "MULTI_RECORD"
    )
    client = request.get("ModelClientConfig", {})
    return TransformSettings(
        max_concurrent=int(concurrent),
        max_payload_bytes=int(payload_mb) * _MEBIBYTE or None,
        multi_record=strategy == "MULTI_RECORD",
        timeout_s=float(client.get("InvocationsTimeoutInSeconds", 600)),
        max_retries=int(client.get("InvocationsMaxRetries", 3)),
    )


def read_execution_parameters(status: int, body: bytes) -> Mapping[str, Any]:
    """What GET /execution-parameters says; nothing when the container does not have it (any status but 200).

    Raises ValueError when it answers 200 with something that is not such a document.
    """
    if status != 200:
        return {}
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    for name, kind in (("MaxConcurrentTransforms", int), ("MaxPayloadInMB", int), ("BatchStrategy", str)):
        if name in document and not isinstance(document[name], kind):
            raise ValueError(f"{name} is {document[name]!r}")
    if document.get("BatchStrategy", "MULTI_RECORD") not in _STRATEGIES.values():
        raise ValueError(f"BatchStrategy is {document['BatchStrategy']!r}")
    return document
