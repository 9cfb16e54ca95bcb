"""moto asks the cloud's clock: its time stamps, its retentions, and the waiting of its state machines.

moto has one function for the time, ``moto.core.utils.utcnow``, which all services copy into their own modules. It looks
its ``datetime`` up when it is called, so that name in that one module is enough for all of them. The few modules that
ask Python itself are listed below.
"""

from __future__ import annotations

import datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from tidegate.local_cloud.clock import Clock

# Modules that hold Python's module ``datetime``.
_ASK_DATETIME = (
    "moto.core.utils",
    "moto.s3.models",
    "moto.stepfunctions.parser.asl.component.state.state",
    "moto.stepfunctions.parser.asl.component.state.wait.wait_function.timestamp",
    "moto.stepfunctions.parser.asl.eval.event.event_manager",
    "moto.stepfunctions.parser.backend.execution",
    "moto.stepfunctions.parser.backend.state_machine",
    "moto.stepfunctions.parser.models",
)
# ... and the module ``time``.
_ASK_TIME = ("moto.applicationautoscaling.models",)
_WAIT_FUNCTION = "moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function"


def follow(clock: Clock) -> None:
    """Lets this process's moto go by ``clock``. Calling it again only changes the clock."""
    moments = _datetime_of(clock)
    for name in _ASK_DATETIME:
        setattr(import_module(name), "datetime", moments)  # noqa: B010 - a name of moto's, replaced
    for name in _ASK_TIME:
        setattr(import_module(name), "time", SimpleNamespace(time=clock.time))  # noqa: B010

    def wait(_: Any, env: Any, wait_seconds: int) -> None:
        if wait_seconds > 0:
            clock.wait(wait_seconds, goes_on=env.is_running, name="Wait of a state machine")

    import_module(_WAIT_FUNCTION).WaitFunction._wait_interval = wait


def _datetime_of(clock: Clock) -> SimpleNamespace:
    """What stands for the module ``datetime``: the same, but that now is the clock's."""

    class _Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime.datetime)

    class CloudDatetime(datetime.datetime, metaclass=_Kind):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            moment = clock.now().astimezone(tz)
            return moment if tz is not None else moment.replace(tzinfo=None)

    members = {name: getattr(datetime, name) for name in datetime.__all__}
    return SimpleNamespace(**members | {"datetime": CloudDatetime})
