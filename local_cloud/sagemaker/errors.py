"""The errors that a caller of the service sees: each has the code and the HTTP status of the real service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MESSAGE_CHARS = 262_144


def bounded(text: str, chars: int = _MESSAGE_CHARS) -> str:
    """``text`` without its middle, where it is longer: what is wrong stands at one of the ends."""
    half = chars // 2
    return text if len(text) <= chars else f"{text[:half]}…{text[-half:]}"


class ServiceError(Exception):
    """An answer of the service that is an error.

    ``code`` is what boto3 shows as ``error.response["Error"]["Code"]``; ``members`` are further members of the
    modelled error structure, such as ``OriginalStatusCode`` of a ``ModelError``.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, members: Mapping[str, Any] | None = None) -> None:
        message = bounded(message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members = dict(members or {})


def validation_exception(message: str) -> ServiceError:
    """What the control plane answers to nearly everything it does not accept."""
    return ServiceError("ValidationException", message)


def validation_error(message: str) -> ServiceError:
    """What the runtime answers to a request that it does not accept (its code differs from the control plane's)."""
    return ServiceError("ValidationError", message)


def resource_not_found(message: str) -> ServiceError:
    return ServiceError("ResourceNotFound", message)


def resource_in_use(message: str) -> ServiceError:
    return ServiceError("ResourceInUse", message)


def resource_limit_exceeded(what: str, unit: str, *, limit: int, asked: int, used: int = 0) -> ServiceError:
    """More than an account may have of something. Source: https://github.com/aws/amazon-sagemaker-feedback/issues/157."""
    return ServiceError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{what}' is {limit} {unit}, with current utilization of {used} {unit} and a"
        f" request delta of {asked} {unit}. Please use AWS Service Quotas to request an increase for this quota. If AWS"
        " Service Quotas is not available, contact AWS support to request an increase for this quota.",
    )


def model_error(
    *, original_status: int, original_message: str, message: str, log_stream_arn: str, status: int = 424
) -> ServiceError:
    """The container answered with an error, or not at all (then ``original_status`` is 0)."""
    return ServiceError(
        "ModelError",
        message,
        status=status,
        members={
            "OriginalStatusCode": original_status,
            "OriginalMessage": original_message,
            "LogStreamArn": log_stream_arn,
        },
    )
