"""Which state values mean: the tables of the CloudWatch user guide, and composite rules."""

from __future__ import annotations

from typing import cast

import pytest

from tidegate.local_cloud.alarms.composite_rules import RuleError, holds
from tidegate.local_cloud.alarms.evaluation import State, state_of

# "Configuring how CloudWatch alarms treat missing data": 3 of 3, with five periods looked at. The columns are missing,
# ignore, breaching, notBreaching; "keep" is the state that the alarm had.
THREE_OF_THREE = [
    ("0 - X - X", "OK", "OK", "OK", "OK"),
    ("0 - - - -", "OK", "OK", "OK", "OK"),
    ("- - - - -", "INSUFFICIENT_DATA", "keep", "ALARM", "OK"),
    ("0 X X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("- - X - -", "ALARM", "keep", "ALARM", "OK"),
]
TWO_OF_THREE = [
    ("0 - X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("0 0 X 0 X", "ALARM", "ALARM", "ALARM", "ALARM"),
    ("0 - X - -", "OK", "OK", "ALARM", "OK"),
    ("- - - - 0", "OK", "OK", "ALARM", "OK"),
    ("- - - X -", "ALARM", "keep", "ALARM", "OK"),
]
MISSING = ("missing", "ignore", "breaching", "notBreaching")
COLUMNS = ("missing", "ignore", "breaching", "not_breaching")


def _breaches(row: str) -> list[bool | None]:
    return [None if sign == "-" else sign == "X" for sign in row.split()]


@pytest.mark.parametrize("present", ["OK", "ALARM", "INSUFFICIENT_DATA"])
@pytest.mark.parametrize(("row", *COLUMNS), THREE_OF_THREE)
def test_three_of_three_periods_as_the_guide_s_table_has_it(
    row: str,
    missing: str,
    ignore: str,
    breaching: str,
    not_breaching: str,
    present: str,
) -> None:
    for treatment, expected in zip(MISSING, (missing, ignore, breaching, not_breaching), strict=True):
        found = state_of(_breaches(row), periods=3, to_alarm=3, missing=treatment, present=cast("State", present))
        assert found == (present if expected == "keep" else expected), treatment


@pytest.mark.parametrize(("row", *COLUMNS[2:]), [(row, three, four) for row, _, _, three, four in TWO_OF_THREE])
def test_two_of_three_periods_as_the_guide_s_table_has_it(row: str, breaching: str, not_breaching: str) -> None:
    for treatment, expected in zip(MISSING[2:], (breaching, not_breaching), strict=True):
        assert state_of(_breaches(row), periods=3, to_alarm=2, missing=treatment, present="OK") == expected, treatment


RULES = [
    ('ALARM("a")', True),
    ("ALARM(a)", True),
    ("OK(a)", False),
    ("NOT OK(a)", True),
    ("ALARM(a) AND ALARM(b)", False),
    ("ALARM(a) OR ALARM(b)", True),
    ("ALARM(b) OR ALARM(a) AND OK(b)", True),
    ("NOT (ALARM(a) AND (OK(b) OR FALSE))", False),
    ("INSUFFICIENT_DATA(c)", True),
    ("ALARM(arn:aws:cloudwatch:us-east-1:1:alarm:a)", True),
    ("TRUE", True),
    ("NOT false", True),
    ('AT_LEAST(1, ALARM, (a, "b"))', True),
    ("AT_LEAST(2, ALARM, (a, b, c))", False),
    ("AT_LEAST(2, NOT ALARM, (a, b, c))", True),
    ("AT_LEAST(60%, ALARM, (a, b))", False),
    ("AT_LEAST(50%, ALARM, (arn:aws:cloudwatch:us-east-1:1:alarm:a, b)) AND OK(b)", True),
]


@pytest.mark.parametrize(("rule", "expected"), RULES)
def test_a_composite_rule_is_read_as_the_service_reads_it(rule: str, expected: bool) -> None:
    states = {"a": "ALARM", "arn:aws:cloudwatch:us-east-1:1:alarm:a": "ALARM", "b": "OK", "c": "INSUFFICIENT_DATA"}
    assert holds(rule, states) is expected


@pytest.mark.parametrize("rule", ["ALARM(z)", "ALARM(a) ALARM(a)", "(ALARM(a)", "AND", "AT_LEAST(2, ALARM, (a))", ""])
def test_a_composite_rule_that_cannot_be_read_is_refused(rule: str) -> None:
    with pytest.raises(RuleError):
        holds(rule, {"a": "OK"})
