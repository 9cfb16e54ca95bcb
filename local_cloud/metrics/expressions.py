"""CloudWatch's metric math over series with one value (or none) for each period.

What the alarms of this project and the usual public ones write: ``+ - * /`` and ``^``, comparisons, ``AND`` and ``OR``,
lists, ``METRICS()``, and the functions ``IF FILL MAX MIN SUM AVG ABS CEIL FLOOR``. Another one is refused by name.
Source: "Using math expressions with CloudWatch metrics" in the CloudWatch user guide.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Sequence[float | None]
"""A series over the periods that are looked at, oldest first; None where it has no value."""
_Value = float | list[float | None] | list[list[float | None]]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign><=|>=|==|!=|&&|\|\||[-+*/^<>(),\[\]]))"
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_DEPTH = 50
_JOINS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "MAX": max, "MIN": min, "SUM": math.fsum, "AVG": lambda found: math.fsum(found) / len(found),
}  # fmt: skip
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


class ExpressionError(ValueError):
    """The expression cannot be computed here; the text says why."""


def evaluate(
    expression: str, series: Mapping[str, Values], periods: int, *, metrics: Collection[str] | None = None
) -> list[float | None]:
    """The expression's value in each of ``periods`` periods; ``series`` are those that it may name.

    ``metrics`` are those that ``METRICS()`` stands for: all, where it is not given. Raises :class:`ExpressionError`.
    """
    value = _Parser(_tokens(expression), series, metrics).whole()
    if isinstance(value, list) and value and isinstance(value[0], list):
        raise ExpressionError(f"{expression} is several series, and an alarm compares one.")
    return _spread(value, periods)


def evaluate_all(
    expression: str, series: Mapping[str, Values], periods: int, *, metrics: Collection[str]
) -> list[list[float | None]]:
    """The same for an expression that may also be several series. Raises :class:`ExpressionError`."""
    value = _Parser(_tokens(expression), series, metrics).whole()
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [_spread(each, periods) for each in value]
    return [_spread(value, periods)]


def names_in(expression: str) -> set[str]:
    """The series that an expression names. Raises :class:`ExpressionError`."""
    tokens = _tokens(expression)
    calls = {word for word, after in itertools.pairwise([*tokens, ""]) if after == "("}
    return {word for word in tokens if _NAME.fullmatch(word)} - calls


def _tokens(expression: str) -> list[str]:
    found, place = [], 0
    text = expression.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ExpressionError(
                f"the local cloud cannot read {text[place : place + 20]!r} in the expression {text!r}"
            )
        found.append(match.group().strip())
        place = match.end()
    return found


def _spread(value: Any, periods: int) -> list[float | None]:
    if isinstance(value, float):
        return [None if math.isnan(value) else value] * periods
    return list(value)


@dataclass(slots=True)
class _Parser:
    """A recursive descent: each method reads what binds closer than the one before."""

    tokens: list[str]
    series: Mapping[str, Values]
    metrics: Collection[str] | None = None
    place: int = 0
    depth: int = 0

    def whole(self) -> _Value:
        value = self.either()
        if self.place < len(self.tokens):
            raise ExpressionError(f"the local cloud did not expect {self.tokens[self.place]!r} in an expression")
        return value

    def either(self) -> _Value:
        self.depth += 1
        if self.depth > _DEPTH:
            raise ExpressionError(f"an expression has more than {_DEPTH} brackets in one another")
        value = self.both()
        while self.takes("OR", "||"):
            value = _pairwise(lambda a, b: float(bool(a) or bool(b)), value, self.both())
        self.depth -= 1
        return value

    def both(self) -> _Value:
        value = self.comparison()
        while self.takes("AND", "&&"):
            value = _pairwise(lambda a, b: float(bool(a) and bool(b)), value, self.comparison())
        return value

    def comparison(self) -> _Value:
        value = self.sum()
        while sign := self.takes(*_COMPARISONS):
            compare = _COMPARISONS[sign]
            value = _pairwise(lambda a, b, compare=compare: float(compare(a, b)), value, self.sum())  # type: ignore[misc]
        return value

    def sum(self) -> _Value:
        value = self.product()
        while sign := self.takes("+", "-"):
            value = _pairwise(operator.add if sign == "+" else operator.sub, value, self.product())
        return value

    def product(self) -> _Value:
        value = self.power()
        while sign := self.takes("*", "/"):
            value = _pairwise(operator.mul if sign == "*" else _divided, value, self.power())
        return value

    def power(self) -> _Value:
        if self.takes("-"):
            return _pairwise(operator.sub, 0.0, self.power())
        value = self.term()
        return _pairwise(_raised, value, self.power()) if self.takes("^") else value

    def term(self) -> _Value:
        word = self.next()
        if word == "(":
            value = self.either()
            self.expect(")")
            return value
        if word == "[":
            return self.listed("]")  # type: ignore[return-value]
        if word[0].isdigit() or word[0] == ".":
            return float(word)
        if self.takes("("):
            return self.call(word.upper(), self.listed(")"))
        if word not in self.series:
            raise ExpressionError(f"an expression names {word}, and there is no metric with that Id")
        return list(self.series[word])

    def listed(self, end: str) -> list[_Value]:
        values: list[_Value] = []
        while not self.takes(end):
            if values:
                self.expect(",")
            values.append(self.either())
        return values

    def call(self, name: str, given: list[_Value]) -> _Value:
        match name, given:
            case "METRICS", []:
                chosen = self.series if self.metrics is None else self.metrics
                return [list(values) for name, values in self.series.items() if name in chosen]
            case "IF", [condition, then, *rest]:
                return _chosen(condition, then, rest[0] if rest else None)
            case "FILL", [series, filling]:
                return _filled(series, filling)
            case (("MAX" | "MIN" | "SUM" | "AVG"), [one]):
                return _joined(name, one)
            case "ABS", [one]:
                return _each(abs, one)
            case "CEIL", [one]:
                return _each(lambda value: float(math.ceil(value)), one)
            case "FLOOR", [one]:
                return _each(lambda value: float(math.floor(value)), one)
        raise ExpressionError(f"the local cloud does not have {name} with {len(given)} arguments in metric math")

    def next(self) -> str:
        if self.place >= len(self.tokens):
            raise ExpressionError("an expression ends before it is complete")
        self.place += 1
        return self.tokens[self.place - 1]

    def takes(self, *wanted: str) -> str | None:
        if self.place < len(self.tokens) and self.tokens[self.place] in wanted:
            return self.next()
        return None

    def expect(self, wanted: str) -> None:
        if not self.takes(wanted):
            raise ExpressionError(f"an expression lacks {wanted!r}")


def _divided(a: float, b: float) -> float | None:
    return a / b if b else None  # a division by zero leaves the period without a value


def _raised(a: float, b: float) -> float | None:
    try:
        value = a**b
    except (OverflowError, ZeroDivisionError):
        return None
    return None if isinstance(value, complex) else float(value)


def _flat(value: _Value) -> float | list[float | None]:
    if isinstance(value, list) and value and isinstance(value[0], list):
        raise ExpressionError("the local cloud's metric math takes several series only in MAX, MIN, SUM and AVG")
    return value  # type: ignore[return-value]


def _pairwise(act: Callable[[float, float], float | None], a: _Value, b: _Value) -> _Value:
    left, right = _flat(a), _flat(b)
    if isinstance(left, float) and isinstance(right, float):
        value = act(left, right)
        return math.nan if value is None else float(value)
    pairs = zip(_as_long(left, right), _as_long(right, left), strict=False)
    return [None if x is None or y is None else act(x, y) for x, y in pairs]


def _as_long(value: float | list[float | None], other: float | list[float | None]) -> list[float | None]:
    if isinstance(value, float):
        return [value] * len(other) if isinstance(other, list) else [value]
    return value


def _each(act: Callable[[float], float], value: _Value) -> _Value:
    flat = _flat(value)
    return act(flat) if isinstance(flat, float) else [None if item is None else act(item) for item in flat]


def _chosen(condition: _Value, then: _Value, otherwise: _Value | None) -> _Value:
    flat = [_flat(condition), _flat(then)] + ([] if otherwise is None else [_flat(otherwise)])
    longest = max((len(item) for item in flat if isinstance(item, list)), default=0)
    if not longest:
        condition_, then_, *rest = flat
        return then_ if condition_ else (rest[0] if rest else math.nan)
    columns: list[list[float | None]] = [[item] * longest if isinstance(item, float) else item for item in flat]
    tests, yes = columns[0], columns[1]
    no: list[float | None] = columns[2] if len(columns) > 2 else [None] * longest
    return [None if test is None else (a if test else b) for test, a, b in zip(tests, yes, no, strict=False)]


def _filled(series: _Value, filling: _Value) -> _Value:
    values, fill = _flat(series), _flat(filling)
    if isinstance(values, float):
        return values
    return [
        (fill if isinstance(fill, float) else fill[place]) if value is None else value
        for place, value in enumerate(values)
    ]


def _joined(name: str, value: _Value) -> _Value:
    """Over the series of a list, period by period; over one series, its whole."""
    act = _JOINS[name]
    if isinstance(value, float):
        return value
    if value and any(isinstance(item, list) for item in value):
        longest = max(len(item) for item in value if isinstance(item, list))
        rows = [item if isinstance(item, list) else [item] * longest for item in value]
        columns = [[item for item in column if item is not None] for column in zip(*rows, strict=False)]
        return [float(act(column)) if column else None for column in columns]
    found = [item for item in value if isinstance(item, float)]
    return float(act(found)) if found else math.nan
