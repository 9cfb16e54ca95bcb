"""`[hosting.scaling]`: when instances or copies come and go."""

from __future__ import annotations

from typing import Annotated

from tidegate.infra.configuration.value import Value, number, whole

Seconds = Annotated[int, whole(0, 86_400)]


class _Cooldowns(Value):
    # Out at once and in slowly: a missing instance costs answers, a spare one a few minutes' price.
    scale_out_cooldown_s: Seconds = 60
    scale_in_cooldown_s: Seconds = 300


class Scaling(_Cooldowns):
    """Target tracking of the requests that are in work at the same time, by the metric of 10 s resolution."""

    min_instances: Annotated[
        int, whole(1, 1000, "not a whole number from 1 to 1000; modes async and component scale to no instance")
    ] = 1
    max_instances: Annotated[int, whole(1, 1000)]
    # Per instance. For a GPU about the batch size times the workers, see docs/settings.md.
    concurrent_requests: Annotated[float, number(0.1, 10_000)] = 5.0


class MultiModelScaling(_Cooldowns):
    """Target tracking of requests per minute: AWS has no concurrency metric for the variants of such an endpoint."""

    min_instances: Annotated[int, whole(1, 1000)] = 1
    max_instances: Annotated[int, whole(1, 1000)]
    # Per instance.
    invocations_per_minute: Annotated[float, number(0.1, 1_000_000)]


class AsyncScaling(_Cooldowns):
    """Target tracking of the queue; down to no instance, and up again when the first request waits."""

    min_instances: Annotated[int, whole(0, 1000)] = 0
    max_instances: Annotated[int, whole(1, 1000)]
    # Waiting requests per instance.
    backlog: Annotated[float, number(0.1, 100_000)] = 5.0


class ComponentScaling(_Cooldowns):
    """Target tracking of the requests in work per copy; down to no copy, and up again when one is missed."""

    min_copies: Annotated[int, whole(0, 1000)] = 1
    max_copies: Annotated[int, whole(1, 1000)]
    concurrent_requests: Annotated[float, number(0.1, 10_000)] = 5.0
