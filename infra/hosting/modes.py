"""The word of the stage file and the construct that it chooses."""

from __future__ import annotations

from typing import Any, Protocol

from constructs import Construct

from tidegate.infra.hosting.asynchronous import AsynchronousEndpoint
from tidegate.infra.hosting.component import ComponentEndpoint
from tidegate.infra.hosting.deployment import Deployment
from tidegate.infra.hosting.endpoint import Endpoint
from tidegate.infra.hosting.multi_model import MultiModelEndpoint
from tidegate.infra.hosting.realtime import RealtimeEndpoint
from tidegate.infra.hosting.serverless import ServerlessEndpoint


class _Mode(Protocol):
    def __call__(self, scope: Construct, id_: str, *, hosting: Any, deployment: Deployment) -> Endpoint:
        """`hosting` is the table of that mode."""


ENDPOINTS: dict[str, _Mode] = {
    "realtime": RealtimeEndpoint,
    "async": AsynchronousEndpoint,
    "serverless": ServerlessEndpoint,
    "component": ComponentEndpoint,
    "multi_model": MultiModelEndpoint,
}
