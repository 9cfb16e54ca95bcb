"""Quantities times prices: plain arithmetic that never invents a number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from tidegate.infra.cost.prices import Prices

# What AWS itself multiplies hourly prices with: 365 x 24 / 12.
HOURS_IN_A_MONTH = Decimal(730)

Per = Literal["month", "month of another type", "million requests", "hour of a job", "TB read by queries"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An item with its cost in the currency of the prices; None where they have no price for it."""

    item: Item
    low: Decimal | None
    high: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Every item of a stage with its cost."""

    lines: tuple[Line, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Keys of the prices that are not there, each once, in the order of the lines."""
        return tuple(dict.fromkeys(line.item.key for line in self.lines if line.low is None))

    @property
    def month(self) -> tuple[Decimal, Decimal] | None:
        """The least and the most that a month costs; None when a price is missing or nothing is paid by the month."""
        monthly = [line for line in self.lines if line.item.per == "month"]
        lows = [line.low for line in monthly if line.low is not None]
        highs = [line.high for line in monthly if line.high is not None]
        if not monthly or len(lows) < len(monthly):
            return None
        return sum(lows, Decimal(0)), sum(highs, Decimal(0))


def of(items: Iterable[Item], prices: Prices) -> Estimate:
    """The cost of `items`, line by line."""
    return Estimate(lines=tuple(_line(item, prices.of(item.table, item.price)) for item in items))


def _line(item: Item, price: Decimal | None) -> Line:
    if not item.high:
        # Nothing is paid, whatever the price.
        return Line(item=item, low=item.low, high=item.high)
    if price is None:
        return Line(item=item, low=None, high=None)
    return Line(item=item, low=item.low * price, high=item.high * price)
