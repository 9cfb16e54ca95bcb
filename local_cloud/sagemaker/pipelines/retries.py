"""Retry policies of steps: whether and when a step that failed is tried again.

Source: "Retry policy for pipeline steps" in the developer guide
(https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html). What AWS retries without a policy
(faults and throttling of its own services) does not occur here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidegate.local_cloud.sagemaker.errors import ServiceError

SERVICE_FAULT, THROTTLING = "Step.SERVICE_FAULT", "Step.THROTTLING"
INTERNAL_ERROR, CAPACITY, RESOURCE_LIMIT = (
    "SageMaker.JOB_INTERNAL_ERROR",
    "SageMaker.CAPACITY_ERROR",
    "SageMaker.RESOURCE_LIMIT",
)
_TYPES = {
    SERVICE_FAULT: SERVICE_FAULT,
    THROTTLING: THROTTLING,
    INTERNAL_ERROR: INTERNAL_ERROR,
    CAPACITY: CAPACITY,
    "SageMaker.JOB_CAPACITY_ERROR": CAPACITY,  # the developer guide has both spellings
    RESOURCE_LIMIT: RESOURCE_LIMIT,
}
_BOUNDS = {"IntervalSeconds": (0, 43_200), "MaxAttempts": (0, 20), "ExpireAfterMin": (0, 14_400)}
_DEFAULT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    types: frozenset[str]
    interval_s: float = 1.0
    backoff_rate: float = 2.0
    max_attempts: int | None = None
    expires_after: timedelta | None = None

    def next_attempt(self, *, retries: int, began: datetime, failed: datetime) -> datetime | None:
        """When a step is tried again that has been tried again ``retries`` times; None: it is not.

        ``began`` is when its first attempt began, ``failed`` when the last one failed.
        """
        if self.expires_after is not None:
            if failed - began >= self.expires_after:
                return None
        elif retries >= (_DEFAULT_ATTEMPTS if self.max_attempts is None else self.max_attempts):
            return None
        return failed + timedelta(seconds=self.interval_s * self.backoff_rate**retries)


def retry_policy(given: Any) -> RetryPolicy:
    """Raises ValueError for a policy that AWS does not take."""
    if not isinstance(given, dict):
        raise ValueError("a retry policy is an object")
    unknown = set(given) - {"ExceptionType", "BackoffRate", *_BOUNDS}
    if unknown:
        raise ValueError(f"a retry policy has no {', '.join(sorted(unknown))}")
    types = given.get("ExceptionType")
    if not isinstance(types, list) or not types or any(name not in _TYPES for name in types):
        raise ValueError(f"ExceptionType of a retry policy is a list of {', '.join(_TYPES)}; it is {types!r}")
    for member, (low, high) in _BOUNDS.items():
        value = given.get(member, low)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{member} of a retry policy is {value!r}; it must be a whole number from {low} to {high}")
    if "MaxAttempts" in given and "ExpireAfterMin" in given:
        raise ValueError("a retry policy takes either MaxAttempts or ExpireAfterMin")
    backoff = given.get("BackoffRate", 2.0)
    if isinstance(backoff, bool) or not isinstance(backoff, int | float) or not 0 <= backoff < float("inf"):
        raise ValueError(f"BackoffRate of a retry policy is {backoff!r}; it must be a number that is not negative")
    minutes = given.get("ExpireAfterMin")
    return RetryPolicy(
        types=frozenset(_TYPES[name] for name in types),
        interval_s=given.get("IntervalSeconds", 1),
        backoff_rate=backoff,
        max_attempts=given.get("MaxAttempts"),
        expires_after=None if minutes is None else timedelta(minutes=minutes),
    )


def chosen(policies: Sequence[RetryPolicy], failure: str | None) -> RetryPolicy | None:
    """The first policy for such a failure, as :func:`of_error` and :func:`of_reason` name it."""
    return next((policy for policy in policies if failure in policy.types), None)


def of_error(error: Exception) -> str | None:
    """The exception type of an operation that was refused, or that broke; None for a mistake of the request's."""
    if not isinstance(error, ServiceError):
        return SERVICE_FAULT
    by_code: Mapping[str, str] = {"ThrottlingException": THROTTLING, "ResourceLimitExceeded": RESOURCE_LIMIT}
    return by_code.get(error.code, SERVICE_FAULT if error.status >= 500 else None)


def of_reason(reason: str, *, kind: str) -> str | None:
    """The exception type of a job that failed with this FailureReason."""
    if reason.startswith("InternalServerError"):
        return None if kind == "Tuning" else INTERNAL_ERROR  # a tuning job has retried by itself
    return CAPACITY if reason.startswith("CapacityError") else None
