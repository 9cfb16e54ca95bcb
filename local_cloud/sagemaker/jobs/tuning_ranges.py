"""Which hyperparameters a tuning job tries: draws from its ranges, or every combination of them. Pure rules.

Source: "Define Hyperparameter Ranges" (automatic-model-tuning-define-ranges) and ParameterRanges in the API reference.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping

from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.state import Json

_NUMERIC = ("IntegerParameterRanges", "ContinuousParameterRanges")


def check_ranges(ranges: Json, strategy: str) -> None:
    """Raises a ValidationException for ranges that contradict themselves or the strategy."""
    every = [item for kind in (*_NUMERIC, "CategoricalParameterRanges") for item in ranges.get(kind, [])]
    names = [item["Name"] for item in every]
    if not names:
        raise validation_exception("ParameterRanges needs at least one range.")
    if len(set(names)) != len(names):
        raise validation_exception(f"The names of the ranges must differ: {', '.join(names)}.")
    for kind in _NUMERIC:
        for item in ranges.get(kind, []):
            if strategy == "Grid":
                raise validation_exception(
                    f"The strategy Grid takes CategoricalParameterRanges only, and {item['Name']} is in {kind}."
                )
            _check_numbers(item, whole=kind == "IntegerParameterRanges")


def _check_numbers(item: Json, *, whole: bool) -> None:
    name = item["Name"]
    try:
        low, high = (int(item[key]) if whole else float(item[key]) for key in ("MinValue", "MaxValue"))
    except ValueError as error:
        kind = "whole numbers" if whole else "numbers"
        raise validation_exception(
            f"MinValue and MaxValue of {name} must be {kind}; they are {item['MinValue']} and {item['MaxValue']}."
        ) from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise validation_exception(f"MinValue of {name} is {item['MinValue']}, above its MaxValue {item['MaxValue']}.")
    scaling = item.get("ScalingType", "Auto")
    if scaling == "Logarithmic" and low <= 0:
        raise validation_exception(f"The ScalingType Logarithmic of {name} needs a MinValue above 0.")
    if scaling == "ReverseLogarithmic" and (whole or not 0 <= low <= high < 1):
        raise validation_exception(
            f"The ScalingType ReverseLogarithmic of {name} needs a continuous range within 0 <= x < 1."
        )


def drawn(ranges: Json, *, seed: int | None, count: int) -> Iterator[dict[str, str]]:
    """``count`` independent draws; the same ones for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - an experiment, no secret
    for _ in range(count):
        values: dict[str, str] = {}
        for item in ranges.get("IntegerParameterRanges", []):
            values[item["Name"]] = str(_whole(dice, item))
        for item in ranges.get("ContinuousParameterRanges", []):
            values[item["Name"]] = repr(_number(dice, item))
        for item in ranges.get("CategoricalParameterRanges", []):
            values[item["Name"]] = dice.choice(item["Values"])
        yield values


def size(ranges: Json) -> int:
    """How many combinations :func:`grid` has."""
    return math.prod(len(item["Values"]) for item in ranges.get("CategoricalParameterRanges", []))


def grid(ranges: Json) -> Iterator[dict[str, str]]:
    """Every combination of the categorical ranges."""
    items = ranges.get("CategoricalParameterRanges", [])
    names = [item["Name"] for item in items]
    for values in itertools.product(*(item["Values"] for item in items)):
        yield dict(zip(names, values, strict=True))


def _whole(dice: random.Random, item: Mapping[str, str]) -> int:
    low, high = int(item["MinValue"]), int(item["MaxValue"])
    if item.get("ScalingType") == "Logarithmic":
        return min(max(round(math.exp(dice.uniform(math.log(low), math.log(high)))), low), high)
    return dice.randint(low, high)


def _number(dice: random.Random, item: Mapping[str, str]) -> float:
    low, high = float(item["MinValue"]), float(item["MaxValue"])
    match item.get("ScalingType"):
        case "Logarithmic":
            value = math.exp(dice.uniform(math.log(low), math.log(high)))
        case "ReverseLogarithmic":
            value = 1 - math.exp(dice.uniform(math.log(1 - high), math.log(1 - low)))
        case _:
            value = dice.uniform(low, high)
    return min(max(value, low), high)
