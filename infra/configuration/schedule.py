"""When something happens, in the words that Application Auto Scaling and EventBridge Scheduler share.

Sources: Application Auto Scaling guide, "Schedule recurring scaling actions using cron expressions"; EventBridge
Scheduler guide, "Schedule types".
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import AfterValidator

from tidegate.infra.configuration.value import Rule

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """One of the six fields of a cron expression: its numbers, the names of some, and forms that only it has."""

    low: int
    high: int
    names: tuple[str, ...] = ()
    # A regular expression of what stands for itself, such as `L`.
    special: str = r"(?!)"

    def takes(self, text: str) -> bool:
        return all(self._is_part(part) for part in text.split(","))

    def _is_part(self, part: str) -> bool:
        if re.fullmatch(self.special, part, re.IGNORECASE):
            return True
        span, slash, step = part.partition("/")
        if slash and not (step.isdecimal() and int(step) > 0):
            return False
        if span == "*":
            return True
        ends = span.split("-")
        return len(ends) <= 2 and all(self._is_one(end) for end in ends)

    def _is_one(self, text: str) -> bool:
        return text.upper() in self.names or (text.isdecimal() and self.low <= int(text) <= self.high)


_DAY = _Field(low=1, high=31, special=r"L(-[0-9]+)?|LW|([1-9]|[12][0-9]|3[01])W")
_WEEKDAY = _Field(low=1, high=7, names=_WEEKDAYS, special=rf"L|([1-7]|{'|'.join(_WEEKDAYS)})(L|#[1-5])")
_FIELDS = (
    _Field(low=0, high=59),
    _Field(low=0, high=23),
    _DAY,
    _Field(low=1, high=12, names=_MONTHS),
    _WEEKDAY,
    _Field(low=1970, high=2199),
)


def _is_cron(text: str) -> bool:
    """Six fields, of which one of the two kinds of days says nothing: `?`."""
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return False
    day, weekday = fields[2], fields[4]
    if (day == "?") == (weekday == "?"):
        return False
    return all(
        one.takes(text) or (text == "?" and one in (_DAY, _WEEKDAY)) for one, text in zip(_FIELDS, fields, strict=True)
    )


def _is_moment(text: str) -> bool:
    try:
        datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S")  # noqa: DTZ007 - the time zone is a key of its own
    except ValueError:
        return False
    return True


def is_rate(expression: str) -> bool:
    """Whether it goes by intervals, for which there is no time zone."""
    return expression.startswith("rate(")


def _is_expression(text: str) -> bool:
    # Python takes the digits of every script for digits.
    if not text.isascii():
        return False
    if found := re.fullmatch(r"cron\((.+)\)", text):
        return _is_cron(found[1])
    if found := re.fullmatch(r"at\(([0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2})\)", text):
        return _is_moment(found[1])
    return re.fullmatch(r"rate\([1-9][0-9]* (minutes?|hours?|days?)\)", text) is not None


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _is_zone(name: str) -> bool:
    """By the IANA's list where this machine has one, and else by its form."""
    known = _known_zones()
    return re.fullmatch(r"UTC|[A-Za-z_]+(/[A-Za-z0-9_+-]+)+", name) is not None and (not known or name in known)


Expression = Annotated[
    str,
    AfterValidator(
        Rule(
            _is_expression,
            "not a schedule; write one like 'rate(1 day)', 'at(2027-01-31T20:00:00)' or 'cron(0 3 * * ? *)', with '?' "
            "for the day of the month or of the week",
        )
    ),
]

TimeZone = Annotated[str, AfterValidator(Rule(_is_zone, "not a time zone; write 'UTC' or one like 'Europe/Berlin'"))]
