"""What happens at every full minute of the clock, in this order: metrics, alarms (which act), schedules.

The rooms that do it know nothing of each other; this is where they meet.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.events.models import events_backends
from moto.scheduler.models import scheduler_backends

from tidegate.local_cloud import request_gate
from tidegate.local_cloud.access import RoleSessions
from tidegate.local_cloud.alarms import history
from tidegate.local_cloud.alarms.alarm_rules import AlarmRules
from tidegate.local_cloud.alarms.alarms import Actions, Alarms
from tidegate.local_cloud.clock import Clock
from tidegate.local_cloud.metrics import reading
from tidegate.local_cloud.metrics.kept_metrics import KeptMetrics
from tidegate.local_cloud.metrics.moto_metrics import PutMetrics, show
from tidegate.local_cloud.metrics.put_rules import PutRules
from tidegate.local_cloud.metrics.store import KEPT, MINUTE_S, MetricStore
from tidegate.local_cloud.metrics.workflow_metrics import WorkflowMetrics
from tidegate.local_cloud.sagemaker.service import SageMaker
from tidegate.local_cloud.scaling.policies import Activity
from tidegate.local_cloud.scaling.scaler import Scaler
from tidegate.local_cloud.scaling.scaling_rules import ScalingRules
from tidegate.local_cloud.schedules.event_rules import EventRules
from tidegate.local_cloud.schedules.schedule_rules import ScheduleRules
from tidegate.local_cloud.schedules.schedules import Known, Rules, SchedulerSchedules, Schedules
from tidegate.local_cloud.schedules.targets import Targets

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitters:
    """``store`` has this cloud's metrics; ``flush`` puts what was counted there, ``emit`` what is measured."""

    store: MetricStore
    flush: Callable[[], None]
    emit: Callable[[datetime], None]


@dataclass(frozen=True, slots=True)
class Past:
    """What the rooms of a minute have done, which the next minutes depend on; a cloud that remembers keeps it."""

    KEPT: ClassVar[tuple[str, ...]] = ("schedules", "looked_at", "changes", "activities", "told", "alarm_history")

    schedules: dict[str, Known] = field(default_factory=dict)
    looked_at: list[datetime] = field(default_factory=list)
    changes: dict[str, Activity] = field(default_factory=dict)
    activities: list[dict[str, Any]] = field(default_factory=list)
    told: set[tuple[str, str]] = field(default_factory=set)
    alarm_history: list[dict[str, Any]] = field(default_factory=list)


def each_of(*rooms: request_gate.Rules) -> request_gate.Rules:
    """The rules of several rooms of one service."""

    def check(operation: str, request: dict[str, Any]) -> None:
        for rules in rooms:
            rules(operation, request)

    return check


class Minute:
    """Ticks once :meth:`start` was called, as long as the clock runs."""

    def __init__(
        self,
        clock: Clock,
        emitters: Emitters,
        make_client: Callable[[str], Any],
        past: Past,
        *,
        account: str,
        region: str,
        sessions: RoleSessions | None,
        metrics_file: Path | None = None,
    ) -> None:
        """``metrics_file`` is where the metrics of a cloud that remembers are."""
        self._clock = clock
        self._emitters = emitters
        self._kept = KeptMetrics(metrics_file, emitters.store) if metrics_file is not None else None
        cloudwatch = cloudwatch_backends[account][region]
        self.scaler = Scaler(
            applicationautoscaling_backends[account][region],
            make_client,
            clock,
            last=past.changes,
            activities=past.activities,
        )
        self.alarms = Alarms(
            cloudwatch,
            emitters.store,
            PutMetrics(cloudwatch),
            clock,
            Actions(
                publish=lambda topic, subject, message: make_client("sns").publish(
                    TopicArn=topic, Subject=subject, Message=message
                ),
                announce=lambda happened, arn, detail: make_client("events").put_events(
                    Entries=[
                        {
                            "Source": "aws.cloudwatch",
                            "DetailType": happened,
                            "Resources": [arn],
                            "Detail": json.dumps(detail),
                        }
                    ]
                ),
                scale=self.scaler.scale,
            ),
            account,
            history.History(past.alarm_history),
        )
        self._workflow_metrics = WorkflowMetrics(emitters.store, account=account, region=region, told=past.told)
        self.schedules = Schedules(
            clock,
            [
                Rules(events_backends[account][region], account, region),
                SchedulerSchedules(
                    scheduler_backends[account][region], Targets(make_client, sessions), emitters.store, clock
                ),
                self.scaler.scheduled,
            ],
            known=past.schedules,
            looked_at=past.looked_at,
        )
        self._rules: dict[str, request_gate.Rules] = {
            "application-autoscaling": ScalingRules(self.scaler.backend, make_client),
            "cloudwatch": each_of(AlarmRules(cloudwatch, region), reading.check, PutRules(clock)),
            "events": EventRules(events_backends[account][region]),
            "scheduler": ScheduleRules(
                backend=scheduler_backends[account][region], clock=clock, region=region, sessions=sessions
            ),
        }

    def start(self) -> None:
        """Before the clock is started."""
        if self._kept is not None:
            self._kept.load(self._clock.now())
        self.alarms.install()
        self.scaler.install()
        request_gate.check_by(self._rules)
        show(self._emitters.store, self._emitters.flush)
        now = self._clock.now()
        first = datetime.fromtimestamp((now.timestamp() // MINUTE_S) * MINUTE_S, now.tzinfo)
        self.schedules.begin(first)
        self._clock.add_guard(self.schedules.guard)
        self._clock.every(MINUTE_S, self._tick, name="the minute", first=first + timedelta(seconds=MINUTE_S))

    def close(self) -> None:
        """When the clock has ended: keeps what was counted since the last full minute."""
        if self._kept is not None:
            self._emitters.flush()
            self._kept.write()

    def _forget(self) -> None:
        oldest = self._clock.now() - KEPT
        self._emitters.store.forget_before(oldest)
        self.alarms.put.store.forget_before(oldest)
        self.alarms.history.forget_before(self._clock.now() - history.KEPT)

    def _tick(self) -> None:
        now = self._clock.now()
        for work in (
            self._emitters.flush,
            lambda: self._emitters.emit(now - timedelta(seconds=MINUTE_S)),
            lambda: self._workflow_metrics.emit(now - timedelta(seconds=MINUTE_S)),
            self.alarms.evaluate_all,
            self.schedules.fire,
            *([self._forget] if now.minute == 0 else []),
            *([self._kept.write] if self._kept is not None else []),
        ):
            try:
                work()
            except Exception:
                logger.exception("a part of the minute failed")


def begin(
    clock: Clock,
    sagemaker: SageMaker,
    make_client: Callable[[str], Any],
    past: Past,
    *,
    account: str,
    region: str,
    sessions: RoleSessions | None,
    metrics_file: Path | None = None,
) -> Minute:
    """Begins with the minutes of a cloud; with ``sessions`` schedules act in their roles, whose rights are checked."""
    emitters = Emitters(
        store=sagemaker.metrics.store, flush=sagemaker.metrics.flush, emit=sagemaker.capacity_metrics.emit
    )
    place = {"account": account, "region": region}
    minute = Minute(clock, emitters, make_client, past, **place, sessions=sessions, metrics_file=metrics_file)
    minute.start()
    return minute
