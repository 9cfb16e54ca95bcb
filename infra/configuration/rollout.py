"""`[hosting.rollout]`: how traffic moves to a new version, and what sends it back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.infra.configuration.value import OFF, Value, number, whole


class Rollback(Value):
    """Alarms on the new fleet: one of them in alarm during the roll-out, and all traffic goes back."""

    max_5xx_percent: Annotated[Annotated[float, number(0, 100)] | None, OFF] = 1.0
    """The percentage of requests in one minute."""
    # The 99th percentile of the model's latency. None: no such alarm; only its owner knows what a model may take.
    max_p99_ms: Annotated[int, whole(1, 3_600_000)] | None = None
    """p99 of the model's latency."""
    max_gpu_memory_percent: Annotated[Annotated[float, number(1, 100)] | None, OFF] = 95.0
    """GPU types only."""


class _BlueGreen(Value):
    bake_s: Annotated[int, whole(0, 3600)] = 600
    """How long the old fleet stays after the last step, so that a rollback needs no new instances."""
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)
    """Alarms that roll a new version back; table below. `false`: the new version must only become healthy."""


class AllAtOnce(_BlueGreen):
    """All traffic moves when the new fleet is healthy."""

    strategy: Literal["all_at_once"]
    """All traffic shifts when the new fleet is healthy; needs twice the instances."""


class Canary(_BlueGreen):
    """A part moves first, and the rest after `wait_s`. At most 50 percent: API reference, TrafficRoutingConfig."""

    strategy: Literal["canary"]
    """A part of the traffic shifts first; needs twice the instances."""
    percent: Annotated[int, whole(1, 50)] = 10
    """The percentage of instances that shift first, 1 to 50."""
    wait_s: Annotated[int, whole(0, 3600)] = 600
    """The time before the rest shifts."""


class Linear(_BlueGreen):
    """Equal parts move, one every `wait_s`. 10 to 50 percent: API reference, TrafficRoutingConfig."""

    strategy: Literal["linear"]
    """The traffic shifts in equal steps; needs twice the instances."""
    percent: Annotated[int, whole(10, 50)] = 20
    """The percentage of each step, 10 to 50."""
    wait_s: Annotated[int, whole(0, 3600)] = 300
    """The time between two steps."""


class Rolling(Value):
    """Instances are replaced in batches, so that an update needs one batch more of them and not as many again.

    For one variant. Ranges: CloudFormation, AWS::SageMaker::Endpoint, RollingUpdatePolicy.
    """

    strategy: Literal["rolling"]
    """Batches of instances, for one variant with two or more instances."""
    percent: Annotated[int, whole(5, 50)] = 50
    """The percentage of instances or copies in a batch, 5 to 50."""
    # After each batch; the alarms look on meanwhile.
    wait_s: Annotated[int, whole(0, 3600)] = 300
    """The time after each batch."""
    rollback_percent: Annotated[int, whole(5, 100)] = 100
    """The percentage of old instances that a rollback starts at a time. 100 starts all at once, which is SageMaker's
    default and needs twice the instances.
    """
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)
    """Alarms that roll a new version back; table below. `false`: the new version must only become healthy."""


Rollout = Annotated[AllAtOnce | Canary | Linear | Rolling, Field(discriminator="strategy")]


class ComponentRollout(Value):
    """Copies are replaced in batches of at most half: API reference, InferenceComponentRollingUpdatePolicy."""

    strategy: Literal["rolling"] = "rolling"
    """Batches of copies; the only strategy of mode component."""
    percent: Annotated[int, whole(5, 50)] = 50
    """The percentage of instances or copies in a batch, 5 to 50."""
    # Longer than the alarms take to go off: a single copy is a single batch, and nothing looks on after it.
    wait_s: Annotated[int, whole(0, 3600)] = 300
    """The time after each batch."""
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)
    """Alarms that roll a new version back; table below. `false`: the new version must only become healthy."""
