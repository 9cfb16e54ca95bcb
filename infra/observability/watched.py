"""What the alarms and the dashboard look at: names and limits of one stage, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["realtime", "async", "serverless", "component", "multi_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedVariant:
    """One production variant. `gpus` is the number of GPUs of one of its instances, 0 for CPU types."""

    name: str
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedEndpoint:
    """One endpoint. `deadline_s` is how long an answer may take before the platform or the server gives up."""

    name: str
    mode: Mode
    variants: tuple[WatchedVariant, ...]
    deadline_s: float
    # The inference component of mode `component`.
    component: str | None = None
    # Whether its models come and go, as a repository holds them.
    repository: bool = False
    # Serverless only: whether there is capacity that is kept warm.
    provisioned_concurrency: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedStateMachine:
    """A state machine of Step Functions; CloudWatch knows it by its ARN."""

    name: str
    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedWorkflows:
    """State machines, queues that hold what could not be delivered, and the group of the schedules."""

    state_machines: tuple[WatchedStateMachine, ...] = ()
    dead_letter_queues: tuple[str, ...] = ()
    schedule_group: str | None = None
