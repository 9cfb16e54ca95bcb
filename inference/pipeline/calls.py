"""One call of a stage's function, for one item or a batch, and what becomes of the item after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Any, NamedTuple, Protocol

from tidegate.inference.pipeline.errors import BrokenStage
from tidegate.inference.pipeline.stage import OnError


class Fate(Enum):
    """What becomes of an item after a step."""

    GOES_ON = auto()
    DONE = auto()  # `on_error` has decided its result
    DROPPED = auto()  # `filter` has
    FAILED = auto()  # the value is the exception that ends the pipeline


class Outcome(NamedTuple):
    """What a step has made of an item."""

    fate: Fate
    value: Any


class NoOutcome(Enum):
    """Why a call has none."""

    RETRY = auto()  # a batch has failed: its items are to be called one by one
    ABANDONED = auto()  # it was overdue, and its items have been settled without it


_DROPPED = Outcome(Fate.DROPPED, None)
_NULL = Outcome(Fate.DONE, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What is called: a process gets this much of a stage."""

    name: str
    call: Callable[[Any], Any]
    collate: Callable[[list[Any]], Any] | None = None
    split: Callable[[Any], Iterable[Any]] | None = None

    def of_batch(self, values: list[Any]) -> list[Any]:
        """One result for each of `values`. Raises `BrokenStage`, and what the functions raise."""
        count = len(values)
        returned = self.call(values if self.collate is None else self.collate(values))
        if self.split is not None:
            returned = self.split(returned)
        expected = f"a sequence with one result for each item ({count} here)"
        if isinstance(returned, str | bytes | bytearray | memoryview | Mapping | set | frozenset):
            raise BrokenStage(
                f"Stage {self.name!r} has a batch_size and returned a {type(returned).__name__}; it must return "
                f"{expected}, or be given a split function that makes one."
            )
        try:
            iterator = iter(returned)
        except TypeError as error:
            raise BrokenStage(
                f"Stage {self.name!r} has a batch_size and returned a {type(returned).__name__}, which cannot be "
                f"iterated; it must return {expected}."
            ) from error
        results = list(islice(iterator, count + 1))  # not all of them: they may be without an end
        if len(results) != count:
            found = f"{len(results)} result{'' if len(results) == 1 else 's'}"
            if len(results) > count:
                many = len(returned) if isinstance(returned, Sized) else 0
                found = f"{many} results" if many > count else f"more than {count} result{'' if count == 1 else 's'}"
            raise BrokenStage(
                f"Stage {self.name!r} returned {found} for a batch of {count} item{'' if count == 1 else 's'}; it must "
                "return one for each, in their order."
            )
        return results


class Callee(Protocol):
    """A function wherever it runs: `Function` here, or in a process of its own."""

    @property
    def call(self) -> Callable[[Any], Any]: ...

    def of_batch(self, values: list[Any]) -> list[Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage as an item meets it: the filter, then the function. None as the function leaves the item as it is."""

    number: int
    name: str
    function: Function | None
    filter: Callable[[Any], object] | None
    on_error: OnError

    def attempt(self, value: Any, function: Callee | None) -> Outcome:
        """`value` through the step; `function` is its own, wherever it runs. Raises what it and the filter raise."""
        if self.filter is not None and not self.filter(value):
            return _DROPPED
        return Outcome(Fate.GOES_ON, value if function is None else function.call(value))

    def failed(self, value: Any, label: str, error: Exception) -> Outcome:
        """What `on_error` makes of `error`, which gets a note on where it happened."""
        if isinstance(error, StopIteration | StopAsyncIteration):
            # The consumer's `for` would take it for the end of the results.
            ended = RuntimeError(f"Stage {self.name!r} raised {type(error).__name__}.")
            ended.__cause__, error = error, ended
        error.add_note(f"In stage {self.number} ({self.name}) of the pipeline, {label}.")
        if self.on_error == "raise" or isinstance(error, BrokenStage):
            return Outcome(Fate.FAILED, error)
        if self.on_error == "null":
            return _NULL
        try:
            return Outcome(Fate.DONE, self.on_error(value, error))
        except Exception as raised:
            if raised is not error:
                raised.add_note(f"In on_error of stage {self.number} ({self.name}) of the pipeline, {label}.")
            return Outcome(Fate.FAILED, raised)


def perform(
    steps: Sequence[Step],
    function: Callee | None,
    values: Sequence[Any],
    label: Callable[[int], str],
    *,
    is_batch: bool,
    claim: Callable[[], bool],
) -> list[Outcome] | NoOutcome:
    """`values` through `steps`, the first of which calls `function` and may take them together; an outcome for each.

    `claim` is asked when the first step's function has returned or raised: False says that the call was given up.
    `label` names the value at a position.
    """
    first, *others = steps
    attempted = _attempted(first, function, values, is_batch=is_batch)
    try:
        if not claim():
            return NoOutcome.ABANDONED
        if not isinstance(attempted, Exception):
            return _through(others, attempted, label)
        if len(values) > 1 and not isinstance(attempted, BrokenStage):
            return NoOutcome.RETRY
        return _failed(first, values, attempted, label)
    finally:
        # The traceback of an exception holds this frame as the caller of its own, and this frame would hold it.
        del attempted


def _through(steps: Sequence[Step], outcomes: list[Outcome], label: Callable[[int], str]) -> list[Outcome]:
    for step in steps:
        for position, (fate, value) in enumerate(outcomes):
            if fate is Fate.GOES_ON:
                attempted = _attempted(step, step.function, [value], is_batch=False)
                if isinstance(attempted, Exception):
                    outcomes[position] = step.failed(value, label(position), attempted)
                else:
                    outcomes[position] = attempted[0]
                del attempted  # as in `perform`
    return outcomes


def _failed(step: Step, values: Sequence[Any], error: Exception, label: Callable[[int], str]) -> list[Outcome]:
    return [step.failed(value, label(position), error) for position, value in enumerate(values)]


def _attempted(
    step: Step, function: Callee | None, values: Sequence[Any], *, is_batch: bool
) -> list[Outcome] | Exception:
    try:
        if is_batch and function is not None:
            return [Outcome(Fate.GOES_ON, result) for result in function.of_batch(list(values))]
        return [step.attempt(value, function) for value in values]
    except Exception as raised:
        return raised
