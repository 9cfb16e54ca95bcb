"""All schedules of the cloud, looked at every minute: what has become due is delivered.

A schedule is due at the first full minute at or after its time. One that was made within a minute counts from the
minute's beginning. One that was due while a cloud that remembers was down is delivered once, when it is up again.
What its target refuses goes to the dead-letter queue, where there is one, and is not tried again.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.events.models import EventsBackend
from moto.scheduler.models import EventBridgeSchedulerBackend
from moto.scheduler.responses import EventBridgeSchedulerResponse

from tidegate.local_cloud.clock import Clock, ClockRefused
from tidegate.local_cloud.metrics.store import MetricStore, Series
from tidegate.local_cloud.schedules.expressions import Schedule, ScheduleError, parse
from tidegate.local_cloud.schedules.targets import FAILURES, Targets

logger = logging.getLogger(__name__)

Json = dict[str, Any]
MOST_DELIVERIES = 1500  # in one advance: a day of one that is due every minute
_STAMP = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Something with a schedule, as it stands now. ``identity`` changes when it is another schedule."""

    key: str
    expression: str
    deliver: Callable[[datetime], None]
    timezone: str | None = None
    begins: datetime | None = None
    ends: datetime | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.expression, self.timezone, self.begins, self.ends)


@dataclass(slots=True)
class Known:
    """What is remembered of a schedule, in plain values: since when it is known, and up to when it was looked at."""

    identity: tuple[Any, ...]
    since: datetime
    looked_at: datetime


Source = Callable[[], Iterator[Due]]


@dataclass(slots=True)
class Schedules:
    """Fires what its sources have. ``known`` and ``looked_at``, the last minute that it looked at, are its state."""

    clock: Clock
    sources: list[Source] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)
    looked_at: list[datetime] = field(default_factory=list)
    _refused: set[tuple[str, str]] = field(default_factory=set)

    def fire(self) -> None:
        """Called at a full minute: delivers what has become due since the last one."""
        now = self.clock.now()
        before = self.looked_at[0] if self.looked_at else now
        self.looked_at[:] = [now]
        present: set[str] = set()
        for due in self._all():
            present.add(due.key)
            known = self.known.get(due.key)
            if known is None or known.identity != due.identity:
                known = self.known[due.key] = Known(due.identity, before, before)
            looked_at, known.looked_at = known.looked_at, now
            schedule = self._parsed(due, known.since)
            planned = schedule.after(looked_at) if schedule is not None else None
            if planned is not None and planned <= now and _within(due, planned):
                try:
                    due.deliver(planned)
                except FAILURES as error:
                    logger.warning("%s could not be delivered: %s", due.key, error)
                except Exception:
                    logger.exception("%s could not be delivered", due.key)
        for key in set(self.known) - present:
            del self.known[key]

    def begin(self, now: datetime) -> None:
        """Says from when on schedules count; those that are there already, from the last look before a restart."""
        before = self.looked_at[0] if self.looked_at else now
        for due in self._all():
            self.known.setdefault(due.key, Known(due.identity, before, before))
        self.looked_at[:] = [now]

    def guard(self, begin: datetime, end: datetime) -> None:
        """Refuses an advance in which more would be due than one call is to deliver."""
        count = 0
        for due in self._all():
            known = self.known.get(due.key)
            schedule = self._parsed(due, known.since if known is not None else begin)
            moment = schedule.after(begin) if schedule is not None else None
            while schedule is not None and moment is not None and moment <= end:
                count += _within(due, moment)
                if count > MOST_DELIVERIES:
                    reached = (moment - begin).total_seconds()
                    raise ClockRefused(
                        f"Within {reached:.0f} s more than {MOST_DELIVERIES} schedules are due, {due.key} among them;"
                        " advance by less at once, or disable it."
                    )
                moment = schedule.after(moment)

    def _all(self) -> Iterator[Due]:
        for source in self.sources:
            yield from source()

    def _parsed(self, due: Due, since: datetime) -> Schedule | None:
        try:
            return parse(due.expression, timezone=due.timezone, since=since)
        except ScheduleError as error:
            if (due.key, due.expression) not in self._refused:
                self._refused.add((due.key, due.expression))
                logger.warning("%s never fires: %s", due.key, error)
            return None


def _within(due: Due, moment: datetime) -> bool:
    return (due.begins is None or moment >= due.begins) and (due.ends is None or moment <= due.ends)


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules of EventBridge that have a schedule."""

    backend: EventsBackend
    account: str
    region: str

    def __call__(self) -> Iterator[Due]:
        for bus in list(self.backend.event_buses.values()):
            for rule in list(bus.rules.values()):
                if rule.scheduled_expression and rule.state == "ENABLED":
                    yield Due(
                        key=f"rule {rule.name}",
                        expression=rule.scheduled_expression,
                        deliver=lambda planned, rule=rule: rule.send_to_targets(self._event(rule.arn, planned)),  # type: ignore[misc]
                    )

    def _event(self, arn: str, planned: datetime) -> Any:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": self.account,
            "time": planned.timestamp(),
            "ingestion-time": planned.timestamp(),  # a member that moto adds, and takes for granted
            "region": self.region,
            "resources": [arn],
            "detail": {},
        }


@dataclass(frozen=True, slots=True)
class SchedulerSchedules:
    """EventBridge Scheduler's, with its context attributes and the metrics of its groups."""

    backend: EventBridgeSchedulerBackend
    targets: Targets
    metrics: MetricStore
    clock: Clock

    def __call__(self) -> Iterator[Due]:
        for group in list(self.backend.schedule_groups.values()):
            for schedule in list(group.schedules.values()):
                if schedule.state == "ENABLED":
                    once = schedule.schedule_expression.startswith("at(")
                    yield Due(
                        key=f"schedule {group.name}/{schedule.name}",
                        expression=schedule.schedule_expression,
                        timezone=schedule.schedule_expression_timezone,
                        # Both are ignored for one-time schedules (CreateSchedule).
                        begins=None if once else _moment(schedule.start_date),
                        ends=None if once else _moment(schedule.end_date),
                        deliver=lambda planned, schedule=schedule: self._deliver(schedule, planned),  # type: ignore[misc]
                    )

    def _deliver(self, schedule: Any, planned: datetime) -> None:
        target, group = schedule.target, schedule.group_name
        payload = _with_attributes(target.get("Input") or "", schedule.arn, planned)
        self._count("InvocationAttemptCount", group)
        try:
            source = schedule.arn.replace(":schedule/", ":schedule-group/").rpartition("/")[0]
            self.targets.call(target, payload, taken_by="scheduler.amazonaws.com", source_arn=source)
        except Exception as error:
            logger.warning("schedule %s: %s was not called: %s", schedule.name, target["Arn"], error)
            self._count("TargetErrorCount", group)
            self._count("InvocationDroppedCount", group)
            if (queue := target.get("DeadLetterConfig", {}).get("Arn")) is not None:
                self.targets.bury(queue, payload, error)
                self._count("InvocationsSentToDeadLetterCount", group)
        if schedule.action_after_completion == "DELETE" and schedule.schedule_expression.startswith("at("):
            self.backend.delete_schedule(group, schedule.name)

    def _count(self, name: str, group: str) -> None:
        """Source: "Monitoring EventBridge Scheduler with CloudWatch"."""
        self.metrics.add(Series.of("AWS/Scheduler", name, {"ScheduleGroup": group}), self.clock.now(), 1.0)


def _with_attributes(text: str, arn: str, planned: datetime) -> str:
    """The input with what the scheduler fills in ("Adding context attributes")."""
    for name, value in (
        ("schedule-arn", arn),
        ("scheduled-time", planned.astimezone(UTC).strftime(_STAMP)),
        ("execution-id", str(uuid.uuid4())),
        ("attempt-number", "1"),
    ):
        text = text.replace(f"<aws.scheduler.{name}>", value)
    return text


def _moment(given: Any) -> datetime | None:
    """moto keeps what the client sent: seconds since 1970."""
    if given is None or isinstance(given, datetime):
        return given
    try:
        return datetime.fromtimestamp(float(given), UTC)
    except ValueError:
        return datetime.fromisoformat(str(given)).astimezone(UTC)


_update_of_moto = EventBridgeSchedulerResponse.update_schedule


def _update(self: EventBridgeSchedulerResponse) -> str:
    """moto leaves out what becomes of the schedule in the end; UpdateSchedule replaces all that a schedule has."""
    answer = _update_of_moto(self)
    name = self.uri.partition("?")[0].rpartition("/")[2]
    schedule = self.scheduler_backend.get_schedule(self._get_param("GroupName"), name)
    schedule.action_after_completion = self._get_param("ActionAfterCompletion")
    return answer


EventBridgeSchedulerResponse.update_schedule = _update  # type: ignore[method-assign]
