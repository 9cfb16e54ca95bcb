"""Metric math, and the statistics of series."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.local_cloud.metrics.expressions import ExpressionError, evaluate
from tidegate.local_cloud.metrics.store import MetricStore, Series, Tally

BEGIN = datetime(2026, 12, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a + b * 2", [21.0, None, 64.0]),
        ("(a + b) * 2", [22.0, None, 68.0]),
        ("-a ^ 2", [-1.0, -4.0, -16.0]),
        ("100 * a / b", [10.0, None, 100 * 4 / 30]),
        ("a / 0", [None, None, None]),
        ("FILL(b, 0) / 2", [5.0, 0.0, 15.0]),
        ("FILL(b, a)", [10.0, 2.0, 30.0]),
        ("MAX([FILL(a, 0) / 1, FILL(b, 0) / 10])", [1.0, 2.0, 4.0]),
        ("MIN([a, b])", [1.0, 2.0, 4.0]),
        ("AVG([a, b])", [5.5, 2.0, 17.0]),
        ("SUM(METRICS())", [11.0, 2.0, 34.0]),
        ("IF(a >= 2, 100 * a, 0)", [0.0, 200.0, 400.0]),
        ("IF(b - a > a, b - a, a)", [9.0, None, 26.0]),
        ("IF(a > 1 AND a < 4, 1, 0)", [0.0, 1.0, 0.0]),
        ("a > 3 OR a < 2", [1.0, 0.0, 1.0]),
        ("a == 2 || a != 2", [1.0, 1.0, 1.0]),
        ("CEIL(a / 2) + FLOOR(a / 2) + ABS(0 - a)", [2.0, 4.0, 8.0]),
        ("MAX(a)", [4.0, 4.0, 4.0]),
        ("7", [7.0, 7.0, 7.0]),
    ],
)
def test_expressions_are_computed_period_by_period(expression: str, expected: list[float | None]) -> None:
    series = {"a": [1.0, 2.0, 4.0], "b": [10.0, None, 30.0]}
    assert evaluate(expression, series, 3) == expected


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("ANOMALY_DETECTION_BAND(a)", "ANOMALY_DETECTION_BAND"),
        ("a + c", "names c"),
        ("a +", "ends before"),
        ("(a", "lacks"),
        ("a b", "did not expect"),
        ("a $ b", "cannot read"),
        ("METRICS()", "several series"),
        ("(" * 200 + "a" + ")" * 200, "brackets"),
        ("SELECT AVG(x) FROM y", "did not expect"),
    ],
)
def test_an_expression_that_cannot_be_computed_is_refused_with_its_reason(expression: str, said: str) -> None:
    with pytest.raises(ExpressionError, match=said):
        evaluate(expression, {"a": [1.0], "b": [2.0]}, 1) if "SELECT" not in expression else evaluate(
            expression, {"SELECT": [1.0]}, 1
        )


@given(st.lists(st.floats(0.001, 1e7), min_size=1, max_size=60), st.sampled_from([0, 10, 50, 90, 99, 99.9, 100]))
def test_a_percentile_is_within_one_percent_of_a_value_of_its_rank(values: list[float], percent: float) -> None:
    tally = Tally()
    for value in values:
        tally.add(value)
    found = tally.statistic(f"p{percent}")
    rank = max(1, -(-len(values) * percent // 100))
    expected = sorted(values)[int(rank) - 1]
    assert found is not None
    assert abs(found - expected) <= 0.011 * expected


def test_statistics_of_a_span_are_those_of_all_its_minutes() -> None:
    store, series = MetricStore(), Series.of("N", "M", {"B": "2", "A": "1"})
    for minute, value in enumerate((5.0, 1.0, 3.0)):
        store.add(series, BEGIN + minute * MINUTE, value)
    tally = store.between(Series.of("N", "M", {"A": "1", "B": "2"}), BEGIN, BEGIN + 3 * MINUTE)
    found = [tally.statistic(name) for name in ("Sum", "Average", "Minimum", "Maximum", "SampleCount")]
    assert found == [9.0, 3.0, 1.0, 5.0, 3.0]
    assert store.between(series, BEGIN + MINUTE, BEGIN + 2 * MINUTE).total == 1.0
    assert store.between(series, BEGIN - 5 * MINUTE, BEGIN).statistic("Average") is None
    store.forget_before(BEGIN + 2 * MINUTE)
    assert store.between(series, BEGIN, BEGIN + 9 * MINUTE).total == 3.0
