"""When schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.local_cloud.schedules.expressions import ScheduleError, parse

TUESDAY = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)


def _next(expression: str, count: int, *, timezone: str | None = None, after: datetime = TUESDAY) -> list[str]:
    schedule = parse(expression, timezone=timezone, since=TUESDAY)

    def moments() -> list[str]:
        found, moment = [], after
        while len(found) < count and (due := schedule.after(moment)) is not None:
            found.append(due.strftime("%Y-%m-%dT%H:%M"))
            moment = due
        return found

    return list(islice(moments(), count))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(1 minute)", ["2026-12-01T12:01", "2026-12-01T12:02"]),
        ("rate(5 minutes)", ["2026-12-01T12:05", "2026-12-01T12:10"]),
        ("rate(2 days)", ["2026-12-03T12:00", "2026-12-05T12:00"]),
        ("at(2026-12-24T18:00:00)", ["2026-12-24T18:00"]),
        ("at(2026-11-30T18:00:00)", []),
        ("cron(0 3 * * ? *)", ["2026-12-02T03:00", "2026-12-03T03:00"]),
        ("cron(0/20 12 * * ? *)", ["2026-12-01T12:20", "2026-12-01T12:40", "2026-12-02T12:00"]),
        ("cron(*/20 12 * * ? *)", ["2026-12-01T12:20", "2026-12-01T12:40", "2026-12-02T12:00"]),
        ("cron(15,45 8-9 ? * MON-FRI *)", ["2026-12-02T08:15", "2026-12-02T08:45", "2026-12-02T09:15"]),
        ("cron(0 0 ? * SAT,SUN *)", ["2026-12-05T00:00", "2026-12-06T00:00", "2026-12-12T00:00"]),
        ("cron(0 0 ? * FRI-MON *)", ["2026-12-04T00:00", "2026-12-05T00:00", "2026-12-06T00:00", "2026-12-07T00:00"]),
        ("cron(0 0 1 1/3 ? *)", ["2027-01-01T00:00", "2027-04-01T00:00"]),
        ("cron(0 0 L * ? *)", ["2026-12-31T00:00", "2027-01-31T00:00", "2027-02-28T00:00"]),
        ("cron(0 0 1W * ? *)", ["2027-01-01T00:00", "2027-02-01T00:00", "2027-03-01T00:00"]),
        ("cron(0 0 15W AUG ? 2027)", ["2027-08-16T00:00"]),
        ("cron(0 0 ? * 6L *)", ["2026-12-25T00:00", "2027-01-29T00:00"]),
        ("cron(0 0 ? * TUE#2 *)", ["2026-12-08T00:00", "2027-01-12T00:00"]),
        ("cron(0 0 29 FEB ? *)", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("cron(0 0 1 1 ? 2030-2031)", ["2030-01-01T00:00", "2031-01-01T00:00"]),
        ("cron(0 0 1 1 ? 2020)", []),
    ],
)
def test_a_schedule_is_due_when_the_service_would_have_it(expression: str, expected: list[str]) -> None:
    assert _next(expression, max(1, len(expected))) == expected


def test_a_time_zone_moves_with_its_summer() -> None:
    days = _next("cron(30 2 * * ? *)", 3, timezone="Europe/Berlin", after=datetime(2027, 3, 26, 12, tzinfo=UTC))
    # On 28 March 2027 there is no half past two.
    assert days == ["2027-03-27T01:30", "2027-03-29T00:30", "2027-03-30T00:30"]
    autumn = _next("cron(30 2 * * ? *)", 2, timezone="Europe/Berlin", after=datetime(2027, 10, 30, 12, tzinfo=UTC))
    # On 31 October it comes twice, and counts once.
    assert autumn == ["2027-10-31T00:30", "2027-11-01T01:30"]


@pytest.mark.parametrize(
    "expression",
    [
        "rate(0 minutes)", "rate(5 weeks)", "rate(minutes)", "cron(0 3 * * *)", "cron(0 3 * * * *)",
        "cron(0 3 ? * ? *)",
        "cron(60 3 * * ? *)", "cron(0 24 * * ? *)", "cron(0 3 32 * ? *)", "cron(0 3 ? * 8 *)", "cron(0 3 ? * MON#6 *)",
        "cron(x 3 * * ? *)", "cron(0/0 3 * * ? *)", "at(tomorrow)", "every day", "",
    ],
)  # fmt: skip
def test_an_expression_that_means_nothing_is_refused(expression: str) -> None:
    with pytest.raises(ScheduleError):
        parse(expression, since=TUESDAY)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ScheduleError, match="Europe/Atlantis"):
        parse("cron(0 3 * * ? *)", timezone="Europe/Atlantis", since=TUESDAY)


@given(
    st.integers(0, 4 * 365 * 24 * 60 * 60),
    st.sampled_from(["rate(7 minutes)", "cron(*/7 * * * ? *)"]),
)
def test_what_is_due_next_is_always_later(seconds: int, expression: str) -> None:
    begin = TUESDAY + timedelta(seconds=seconds)
    due = parse(expression, since=begin - timedelta(days=1)).after(begin)
    assert due is not None
    assert timedelta() < due - begin <= timedelta(minutes=7)
