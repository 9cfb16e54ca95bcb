"""`[hosting.scaling]`: when instances or copies come and go."""

from __future__ import annotations

from typing import Annotated

from tidegate.infra.configuration.schedule import Expression, TimeZone
from tidegate.infra.configuration.value import LISTED, Value, like, number, whole

Seconds = Annotated[int, whole(0, 86_400)]
# Application Auto Scaling takes more; these are easy to read in a console.
_ActionName = Annotated[
    str, like(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", "not a name; use letters, digits and single hyphens")
]


class Action(Value):
    """From `when` on other bounds hold, until another action; both, for an action leaves what it does not say."""

    name: _ActionName
    """A unique name of the action."""
    when: Expression
    """`cron(0 20 ? * MON-FRI *)`, `rate(1 day)` or `at(2027-12-24T18:00:00)`."""
    timezone: TimeZone | None = None
    """A time zone for `cron` and `at`, such as `Europe/Berlin`. The default is UTC."""


class ScheduledAwakeInstances(Action):
    """Instances of a mode that has no way back from none."""

    min_instances: Annotated[
        int, whole(1, 1000, "not a whole number from 1 to 1000; modes async and component scale to no instance")
    ]
    """At least one."""
    max_instances: Annotated[int, whole(1, 1000)]
    """At most `max_instances` of `[hosting.scaling]`."""


class ScheduledInstances(Action):
    """Instances; with a maximum of 0 none starts whatever waits."""

    min_instances: Annotated[int, whole(0, 1000)]
    """May be 0."""
    max_instances: Annotated[int, whole(0, 1000)]
    """At most `max_instances` of `[hosting.scaling]`. 0: requests wait until another action."""


class ScheduledCopies(Action):
    """Copies of an inference component; with a maximum of 0 every request fails."""

    min_copies: Annotated[int, whole(0, 1000)]
    """May be 0."""
    max_copies: Annotated[int, whole(0, 1000)]
    """At most `max_copies` of `[hosting.scaling]`. 0: requests fail until another action."""


class _Cooldowns(Value):
    # Out at once and in slowly: a missing instance costs answers, a spare one a few minutes' price.
    scale_out_cooldown_s: Seconds = 60
    """The pause after instances or copies are started."""
    scale_in_cooldown_s: Seconds = 300
    """The pause after instances or copies are stopped."""


class Scaling(_Cooldowns):
    """Target tracking of the requests that are in work at the same time, by the metric of 10 s resolution."""

    min_instances: Annotated[
        int, whole(1, 1000, "not a whole number from 1 to 1000; modes async and component scale to no instance")
    ] = 1
    """The minimum for each variant."""
    max_instances: Annotated[int, whole(1, 1000)]
    """The maximum for each variant."""
    concurrent_requests: Annotated[float, number(0.1, 10_000)] = 5.0
    """The target of requests in flight per instance or copy; on a GPU about the batch size times the number of workers,
    see [settings.md](settings.md).
    """
    schedule: Annotated[tuple[ScheduledAwakeInstances, ...], LISTED] = ()
    """Tables `[[hosting.scaling.schedule]]`: other limits [from a given time on](hosting.md#by-the-clock)."""


class MultiModelScaling(_Cooldowns):
    """Target tracking of requests per minute: AWS has no concurrency metric for the variants of such an endpoint."""

    min_instances: Annotated[int, whole(1, 1000)] = 1
    """The minimum for each variant."""
    max_instances: Annotated[int, whole(1, 1000)]
    """The maximum for each variant."""
    invocations_per_minute: Annotated[float, number(0.1, 1_000_000)]
    """The target of requests per instance."""
    schedule: Annotated[tuple[ScheduledAwakeInstances, ...], LISTED] = ()
    """Tables `[[hosting.scaling.schedule]]`: other limits [from a given time on](hosting.md#by-the-clock)."""


class AsyncScaling(_Cooldowns):
    """Target tracking of the queue; down to no instance, and up again when the first request waits."""

    min_instances: Annotated[int, whole(0, 1000)] = 0
    """The minimum for each variant."""
    max_instances: Annotated[int, whole(1, 1000)]
    """The maximum for each variant."""
    backlog: Annotated[float, number(0.1, 100_000)] = 5.0
    """The target of waiting requests per instance."""
    schedule: Annotated[tuple[ScheduledInstances, ...], LISTED] = ()
    """Tables `[[hosting.scaling.schedule]]`: other limits [from a given time on](hosting.md#by-the-clock)."""


class ComponentScaling(_Cooldowns):
    """Target tracking of the requests in work per copy; down to no copy, and up again when one is missed."""

    min_copies: Annotated[int, whole(0, 1000)] = 1
    """The minimum number of copies of the model."""
    max_copies: Annotated[int, whole(1, 1000)]
    """The maximum number of copies of the model."""
    concurrent_requests: Annotated[float, number(0.1, 10_000)] = 5.0
    """The target of requests in flight per instance or copy; on a GPU about the batch size times the number of workers,
    see [settings.md](settings.md).
    """
    schedule: Annotated[tuple[ScheduledCopies, ...], LISTED] = ()
    """Tables `[[hosting.scaling.schedule]]`: other limits [from a given time on](hosting.md#by-the-clock)."""


AnyScaling = Scaling | MultiModelScaling | AsyncScaling | ComponentScaling


def bounds(of: AnyScaling | Action) -> tuple[int, int]:
    """The fewest and the most instances or copies, from the start on or from a moment of the schedule."""
    match of:
        case ComponentScaling() | ScheduledCopies():
            return of.min_copies, of.max_copies
        case Scaling() | MultiModelScaling() | AsyncScaling() | ScheduledInstances() | ScheduledAwakeInstances():
            return of.min_instances, of.max_instances
        case _:
            raise TypeError(f"{type(of).__name__} bounds nothing")


def fewest(scaling: AnyScaling) -> int:
    """At the emptiest moment of the schedule."""
    return min(bounds(each)[0] for each in (scaling, *scaling.schedule))


def may_wake(scaling: AnyScaling) -> bool:
    """Whether there are times with none, at which work that waits may start one."""
    return any(low == 0 < high for low, high in map(bounds, (scaling, *scaling.schedule)))
