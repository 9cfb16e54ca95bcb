"""`[hosting.rollout]`: how traffic moves to a new version, and what sends it back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.infra.configuration.value import OFF, Value, number, whole


class Rollback(Value):
    """Alarms on the new fleet: one of them in alarm during the roll-out, and all traffic goes back."""

    max_5xx_percent: Annotated[Annotated[float, number(0, 100)] | None, OFF] = 1.0
    """Of the requests of a minute."""
    # The 99th percentile of the model's latency. None: no such alarm; only its owner knows what a model may take.
    max_p99_ms: Annotated[int, whole(1, 3_600_000)] | None = None
    """Of the model's latency."""
    max_gpu_memory_percent: Annotated[Annotated[float, number(1, 100)] | None, OFF] = 95.0
    """GPU types only."""


class _BlueGreen(Value):
    bake_s: Annotated[int, whole(0, 3600)] = 600
    """How long the old fleet stays after the last step, so that going back needs no new instance."""
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)
    """What sends a new version back; table below. `false`: it must only become healthy."""


class AllAtOnce(_BlueGreen):
    """All traffic moves when the new fleet is healthy."""

    strategy: Literal["all_at_once"]
    """All traffic moves when the new fleet is healthy; needs twice the instances."""


class Canary(_BlueGreen):
    """A part moves first, and the rest after `wait_s`. At most 50 percent: API reference, TrafficRoutingConfig."""

    strategy: Literal["canary"]
    """A part moves first; needs twice the instances."""
    percent: Annotated[int, whole(1, 50)] = 10
    """Of the instances, 1 to 50."""
    wait_s: Annotated[int, whole(0, 3600)] = 600
    """Before the rest moves."""


class Linear(_BlueGreen):
    """Equal parts move, one every `wait_s`. 10 to 50 percent: API reference, TrafficRoutingConfig."""

    strategy: Literal["linear"]
    """Equal parts move; needs twice the instances."""
    percent: Annotated[int, whole(10, 50)] = 20
    """Each step, 10 to 50."""
    wait_s: Annotated[int, whole(0, 3600)] = 300
    """Between two steps."""


class Rolling(Value):
    """Instances are replaced in batches, so that an update needs one batch more of them and not as many again.

    For one variant. Ranges: CloudFormation, AWS::SageMaker::Endpoint, RollingUpdatePolicy.
    """

    strategy: Literal["rolling"]
    """Batches of instances, for one variant on two instances or more."""
    percent: Annotated[int, whole(5, 50)] = 50
    """Of the instances or copies at a time, 5 to 50."""
    # After each batch; the alarms look on meanwhile.
    wait_s: Annotated[int, whole(0, 3600)] = 300
    """After each batch."""
    rollback_percent: Annotated[int, whole(5, 100)] = 100
    """How many old instances a rollback starts at a time; 100: all at once, which is SageMaker's default and needs as
    many again.
    """
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)
    """What sends a new version back; table below. `false`: it must only become healthy."""


Rollout = Annotated[AllAtOnce | Canary | Linear | Rolling, Field(discriminator="strategy")]


class ComponentRollout(Value):
    """Copies are replaced in batches of at most half: API reference, InferenceComponentRollingUpdatePolicy."""

    strategy: Literal["rolling"] = "rolling"
    """Batches of copies; mode component has no other."""
    percent: Annotated[int, whole(5, 50)] = 50
    """Of the instances or copies at a time, 5 to 50."""
    # Longer than the alarms take to go off: a single copy is a single batch, and nothing looks on after it.
    wait_s: Annotated[int, whole(0, 3600)] = 300
    """After each batch."""
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)
    """What sends a new version back; table below. `false`: it must only become healthy."""
