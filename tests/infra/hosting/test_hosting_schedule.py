"""Bounds of the scaling that change by the clock."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.infra.hosted import ALARM, ENDPOINT, POLICY, TARGET, change, host
from tidegate.infra.configuration.schedule import Expression, TimeZone

pytestmark = pytest.mark.usefixtures("node_on_path")

NIGHT = {"name": "night", "when": "cron(0 20 ? * MON-FRI *)", "timezone": "Europe/Berlin"}


def scaled(mode: str, *actions: dict[str, Any], **bounds: int) -> dict[str, Any]:
    """The full table of a mode, scaled within `bounds` and at the moments of `actions`."""
    return change(mode, scaling={**bounds, "schedule": list(actions)})


@pytest.mark.parametrize(
    "expression",
    [
        "rate(1 day)",
        "rate(12 hours)",
        "at(2027-01-31T20:00:00)",
        "cron(0 20 ? * MON-FRI *)",
        "cron(*/15 8-17 L * ? 2027/2)",
        "cron(0,30 6 1,15W JAN-MAR,12 ? *)",
        "cron(0 3 ? * FRIL *)",
        "cron(0 3 ? * mon#2 2026-2030)",
    ],
)
def test_the_ways_in_which_aws_writes_a_schedule_are_taken(expression: str) -> None:
    assert TypeAdapter(Expression).validate_python(expression) == expression


@pytest.mark.parametrize(
    "expression",
    [
        "daily",
        "rate(0 days)",
        "rate(1 week)",
        "at(2027-02-30T20:00:00)",
        "at(2027-01-31)",
        "cron(0 20 * * *)",
        "cron(0 20 * * * *)",
        "cron(0 20 ? * ? *)",
        "cron(60 20 ? * MON *)",
        "cron(0 24 ? * MON *)",
        "cron(? 20 ? * MON *)",
        "cron(0 20 ? * MO *)",
        "cron(0 20 ? * 0 *)",
        "cron(0 20 32 * ? *)",
        "cron(0/0 20 ? * MON *)",
        "cron(0 1-2-3 ? * MON *)",
        "cron(0 20 ? * MON#6 *)",
        "cron(0 20 ? * MON 1969)",
    ],
)
def test_a_schedule_that_aws_would_not_read_is_refused(expression: str) -> None:
    with pytest.raises(ValidationError, match="not a schedule; write one like"):
        TypeAdapter(Expression).validate_python(expression)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+9"])
def test_time_zones_have_the_names_of_the_iana(zone: str) -> None:
    assert TypeAdapter(TimeZone).validate_python(zone) == zone


@pytest.mark.parametrize("zone", ["Berlin", "Europe/Berln", "+01:00", ""])
def test_a_time_zone_that_nobody_lives_in_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="not a time zone; write 'UTC' or one like 'Europe/Berlin'"):
        TypeAdapter(TimeZone).validate_python(zone)


def test_each_action_gives_the_target_other_bounds() -> None:
    peak = {"name": "peak", "when": "at(2027-11-26T00:00:00)", "min_instances": 4, "max_instances": 7}
    quiet = NIGHT | {"min_instances": 1, "max_instances": 2}
    target = host(scaled("realtime", quiet, peak, min_instances=2, max_instances=7)).only(TARGET)

    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 7)
    assert target["ScheduledActions"] == [
        {
            "ScheduledActionName": "night",
            "Schedule": "cron(0 20 ? * MON-FRI *)",
            "Timezone": "Europe/Berlin",
            "ScalableTargetAction": {"MinCapacity": 1, "MaxCapacity": 2},
        },
        {
            "ScheduledActionName": "peak",
            "Schedule": "at(2027-11-26T00:00:00)",
            "ScalableTargetAction": {"MinCapacity": 4, "MaxCapacity": 7},
        },
    ]


def test_a_part_of_the_fewest_instances_of_the_day_is_what_a_roll_out_shifts() -> None:
    """At night there may be one instance, and a part of one is the whole of it."""
    quiet = NIGHT | {"min_instances": 1, "max_instances": 2}
    hosted = host(scaled("realtime", quiet, min_instances=2, max_instances=4))
    policy = hosted.only(ENDPOINT)["DeploymentConfig"]["BlueGreenUpdatePolicy"]

    assert policy["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert "moves a part of the instances first, and there may be only one" in hosted.warnings


def test_an_asynchronous_endpoint_that_sleeps_at_night_and_may_be_woken_has_what_wakes_it() -> None:
    quiet = NIGHT | {"min_instances": 0, "max_instances": 3}
    hosted = host(scaled("async", quiet, min_instances=1, max_instances=3))

    assert {one["PolicyType"] for one in hosted.all(POLICY).values()} == {"TargetTrackingScaling", "StepScaling"}
    assert hosted.alarm("-wake")["MetricName"] == "HasBacklogWithoutCapacity"


def test_one_that_is_closed_at_night_is_woken_by_nothing_and_started_anew_by_an_update() -> None:
    """With a maximum of 0 a policy could add none; an update must not keep a count of 0."""
    closed = NIGHT | {"min_instances": 0, "max_instances": 0}
    hosted = host(scaled("async", closed, min_instances=1, max_instances=3) | {"rollout": None})

    assert {one["PolicyType"] for one in hosted.all(POLICY).values()} == {"TargetTrackingScaling"}
    assert hosted.all(ALARM) == {}
    assert "RetainAllVariantProperties" not in hosted.only(ENDPOINT)


def test_the_copies_of_a_component_are_bounded_by_the_clock_too() -> None:
    closed = NIGHT | {"min_copies": 0, "max_copies": 0}
    hosted = host(scaled("component", closed, min_copies=1, max_copies=4))

    (action,) = hosted.only(TARGET)["ScheduledActions"]
    assert action["ScalableTargetAction"] == {"MinCapacity": 0, "MaxCapacity": 0}
    assert {one["PolicyType"] for one in hosted.all(POLICY).values()} == {"TargetTrackingScaling"}
