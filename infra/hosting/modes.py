"""The word of the stage file and the construct that it chooses."""

from __future__ import annotations

from typing import Any, Protocol

from constructs import Construct

from infra.hosting.asynchronous import AsynchronousEndpoint
from infra.hosting.component import ComponentEndpoint
from infra.hosting.deployment import Deployment
from infra.hosting.endpoint import Endpoint
from infra.hosting.multi_model import MultiModelEndpoint
from infra.hosting.realtime import RealtimeEndpoint
from infra.hosting.serverless import ServerlessEndpoint


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
