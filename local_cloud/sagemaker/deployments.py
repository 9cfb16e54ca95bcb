"""How an endpoint's traffic moves to a new fleet: all at once, in steps, or batch by batch; and back where need be.

The old fleet answers until the new one is healthy, and both answer, each its share, while it is watched. An alarm in
ALARM, the end of the time allowed, or an instance that does not start brings all traffic back to the old fleet; callers
notice nothing. Waits are on the cloud's clock. Rules and steps are in :mod:`.deployment_rules`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.sagemaker import deployment_rules
from tidegate.local_cloud.sagemaker.endpoint_state import Endpoint, Pending
from tidegate.local_cloud.sagemaker.fleet import Fleet, FleetStarter, Plan
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, role_of
from tidegate.local_cloud.sagemaker.state import Json, now

logger = logging.getLogger(__name__)

_LOOK_S = 10.0  # of the cloud's time: the shortest period of an alarm
_LOOK_AGAIN_S = 0.5  # of the machine's time, for alarms that are set by hand


class SentBack(Exception):
    """The old fleet has all traffic again; the text says why."""


class RollbackFailed(Exception):
    """Neither fleet could be completed: both stay in service, each with the share that it has."""


@dataclass(slots=True, kw_only=True)
class Move:
    """One deployment under way: ``config`` is the DeploymentConfig, ``counts`` the instances of the new fleet."""

    endpoint: Endpoint
    plan: Plan
    config: Json
    counts: Mapping[str, int]
    directory: Path
    ends_by: float
    """On the cloud's clock, in seconds since 1970."""
    adopt: Callable[[], None]
    """Makes the plan the endpoint's; called, with the lock held, when the new fleet has all traffic."""


@dataclass(slots=True, kw_only=True)
class Deployments:
    """Moves endpoints. ``lock`` guards their state; the alarms are asked for in the role of what is deployed."""

    starter: FleetStarter
    lock: threading.Lock
    closing: threading.Event = field(default_factory=threading.Event)

    def run(
        self,
        endpoint: Endpoint,
        plan: Plan,
        counts: Mapping[str, int],
        *,
        directory: Path,
        adopt: Callable[[], None],
    ) -> list[Fleet]:
        """Gives the endpoint the fleet of ``plan``, and returns those that it had, for the caller to stop.

        Raises what the start of a fleet raises, :class:`SentBack` or :class:`RollbackFailed`; but for the last, the
        endpoint then has the fleet that it had, and nothing of the new one is left.
        """
        config = plan.deployment_config or {}
        move = Move(
            endpoint=endpoint,
            plan=plan,
            config=config,
            counts=counts,
            directory=directory,
            ends_by=CLOCK.time() + deployment_rules.timeout_s(config),
            adopt=adopt,
        )
        rolling = deployment_rules.batches(config, sum(counts.values()))
        with self.lock:
            endpoint.pending = Pending(plan=plan, counts=dict(counts), started=now(), since=now())
        try:
            if rolling is not None and endpoint.fleet is not None and plan.variants:
                return self._roll(move, endpoint.fleet, rolling)
            return self._shift(move)
        finally:
            with self.lock:
                endpoint.pending = None

    def _shift(self, move: Move) -> list[Fleet]:
        """The whole new fleet beside the old, then the traffic in steps."""
        endpoint = move.endpoint
        new = self.starter.start(endpoint.name, move.plan, move.directory, move.counts)
        # After a roll-back that failed there are two, of which neither is complete: then all traffic moves at once.
        old = [fleet for fleet in (endpoint.fleet, endpoint.new_fleet) if fleet is not None]
        if len(old) == 1 and move.config:
            with self.lock:
                endpoint.new_fleet, endpoint.shares = new, {}
            try:
                for step in deployment_rules.shifts(move.config, move.counts):
                    self._say(move, "ActivatingTraffic", counts=move.counts)
                    self._give(move, step.shares)
                    self._bake(move, step.bake_s)
            except BaseException:
                with self.lock:
                    endpoint.new_fleet, endpoint.shares = None, {}
                new.stop()
                raise
        self._complete(move, new)
        return old

    def _complete(self, move: Move, new: Fleet) -> None:
        with self.lock:
            move.endpoint.fleet, move.endpoint.new_fleet, move.endpoint.shares = new, None, {}
            move.endpoint.pending = None
            move.adopt()

    def _roll(self, move: Move, old: Fleet, batches: deployment_rules.Batches) -> list[Fleet]:
        """A batch of new instances, its share of the traffic, and then as many old ones go."""
        endpoint = move.endpoint
        (variant,) = move.counts
        count, before = move.counts[variant], old.variants[variant].count
        new = self.starter.start(endpoint.name, move.plan, move.directory, {variant: min(batches.size, count)})
        with self.lock:
            endpoint.new_fleet, endpoint.shares = new, {}
        group = new.variants[variant]
        try:
            while True:
                self._say(move, "ActivatingTraffic", counts={variant: group.count})
                share = Fraction(group.count, count)
                self._give(move, {variant: share})
                self._bake(move, batches.bake_s)
                if group.count == count:
                    break
                self._resize_old(endpoint, old, variant, max(1, before - int(before * share)))
                self._say(move, "Creating")
                group.resize(min(group.count + batches.size, count))
        except Exception as reason:
            if self.closing.is_set():
                raise
            logger.warning("endpoint %s rolls back: %s", endpoint.name, reason)
            self._roll_back(move, old, new, before=before, at_a_time=batches.rollback_size or before)
            raise
        self._complete(move, new)
        return [old]

    def _roll_back(self, move: Move, old: Fleet, new: Fleet, *, before: int, at_a_time: int) -> None:
        """Old instances again, ``at_a_time``, their share of the traffic, and then as many new ones go."""
        (variant,) = move.counts
        count = move.counts[variant]
        try:
            while True:
                there = old.variants[variant].count
                self._resize_old(move.endpoint, old, variant, min(there + at_a_time, before))
                missing = Fraction(before - old.variants[variant].count, before)
                self._give(move, {variant: missing})
                if not missing:
                    break
                new.variants[variant].resize(max(1, int(count * missing)))
        except Exception as failure:
            logger.exception("endpoint %s could not be rolled back", move.endpoint.name)
            raise RollbackFailed(f"The rollback to the old configuration failed: {failure}") from failure
        with self.lock:
            move.endpoint.new_fleet, move.endpoint.shares = None, {}
        new.stop()

    def _resize_old(self, endpoint: Endpoint, old: Fleet, variant: str, count: int) -> None:
        old.variants[variant].resize(count)
        with self.lock:
            endpoint.current_counts[variant] = count

    def _give(self, move: Move, shares: Mapping[str, Fraction]) -> None:
        with self.lock:
            move.endpoint.shares = {variant: float(share) for variant, share in shares.items()}

    def _say(self, move: Move, status: str, *, counts: Mapping[str, int] | None = None) -> None:
        """What DescribeEndpoint tells of the deployment."""
        with self.lock:
            pending = move.endpoint.pending
            if pending is not None:
                pending.status, pending.since = status, now()
                pending.current.update(counts or {})

    def _bake(self, move: Move, bake_s: float) -> None:
        """Watches the alarms for ``bake_s`` of the cloud's time, and at least once. Raises :class:`SentBack`."""
        # Before anybody is told of it: who sets the clock ahead then has this wait behind him.
        ends = CLOCK.now() + timedelta(seconds=bake_s)
        self._say(move, "Baking")
        names = deployment_rules.alarm_names(move.config)
        if bake_s:
            logger.info(
                "endpoint %s bakes for %g s; POST /local/clock sets the clock ahead", move.endpoint.name, bake_s
            )
        while True:
            tripped = self._tripped(move, names)
            if tripped:
                raise SentBack(f"The alarm {tripped} is in ALARM, so the deployment was rolled back.")
            if CLOCK.time() > move.ends_by:
                raise SentBack("The deployment took longer than MaximumExecutionTimeoutInSeconds and was rolled back.")
            if self.closing.is_set():
                raise SentBack("The local cloud is shutting down.")
            left_s = (ends - CLOCK.now()).total_seconds()
            if left_s <= 0:
                return
            CLOCK.wait(min(left_s, _LOOK_S), goes_on=self._quiet(move, names), name=f"{move.endpoint.name} bakes")

    def _quiet(self, move: Move, names: Sequence[str]) -> Callable[[], bool]:
        """Whether there is no reason yet to look up from a wait."""
        looked = time.monotonic()

        def quiet() -> bool:
            nonlocal looked
            if self.closing.is_set():
                return False
            if time.monotonic() - looked < _LOOK_AGAIN_S:
                return True
            looked = time.monotonic()
            return not self._tripped(move, names)

        return quiet

    def _tripped(self, move: Move, names: Sequence[str]) -> str | None:
        """The first of these alarms that is in ALARM. Raises :class:`SentBack` where the role may not ask for them."""
        if not names:
            return None
        role = role_of(move.plan.variants[0].model) if move.plan.variants else move.plan.role_arn
        try:
            found = self.starter.roles.client("cloudwatch", role).describe_alarms(
                AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"], StateValue="ALARM"
            )
        except (RoleNotAssumed, ClientError, BotoCoreError) as error:
            raise SentBack(
                f"The alarms {', '.join(names)} cannot be read ({error}), so nothing would watch."
            ) from error
        alarms: list[Json] = [*found.get("MetricAlarms", []), *found.get("CompositeAlarms", [])]
        # Looked at here too, because not every CloudWatch filters by both.
        tripped = {alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"}
        return next((name for name in names if name in tripped), None)
