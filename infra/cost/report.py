"""The estimate as text: every number beside what it is for, and the source of all of them."""

from __future__ import annotations

import datetime
from decimal import ROUND_HALF_UP, Decimal

from tidegate.infra.cost.estimate import HOURS_IN_A_MONTH, Estimate, Line, Per
from tidegate.infra.cost.prices import Prices

# Prices of clouds rarely move, and when they do, within a season.
_OLD_AFTER_DAYS = 90
_NOT_COUNTED = (
    "data transfer, storage, logs, metrics, messages, alarms of roll-outs and scaling, free tiers, discounts, taxes"
)


def text(estimate: Estimate, prices: Prices, *, stage: str, today: datetime.date) -> str:
    """The whole report, ready for a terminal; no number stands for what has no price."""
    head = f"cost of stage {stage} in {prices.region}, {prices.currency}"
    source = f"prices of {prices.date.isoformat()} from {prices.source}, confirmed by {prices.confirmed_by}"
    rows: list[tuple[str, str]] = []
    for per, heading in _HEADINGS:
        lines = [line for line in estimate.lines if line.item.per == per]
        if lines:
            rows.append((heading, ""))
            rows += [(f"  {line.item.what}", _cost(line)) for line in lines]
    rows.append(("sum of the month", _sum(estimate)))
    width = max(len(left) for left, _ in rows)
    table = [f"{left:<{width}}  {right}".rstrip() for left, right in rows]
    notes = [f"not counted: {_NOT_COUNTED}"]
    if estimate.missing:
        notes.append(f"no price in the file for: {', '.join(estimate.missing)}")
    if (age := (today - prices.date).days) > _OLD_AFTER_DAYS:
        notes.append(f"these prices are {age} days old; compare them with their source again")
    return "\n".join([head, source, *table, *notes])


_HEADINGS: tuple[tuple[Per, str], ...] = (
    ("month", f"a month of {HOURS_IN_A_MONTH} hours"),
    ("month of another type", "instead, where all instances are of a type that stands in for the first"),
    ("million requests", "a million requests"),
    ("hour of a job", "an hour of a batch job"),
    ("TB read by queries", "a TB that queries read"),
)


def _cost(line: Line) -> str:
    if line.low is None or line.high is None:
        return f"no price: {line.item.key}"
    return _range(line.low, line.high)


def _sum(estimate: Estimate) -> str:
    if estimate.month is not None:
        return _range(*estimate.month)
    if any(line.item.per == "month" for line in estimate.lines):
        return "none, because prices are missing"
    return "nothing is paid by the month"


def _range(low: Decimal, high: Decimal) -> str:
    return _money(low) if low == high else f"{_money(low)} to {_money(high)}"


def _money(amount: Decimal) -> str:
    return f"{amount.quantize(Decimal('0.01'), rounding=ROUND_HALF_UP):,}"
