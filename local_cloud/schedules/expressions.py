"""``rate(5 minutes)``, ``cron(0 3 ? * MON-FRI *)`` and ``at(2026-12-01T03:00:00)``, and when they are next due.

Sources: "Schedule types in EventBridge Scheduler"
(https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html) and "Cron and rate expressions" of
EventBridge: six fields, and in the days ``?``, ``L``, ``W`` and ``#``. In a time zone, an hour that the clocks leave
out is left out, and one that comes twice counts once.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_RATE = re.compile(r"rate\((?P<number>[0-9]{1,9})\s+(?P<unit>minutes?|hours?|days?)\)")
_CRON = re.compile(r"cron\((?P<fields>[^()]*)\)")
_AT = re.compile(r"at\((?P<moment>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\)")
_UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), start=1)}
_LAST_YEAR = 2199


class ScheduleError(ValueError):
    """The expression cannot be read; the text says what is wrong."""


class Schedule(Protocol):
    """When something is due."""

    def after(self, moment: datetime) -> datetime | None:
        """The first time after ``moment``, UTC; None when there is none any more."""


def parse(expression: str, *, timezone: str | None = None, since: datetime) -> Schedule:
    """A schedule. A rate counts from ``since``. Raises :class:`ScheduleError`.

    Spaces stand only between the number and its unit, and between fields, as on AWS.
    """
    zone = zone_of(timezone)
    if match := _RATE.fullmatch(expression):
        number = int(match["number"])
        if number < 1:
            raise ScheduleError(f"{expression} has no positive number.")
        return _Rate(since, number * _UNITS[match["unit"].removesuffix("s")])
    if match := _AT.fullmatch(expression):
        try:
            moment = datetime.fromisoformat(match["moment"])
        except ValueError as error:
            raise ScheduleError(f"{expression} has no time such as 2026-12-01T03:00:00.") from error
        return _Once(moment.replace(tzinfo=zone).astimezone(UTC))
    if match := _CRON.fullmatch(expression):
        fields = match["fields"].upper().split()
        if len(fields) != 6:
            raise ScheduleError(f"{expression} has {len(fields)} fields and not six.")
        return _cron(expression, fields, zone)
    raise ScheduleError(f"{expression} is neither rate(…) nor cron(…) nor at(…).")


def says_one_as_one(expression: str) -> bool:
    """Whether a rate has its unit as EventBridge's rules ask for: ``1 minute``, and ``2 minutes``."""
    match = _RATE.fullmatch(expression)
    return match is None or (int(match["number"]) == 1) != match["unit"].endswith("s")


def zone_of(name: str | None) -> ZoneInfo:
    """A time zone; UTC where none is named. Raises :class:`ScheduleError`."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # a folder of zones, such as Europe, is an OSError
        raise ScheduleError(f"There is no time zone {name}.") from error


@dataclass(frozen=True, slots=True)
class _Rate:
    since: datetime
    every: timedelta

    def after(self, moment: datetime) -> datetime | None:
        passed = max(0, (moment - self.since) // self.every)
        try:
            return self.since + (passed + 1) * self.every
        except OverflowError:  # beyond the year 9999
            return None


@dataclass(frozen=True, slots=True)
class _Once:
    moment: datetime

    def after(self, moment: datetime) -> datetime | None:
        return self.moment if self.moment > moment else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cron:
    minutes: Sequence[int]
    hours: Sequence[int]
    months: frozenset[int]
    years: frozenset[int]
    is_day: Callable[[date], bool]
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        local = moment.astimezone(self.zone)
        day = local.date()
        while day.year <= _LAST_YEAR:
            if day.year not in self.years:
                later = [year for year in self.years if year > day.year]
                if not later:
                    return None
                day = date(min(later), 1, 1)
            elif day.month not in self.months:
                day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
            elif self.is_day(day) and (found := self._on(day, moment)) is not None:
                return found
            else:
                day += timedelta(days=1)
        return None

    def _on(self, day: date, moment: datetime) -> datetime | None:
        for hour in self.hours:
            for minute in self.minutes:
                local = datetime.combine(day, time_of_day(hour, minute), self.zone)
                due = local.astimezone(UTC)
                # Where the clocks were put forward there is no such time.
                if due > moment and due.astimezone(self.zone).replace(tzinfo=None) == local.replace(tzinfo=None):
                    return due
        return None


def _cron(expression: str, fields: Sequence[str], zone: ZoneInfo) -> _Cron:
    minute, hour, day_of_month, month, day_of_week, year = fields
    if (day_of_month == "?") == (day_of_week == "?"):
        raise ScheduleError(f"{expression} must have ? as the day of the month or as the day of the week.")
    try:
        return _Cron(
            minutes=sorted(_numbers(minute, 0, 59)),
            hours=sorted(_numbers(hour, 0, 23)),
            months=_numbers(month, 1, 12, _MONTHS),
            years=_numbers(year, 1970, _LAST_YEAR),
            is_day=_day_of_week(day_of_week) if day_of_month == "?" else _day_of_month(day_of_month),
            zone=zone,
        )
    except ValueError as error:
        raise ScheduleError(f"{expression}: {error}.") from error


def _numbers(field: str, low: int, high: int, names: Mapping[str, int] | None = None) -> frozenset[int]:
    """What ``*``, ``5``, ``1-5``, ``*/15``, ``10/5`` and lists of these stand for."""
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        begin, dash, end = span.partition("-")
        first = low if span == "*" else _number(begin, names)
        last = high if span == "*" or (slash and not dash) else (_number(end, names) if dash else first)
        if first > last and names is _DAYS:  # FRI-MON
            found |= {*range(first, high + 1), *range(low, last + 1)}
            continue
        if not low <= first <= last <= high or (slash and int(step) < 1):
            raise ValueError(f"{part} is not within {low} and {high}")
        found |= set(range(first, last + 1, int(step) if slash else 1))
    return frozenset(found)


def _number(word: str, names: Mapping[str, int] | None) -> int:
    if names is not None and word in names:
        return names[word]
    if not word.isascii() or not word.isdigit():
        raise ValueError(f"{word or 'nothing'} is no number here")
    return int(word)


def _within(number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise ValueError(f"{number} is not within {low} and {high}")
    return number


def _day_of_month(field: str) -> Callable[[date], bool]:
    if field == "L":
        return lambda day: day.day == _days_in(day)
    if field == "LW":
        return lambda day: day.day == _weekday_near(day, _days_in(day))
    if field.endswith("W"):
        wanted = _within(_number(field[:-1], None), 1, 31)
        return lambda day: day.day == _weekday_near(day, min(wanted, _days_in(day)))
    numbers = _numbers(field, 1, 31)
    return lambda day: day.day in numbers


def _day_of_week(field: str) -> Callable[[date], bool]:
    if "#" in field:
        name, _, which = field.partition("#")
        wanted, nth = _within(_number(name, _DAYS), 1, 7), _within(_number(which, None), 1, 5)
        return lambda day: _of_week(day) == wanted and (day.day - 1) // 7 + 1 == nth
    if field.endswith("L"):
        last = _within(_number(field[:-1], _DAYS), 1, 7) if field != "L" else _DAYS["SAT"]
        if field == "L":
            return lambda day: _of_week(day) == last
        return lambda day: _of_week(day) == last and day.day + 7 > _days_in(day)
    numbers = _numbers(field, 1, 7, _DAYS)
    return lambda day: _of_week(day) in numbers


def _of_week(day: date) -> int:
    """1 is Sunday, as in AWS's expressions."""
    return day.isoweekday() % 7 + 1


def _days_in(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _weekday_near(month: date, number: int) -> int:
    """The weekday of that month that is nearest to its day ``number``."""
    day = month.replace(day=number)
    if day.isoweekday() == 6:
        return number - 1 if number > 1 else number + 2
    if day.isoweekday() == 7:
        return number + 1 if number < _days_in(month) else number - 2
    return number
