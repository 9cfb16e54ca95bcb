"""Quantities times prices, as text: every number beside what it is for, and none for what has no price."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from tidegate.infra.cost.prices import Prices

# What AWS itself multiplies hourly prices with: 365 x 24 / 12.
HOURS_IN_A_MONTH = Decimal(730)

Per = Literal["month", "month of another type", "million requests", "hour of a job", "TB read by queries"]
_HEADINGS: dict[Per, str] = {
    "month": f"a month of {HOURS_IN_A_MONTH} hours",
    "month of another type": "instead, where all instances are of a type that stands in for the first",
    "million requests": "a million requests",
    "hour of a job": "an hour of a batch job",
    "TB read by queries": "a TB that queries read",
}
# Prices of clouds rarely move, and when they do, within a season.
_OLD_AFTER_DAYS = 90
_NOT_COUNTED = (
    "data transfer, storage, logs, metrics, messages, alarms of rollouts and scaling, free tiers, discounts, taxes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that is paid for: from `low` to `high` units of a price, `per` what.

    `table` and `price` are the key in the file of prices, such as `endpoint_hour` and `ml.g6.xlarge`.
    """

    what: str
    table: str
    price: str
    low: Decimal
    high: Decimal
    per: Per = "month"

    @property
    def key(self) -> str:
        """The key as one writes it in the file of prices."""
        return f'{self.table}."{self.price}"' if "." in self.price else f"{self.table}.{self.price}"

    def cost(self, prices: Prices) -> tuple[Decimal, Decimal] | None:
        """The least and the most; None where they have no price for it."""
        # Of nothing, nothing is paid, whatever the price.
        price = prices.of(self.table, self.price) if self.high else Decimal(0)
        return None if price is None else (self.low * price, self.high * price)


def month(items: Sequence[Item], prices: Prices) -> tuple[Decimal, Decimal] | None:
    """The least and the most that a month costs; None when a price is missing or nothing is paid by the month."""
    costs = [item.cost(prices) for item in items if item.per == "month"]
    known = [cost for cost in costs if cost is not None]
    if not costs or len(known) < len(costs):
        return None
    return sum((low for low, _ in known), Decimal(0)), sum((high for _, high in known), Decimal(0))


def text(items: Sequence[Item], prices: Prices, *, stage: str, today: datetime.date) -> str:
    """The whole report, ready for a terminal."""
    rows: list[tuple[str, str]] = []
    for per, heading in _HEADINGS.items():
        found = [(f"  {item.what}", _said(item.cost(prices), item.key)) for item in items if item.per == per]
        rows += [(heading, ""), *found] if found else []
    none = "none, because prices are missing"
    if not any(item.per == "month" for item in items):
        none = "nothing is paid by the month"
    rows.append(("sum of the month", _money(total) if (total := month(items, prices)) else none))
    width = max(len(left) for left, _ in rows)
    notes = [f"not counted: {_NOT_COUNTED}"]
    if missing := dict.fromkeys(item.key for item in items if item.cost(prices) is None):
        notes.append(f"no price in the file for: {', '.join(missing)}")
    if (age := (today - prices.date).days) > _OLD_AFTER_DAYS:
        notes.append(f"these prices are {age} days old; compare them with their source again")
    return "\n".join(
        [
            f"cost of stage {stage} in {prices.region}, {prices.currency}",
            f"prices of {prices.date.isoformat()} from {prices.source}, confirmed by {prices.confirmed_by}",
            *(f"{left:<{width}}  {right}".rstrip() for left, right in rows),
            *notes,
        ]
    )


def _said(cost: tuple[Decimal, Decimal] | None, key: str) -> str:
    return f"no price: {key}" if cost is None else _money(cost)


def _money(cost: tuple[Decimal, Decimal]) -> str:
    low, high = (f"{amount.quantize(Decimal('0.01'), rounding=ROUND_HALF_UP):,}" for amount in cost)
    return low if cost[0] == cost[1] else f"{low} to {high}"
