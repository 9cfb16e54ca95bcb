"""`[hosting.scaling]`: when instances or copies come and go."""

from __future__ import annotations

from typing import Annotated

from tidegate.infra.configuration.value import Value, number, whole

Seconds = Annotated[int, whole(0, 86_400)]


class _Cooldowns(Value):
    # Out at once and in slowly: a missing instance costs answers, a spare one a few minutes' price.
    scale_out_cooldown_s: Seconds = 60
    """How long it rests after more were started."""
    scale_in_cooldown_s: Seconds = 300
    """How long it rests after some were ended."""


class Scaling(_Cooldowns):
    """Target tracking of the requests that are in work at the same time, by the metric of 10 s resolution."""

    min_instances: Annotated[
        int, whole(1, 1000, "not a whole number from 1 to 1000; modes async and component scale to no instance")
    ] = 1
    """Of each variant."""
    max_instances: Annotated[int, whole(1, 1000)]
    """Of each variant."""
    concurrent_requests: Annotated[float, number(0.1, 10_000)] = 5.0
    """In work per instance or copy; on a GPU about the batch size times the workers, see [settings.md](settings.md)."""


class MultiModelScaling(_Cooldowns):
    """Target tracking of requests per minute: AWS has no concurrency metric for the variants of such an endpoint."""

    min_instances: Annotated[int, whole(1, 1000)] = 1
    """Of each variant."""
    max_instances: Annotated[int, whole(1, 1000)]
    """Of each variant."""
    invocations_per_minute: Annotated[float, number(0.1, 1_000_000)]
    """Per instance."""


class AsyncScaling(_Cooldowns):
    """Target tracking of the queue; down to no instance, and up again when the first request waits."""

    min_instances: Annotated[int, whole(0, 1000)] = 0
    """Of each variant."""
    max_instances: Annotated[int, whole(1, 1000)]
    """Of each variant."""
    backlog: Annotated[float, number(0.1, 100_000)] = 5.0
    """Waiting per instance."""


class ComponentScaling(_Cooldowns):
    """Target tracking of the requests in work per copy; down to no copy, and up again when one is missed."""

    min_copies: Annotated[int, whole(0, 1000)] = 1
    """Of the model."""
    max_copies: Annotated[int, whole(1, 1000)]
    """Of the model."""
    concurrent_requests: Annotated[float, number(0.1, 10_000)] = 5.0
    """In work per instance or copy; on a GPU about the batch size times the workers, see [settings.md](settings.md)."""
