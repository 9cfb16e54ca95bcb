"""The boto3 clients by which resources act: moto constructs the resources, so nobody can hand them over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_makers: list[Callable[[str], Any]] = []
_made: dict[str, Any] = {}
_lock = threading.Lock()


def use(make_client: Callable[[str], Any]) -> None:
    """Sets, for this process, what makes a boto3 client of the local cloud for the name of a service."""
    with _lock:
        _makers[:] = [make_client]
        _made.clear()


def client(service: str) -> Any:
    """This process's client of ``service``; an error when :func:`use` was not called."""
    with _lock:
        if not _makers:
            raise LookupError("the local cloud's CloudFormation is not installed in this process")
        if service not in _made:
            _made[service] = _makers[0](service)
        return _made[service]
