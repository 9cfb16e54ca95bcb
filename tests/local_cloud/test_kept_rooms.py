"""No room is forgotten by being left out: what it holds is kept, or stands in a list here."""

from __future__ import annotations

import ast
import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.local_cloud.toy_container import running_sagemaker
from tidegate.local_cloud.access import Enforcement, RoleSessions
from tidegate.local_cloud.clock import Clock
from tidegate.local_cloud.metrics.store import MetricStore
from tidegate.local_cloud.minute import Emitters, Minute, Past

ROOM = Path(__file__).parents[2] / "local_cloud"
COLLECTIONS = ("dict", "list", "set", "deque", "defaultdict", "Counter", "OrderedDict")

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
    "InvocationMetrics._counts": "of the minute that has begun, which is documented as lost",
    "InvocationMetrics._running": "requests, which end with the process",
    "MetricStore.series": "in a file of its own (metrics/kept_metrics.py)",
    "MetricStore.units": "named anew at each start",
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

NOT_KEPT_BESIDE = {
    "Alarms._said": "what the log has been told",
    "Clock._actions": "functions",
    "Clock._guards": "functions",
    "Clock._queue": "what is under way",
    "Clock._woken": "threads",
    "ClockState.timers": "made anew by who uses them",
    "MetricStore.series": "in a file of its own (metrics/kept_metrics.py); what clients put is moto's",
    "MetricStore.units": "named anew at each start",
    "Minute._rules": "functions",
    "RoleSessions._clients": "clients",
    "RoleSessions._leases": "of servers and jobs, which are others after a restart",
    "RoleSessions._own": "clients",
    "RoleSessions._sessions": "each process begins its own",
    "Schedules._refused": "what the log has been told",
    "Schedules.sources": "functions",
    "Targets._made": "clients",
}
NOT_KEPT_OF_MODULES = {
    "alarms/alarms.py _seams": "functions",
    "cloudformation/clients.py _made": "clients",
    "cloudformation/clients.py _makers": "functions",
    "pytest_plugin.py _in_use": "of another process",
    "request_gate.py _rules": "functions",
    "sagemaker/container.py _kept": "sockets",
    "scaling/scaler.py _seams": "functions",
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
            many = isinstance(value, dict | list | tuple | set | deque)
            inside = list(value.values() if isinstance(value, dict) else value) if many else [value]
            for each in (getattr(each, "__self__", each) for each in inside):
                if type(each).__module__.startswith("tidegate.local_cloud.") and id(each) not in seen:
                    seen.add(id(each))
                    ahead.append(each)


def check(root: Any, kept: set[int], not_kept: Mapping[str, str]) -> None:
    found = list(holders(root, kept))
    gone = sorted(set(not_kept) - {name for name, _ in found})
    assert not gone, " ".join(gone)
    forgotten = sorted({name for name, held in found if id(held) not in kept} - set(not_kept))
    assert not forgotten, " ".join(forgotten)
    assert kept <= {id(held) for _, held in found}, "all that is kept was looked at"


def test_what_a_room_of_sagemaker_holds_is_kept_or_is_named_as_not_kept(tmp_path: Path) -> None:
    with running_sagemaker(tmp_path) as stage:
        sagemaker = stage.sagemaker
        kept = {id(attrgetter(name)(room)) for room in sagemaker._rooms.values() for name in room.KEPT}
        check(sagemaker, kept, NOT_KEPT)


def test_what_the_rooms_of_a_minute_and_of_rights_hold_is_kept_or_is_named_as_not_kept() -> None:
    """`Past` names their fields one by one."""
    past, place = Past(), {"account": "123456789012", "region": "us-east-1"}
    enforcement = Enforcement(**place, free_key="free")
    sessions = RoleSessions(lambda service, **_: service, enforcement=enforcement, address=lambda: "", **place)
    emitters = Emitters(store=MetricStore(), flush=lambda: None, emit=lambda _: None)
    minute = Minute(Clock(), emitters, lambda service: service, past, **place, sessions=sessions)
    root = SimpleNamespace(minute=minute, sessions=sessions, enforcement=enforcement)
    check(root, {id(getattr(past, name)) for name in past.KEPT}, NOT_KEPT_BESIDE)
    assert set(past.KEPT) == {each.name for each in dataclasses.fields(past)}


def test_what_a_module_holds_is_named_as_not_kept() -> None:
    """A collection at the top of a module is a constant, with a name in capitals, or stands in the list."""
    found = set()
    for path in ROOM.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            made = value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ""
            is_collection = isinstance(value, ast.Dict | ast.List | ast.Set) or made in COLLECTIONS
            if (
                isinstance(target, ast.Name)
                and target.id != "__all__"
                and is_collection
                and not target.id.strip("_").isupper()
            ):
                found.add(f"{path.relative_to(ROOM)} {target.id}")
    assert found == NOT_KEPT_OF_MODULES.keys()
