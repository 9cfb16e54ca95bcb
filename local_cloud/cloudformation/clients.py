"""The boto3 clients by which resources act: moto constructs the resources, so nobody can hand them over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """boto3 clients of the local cloud."""

    sagemaker: Any
    s3: Any
    ecr: Any


_current: list[Clients] = []


def use(current: Clients) -> None:
    """Sets the clients for this process."""
    _current[:] = [current]


def clients() -> Clients:
    """The clients of this process; an error when :func:`use` was not called."""
    if not _current:
        raise LookupError("the local cloud's CloudFormation is not installed in this process")
    return _current[0]
