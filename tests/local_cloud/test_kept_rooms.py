"""No room of SageMaker is forgotten by being left out: what it holds is kept, or stands in a list here."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from tests.local_cloud.toy_container import running_sagemaker

NOT_KEPT = {
    "AdapterComponents._workers": "threads",
    "AsyncInvocations._answering": "filled again from what is pending",
    "AsyncInvocations._queues": "threads",
    "AsyncInvocations._waiting": "filled again from what is pending",
    "CapacityMetrics._usage": "of servers, which are others after a restart",
    "Clock._actions": "functions",
    "Clock._guards": "functions",
    "Clock._queue": "what is under way",
    "Clock._woken": "threads",
    "ClockState.timers": "made anew by who uses them",
    "DataCapture._full": "documented: written after some two seconds",
    "DataCapture._waiting": "documented: written after some two seconds",
    "Endpoints._workers": "threads",
    "FleetStarter.environment": "settings",
    "FleetStarter._starting": "servers",
    "Front._idle": "connections, which end with the process",
    "Front._questions": "requests, which end with the process",
    "InvocationMetrics._counts": "documented: metrics begin anew",
    "InvocationMetrics._running": "requests, which end with the process",
    "MetricStore.series": "documented: metrics begin anew",
    "MetricStore.units": "documented: metrics begin anew",
    "Pipelines._workers": "threads",
    "Pipelines.operations": "functions",
    "ProcessingJobs.environment": "settings",
    "ShadowTraffic._counts": "documented: copies end with the process",
    "ShadowTraffic._senders": "threads",
    "ShadowTraffic._waiting": "documented: copies end with the process",
    "SageMaker._rooms": "the rooms themselves",
    "TrainingJobs.environment": "settings",
    "TransformJobs.container_environment": "settings",
}


def attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            if hasattr(thing, field.name) and field.name not in getattr(thing, "__dict__", {}):
                yield field.name, getattr(thing, field.name)


def holders(root: Any, kept: set[int]) -> Iterator[tuple[str, Any]]:
    """Every collection that changes in the objects of the local cloud that can be reached, with its name.

    What lies in one that is kept is kept with it.
    """
    seen, ahead = {id(root)}, [root]
    while ahead:
        thing = ahead.pop()
        for name, value in attributes(thing):
            if isinstance(value, dict | list | set | deque):
                yield f"{type(thing).__name__}.{name}", value
            if id(value) in kept:
                continue
            inside = list(value.values()) if isinstance(value, dict) else [getattr(value, "__self__", value)]
            for each in inside:
                if type(each).__module__.startswith("tidegate.local_cloud.") and id(each) not in seen:
                    seen.add(id(each))
                    ahead.append(each)


def test_what_a_room_holds_is_kept_or_is_named_as_not_kept(tmp_path: Path) -> None:
    with running_sagemaker(tmp_path) as stage:
        sagemaker = stage.sagemaker
        kept = {id(attrgetter(name)(room)) for room in sagemaker._rooms.values() for name in room.KEPT}
        found = list(holders(sagemaker, kept))
        gone = sorted(set(NOT_KEPT) - {name for name, _ in found})
        assert not gone, " ".join(gone)
        forgotten = sorted({name for name, held in found if id(held) not in kept} - set(NOT_KEPT))
        assert not forgotten, " ".join(forgotten)
        assert kept <= {id(held) for _, held in found}, "all that is kept was looked at"
