"""`[hosting.rollout]`: how traffic moves to a new version, and what sends it back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.infra.configuration.value import OFF, Value, number, whole


class Rollback(Value):
    """Alarms on the new fleet: one of them in alarm during the roll-out, and all traffic goes back."""

    # Percent of the requests answered with 5xx in one minute.
    max_5xx_percent: Annotated[Annotated[float, number(0, 100)] | None, OFF] = 1.0
    # The 99th percentile of the model's latency. None: no such alarm; only its owner knows what a model may take.
    max_p99_ms: Annotated[int, whole(1, 3_600_000)] | None = None
    # GPU types only.
    max_gpu_memory_percent: Annotated[Annotated[float, number(1, 100)] | None, OFF] = 95.0


class _BlueGreen(Value):
    # How long the old fleet stays after the last shift, so that going back needs no new instance.
    bake_s: Annotated[int, whole(0, 3600)] = 600
    # `false`: no alarm looks on; the new version must only become healthy.
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)


class AllAtOnce(_BlueGreen):
    """All traffic moves when the new fleet is healthy."""

    strategy: Literal["all_at_once"]


class Canary(_BlueGreen):
    """A part moves first, and the rest after `wait_s`. At most 50 percent: API reference, TrafficRoutingConfig."""

    strategy: Literal["canary"]
    percent: Annotated[int, whole(1, 50)] = 10
    wait_s: Annotated[int, whole(0, 3600)] = 600


class Linear(_BlueGreen):
    """Equal parts move, one every `wait_s`. 10 to 50 percent: API reference, TrafficRoutingConfig."""

    strategy: Literal["linear"]
    percent: Annotated[int, whole(10, 50)] = 20
    wait_s: Annotated[int, whole(0, 3600)] = 300


class Rolling(Value):
    """Instances are replaced in batches, so that an update needs one batch more of them and not as many again.

    For one variant. Ranges: CloudFormation, AWS::SageMaker::Endpoint, RollingUpdatePolicy.
    """

    strategy: Literal["rolling"]
    percent: Annotated[int, whole(5, 50)] = 50
    # After each batch; the alarms look on meanwhile.
    wait_s: Annotated[int, whole(0, 3600)] = 300
    # How many old instances a rollback starts at a time; 100 brings them all back at once, which is SageMaker's default
    # and needs as many instances again.
    rollback_percent: Annotated[int, whole(5, 100)] = 100
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)


Rollout = Annotated[AllAtOnce | Canary | Linear | Rolling, Field(discriminator="strategy")]


class ComponentRollout(Value):
    """Copies are replaced in batches of at most half: API reference, InferenceComponentRollingUpdatePolicy."""

    strategy: Literal["rolling"] = "rolling"
    percent: Annotated[int, whole(5, 50)] = 50
    # Longer than the alarms take to go off: a single copy is a single batch, and nothing looks on after it.
    wait_s: Annotated[int, whole(0, 3600)] = 300
    rollback: Annotated[Rollback | None, OFF] = Field(default_factory=Rollback)
