"""Functions for stages in processes, which import them from here."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def square(value: int) -> int:
    return value * value


def square_all(values: list[int]) -> list[int]:
    return [value * value for value in values]


def process_of(value: object) -> int:
    return os.getpid()


def total(values: list[int]) -> int:
    return sum(values)


def repeat(value: int) -> list[int]:
    return [value, value]


def double(value: int) -> int:
    return 2 * value


def misbehave(what: Any) -> Any:
    """Do what the item says."""
    match what:
        case ["exit", int(status)]:
            os._exit(status)
        case ["kill", int(number)]:
            os.kill(os.getpid(), number)
            time.sleep(60)
        case ["raise", Exception() as error]:
            raise error
        case ["odd"]:
            raise Odd("one", "two")
        case ["sleep", float(seconds)]:
            time.sleep(seconds)
        case ["hang", str(path)]:
            Path(path).write_text(str(os.getpid()), encoding="utf-8")
            time.sleep(60)
        case ["unpicklable"]:
            return misbehave.__code__
    return what


def misbehave_all(values: list[Any]) -> list[Any]:
    return [misbehave(value) for value in values]


def too_few(values: list[Any]) -> list[Any]:
    return values[1:]


def endless(values: list[Any]) -> Iterator[int]:
    return itertools.count()


def leave(value: Any) -> Any:
    """Raise what is no ordinary exception for the items that are one."""
    if isinstance(value, BaseException):
        raise value
    return value


def leave_all(values: list[Any]) -> list[Any]:
    return [leave(value) for value in values]


class Odd(Exception):
    """One that pickle cannot put together again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class Multiplier:
    """A callable with a state."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, value: int) -> int:
        return self.factor * value

    def method(self, value: int) -> int:
        return self.factor * value
