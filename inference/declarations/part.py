"""One object of a declaration, and where it stands: each value is taken, or refused with its place.

The deployer wrote it: every mistake is a `DeploymentError`, as `manifest.json: image.input.key is ''; it must be …`.
"""

from __future__ import annotations

import difflib
from typing import Any, Final

from tidegate.inference.errors import DeploymentError
from tidegate.inference.layout import MANIFEST

_LARGEST: Final = 3.4e38
"""Of float32, in which models are given numbers; NaN is beyond it too, and so are whole numbers that no float holds."""
_MOST_MEMBERS: Final = 2**31


class Part:
    """One object of the declaration; `place` is where it stands, as `image.input`."""

    def __init__(self, values: Any, place: str, keys: set[str]) -> None:
        if not isinstance(values, dict):
            raise DeploymentError(f"{MANIFEST}: {place} is {shown(values)}; it must be an object.")
        self.values: dict[str, Any] = values
        self.place = place
        for key in values:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(keys))}."
                raise DeploymentError(f"{MANIFEST}: {place} has the key {shown(key)}, which is unknown; {hint}")

    def mistake(self, key: str, what: str) -> DeploymentError:
        return DeploymentError(f"{MANIFEST}: {self.place}.{key} {what}.")

    def part(self, key: str, keys: set[str]) -> Part:
        if key not in self.values:
            raise self.mistake(key, "is missing")
        return Part(self.values[key], f"{self.place}.{key}", keys)

    def refuse(self, keys: tuple[str, ...], why: str) -> None:
        for key in keys:
            if key in self.values:
                raise self.mistake(key, f"is there, {why}")

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self.mistake(key, f"is {shown(value)}; it must be {' or '.join(map(shown, choices))}")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or not value:
            raise self.mistake(key, f"is {shown(value)}; it must be a key of a JSON object")
        return value

    def member(self) -> str | int | None:
        """Which of several predictions is meant; None where there is one."""
        if "from" not in self.values:
            return None
        value = self.values["from"]
        if (isinstance(value, str) and value) or (type(value) is int and 0 <= value <= _MOST_MEMBERS):
            return value
        raise self.mistake("from", f"is {shown(value)}; it is the name of a prediction, or its number from 0")

    def whole(self, key: str, *, most: int, default: int | None) -> int:
        value = self.values.get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise self.mistake(key, f"is {shown(value)}; it must be a whole number from 1 to {most}")
        return value

    def value_range(self, default: tuple[float, float]) -> tuple[float, float]:
        value = self.values.get("value_range", list(default))
        if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)) or value[0] == value[1]:
            raise self.mistake(
                "value_range", f"is {shown(value)}; it must be two different numbers, those of black and of white"
            )
        return float(value[0]), float(value[1])

    def per_channel(self, key: str, default: float) -> tuple[float, ...]:
        """Three numbers, for red, green and blue; one stands for all three."""
        value = self.values.get(key, default)
        numbers = value if isinstance(value, list) else 3 * [value]
        if len(numbers) != 3 or not all(map(is_number, numbers)):
            raise self.mistake(key, f"is {shown(value)}; it must be a number, or three for red, green and blue")
        return tuple(map(float, numbers))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
