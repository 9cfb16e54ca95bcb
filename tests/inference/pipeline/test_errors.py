"""One bad item fails alone; what its failure does is the stage's word; what is declared wrongly is refused."""

from __future__ import annotations

import functools
import gc
import itertools
import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.inference.pipeline import functions
from tests.polling import until
from tidegate.pipeline import BrokenStage, Pipeline, Stage


def invert(value: float) -> float:
    return 1 / value


def invert_all(values: list[float]) -> list[float]:
    return [1 / value for value in values]


@pytest.mark.parametrize(
    "stage", [Stage(invert, workers=3), Stage(invert_all, batch_size=3), Stage(invert_all, batch_size=5)]
)
def test_an_exception_ends_the_pipeline_in_its_items_turn(stage: Stage) -> None:
    """What is before the item is delivered, and the exception is the function's own."""
    results = Pipeline(stage)([1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    assert raised.value.__notes__ == [f"In stage 1 ({stage.name}) of the pipeline, item 2."]
    assert "return" in "".join(traceback.format_exception(raised.value)), "the line of the function is in it"
    assert list(results) == []


def test_the_earlier_of_two_failures_is_raised() -> None:
    """Also where the later item failed first."""
    later_failed = threading.Event()

    def fail(value: int) -> int:
        if value == 1:
            assert later_failed.wait(60)
        else:
            later_failed.set()
        raise LookupError(value)

    with pytest.raises(LookupError, match="1"):
        list(Pipeline(Stage(fail, workers=2))([1, 2]))


def test_nothing_behind_a_failed_item_is_begun() -> None:
    """The items before it are finished, and need their batches."""
    seen = []

    def note(values: list[float]) -> list[float]:
        seen.extend(values)
        return values

    def fail(value: int) -> int:
        if value == 5:
            raise LookupError
        return value

    results = Pipeline(Stage(fail, workers=1), Stage(note, batch_size=100))(range(1000))
    assert [next(results) for _ in range(5)] == [*range(5)]
    with pytest.raises(LookupError):
        next(results)
    assert seen == [*range(5)]


@pytest.mark.parametrize(
    "stage", [Stage(invert, workers=3, on_error="null"), Stage(invert_all, batch_size=3, on_error="null")]
)
def test_null_puts_none_in_the_items_place(stage: Stage) -> None:
    """Which later stages do not see."""
    assert list(Pipeline(stage, str)([1, 0, 2])) == ["1.0", None, "0.5"]
    assert Pipeline(stage, str)({"a": 1, "b": 0}) == {"a": "1.0", "b": None}


def test_only_the_bad_item_of_a_batch_fails() -> None:
    """The others are called again, each by itself, once."""
    calls = []

    def note(values: list[float]) -> list[float]:
        calls.append(list(values))
        return invert_all(values)

    assert list(Pipeline(Stage(note, batch_size=4, on_error="null"))([1, 2, 0, 4])) == [1, 0.5, None, 0.25]
    assert calls == [[1, 2, 0, 4], [1], [2], [0], [4]]


def test_an_item_that_does_not_go_with_the_others_fails_alone() -> None:
    """Also where it is `collate` that fails."""

    def same_type(values: list[Any]) -> list[Any]:
        if len({type(value) for value in values}) > 1:
            raise TypeError("mixed")
        return values

    assert list(Pipeline(Stage(list, batch_size=3, collate=same_type))([1, "two", 3])) == [1, "two", 3]


def test_a_function_makes_the_result_of_what_failed() -> None:
    """It gets the item as its own stage did, and the error with its place; later stages do not see the result."""
    given = []

    def record(item: float, error: Exception) -> dict[str, str]:
        given.append((item, error.__notes__))
        return {"error": str(error)}

    pipeline = Pipeline(lambda value: value - 1, Stage(invert_all, batch_size=2, on_error=record), str)
    assert list(pipeline([2, 1, 3])) == ["1.0", {"error": "division by zero"}, "0.5"]
    assert given == [(0, ["In stage 2 (invert_all) of the pipeline, item 1."])]


def test_an_error_in_on_error_ends_the_pipeline() -> None:
    """Its own or the one that it was given: so it can choose which errors do."""

    def choose(item: float, error: Exception) -> None:
        if item == 0:
            return
        raise error

    def wrong(item: float, error: Exception) -> None:
        raise LookupError("on_error")

    results = Pipeline(Stage(lambda value: 1 / (value * 0), on_error=choose))([0, 1])
    assert next(results) is None
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(LookupError) as raised:
        list(Pipeline(Stage(invert, on_error=wrong, name="first"))([0]))
    assert raised.value.__notes__ == ["In on_error of stage 1 (first) of the pipeline, item 0."]


def test_the_filters_error_is_the_stages() -> None:
    """With or without a batch."""

    def picky(value: int) -> bool:
        return bool(1 / value)

    for stage in (Stage(str, filter=picky, on_error="null"), Stage(list, batch_size=2, filter=picky, on_error="null")):
        assert [str(result) for result in Pipeline(stage)([1, 0, 2])] == ["1", "None", "2"]


def test_a_mappings_key_is_in_the_note() -> None:
    """A number would mean nothing to who gave keys."""
    with pytest.raises(ZeroDivisionError) as raised:
        Pipeline(invert)({"a": 1, "b": 0})
    assert raised.value.__notes__ == ["In stage 1 (invert) of the pipeline, key 'b'."]


@pytest.mark.parametrize("ending", [StopIteration, StopAsyncIteration])
def test_a_stage_that_raises_stop_iteration_does_not_end_the_results(ending: type[Exception]) -> None:
    """The consumer's loop would take it for their end, and the rest would be lost without a word."""

    def stops(value: int) -> int:
        raise ending

    with pytest.raises(RuntimeError, match=f"Stage 'stops' raised {ending.__name__}.") as raised:
        list(Pipeline(stops)([1]))
    assert isinstance(raised.value.__cause__, ending)


def test_an_error_of_the_source_comes_after_its_items() -> None:
    """And without a note: it is not of a stage."""

    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("the source")

    results = Pipeline(Stage(list, batch_size=5), invert)(source())
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(LookupError) as raised:
        next(results)
    assert not hasattr(raised.value, "__notes__")


def test_a_mapping_that_changes_meanwhile_is_an_error() -> None:
    """As in any loop over it."""
    changing = {"a": 1}

    def change(value: int) -> int:
        changing[str(value)] = value + 1
        return value

    with pytest.raises(RuntimeError, match="changed size during iteration"):
        Pipeline(change, Stage(list, batch_size=1), max_in_flight=1)(changing)


class Counted(Exception):
    """One that counts those that are alive."""

    alive = 0

    def __init__(self) -> None:
        Counted.alive += 1

    def __del__(self) -> None:
        Counted.alive -= 1


def fail(value: object) -> object:
    raise Counted


@pytest.mark.parametrize(
    "stages",
    [
        [Stage(fail, workers=2, on_error="null")],
        [Stage(fail, batch_size=8, on_error="null")],
        [Stage(fail, workers=2, timeout_s=60, on_error=lambda *_: None)],
        [Stage(str, workers=2), Stage(fail, on_error="null")],
        [Stage(str, filter=fail, on_error="null")],
        [Stage(fail)],
    ],
)
def test_an_error_that_is_dealt_with_is_freed_at_once(stages: list[Stage]) -> None:
    """Its traceback holds frames, and a frame that held the error would keep it, and its item, for the collector."""
    gc.disable()
    try:
        with suppress(Counted):
            list(Pipeline(*stages)(range(500)))
        until(lambda: Counted.alive == 0)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"workers": 0}, ValueError, "workers of stage 'str' is 0; it must be a whole number from 1."),
        ({"workers": 2.0}, ValueError, "workers of stage 'str' is 2.0; it must be a whole number from 1."),
        ({"workers": True}, ValueError, "workers of stage 'str' is True; it must be a whole number from 1."),
        ({"batch_size": 0}, ValueError, "batch_size of stage 'str' is 0; it must be a whole number from 1."),
        ({"timeout_s": 0}, ValueError, "timeout_s of stage 'str' is 0; it must be a number above 0 and at most"),
        ({"timeout_s": float("nan")}, ValueError, "timeout_s of stage 'str' is nan; it must be a number above 0"),
        ({"timeout_s": "5"}, ValueError, "timeout_s of stage 'str' is '5'; it must be a number above 0"),
        ({"batch_size": 2, "max_wait_ms": -1}, ValueError, "max_wait_ms of stage 'str' is -1; it must be a number"),
        ({"max_wait_ms": 5}, ValueError, "max_wait_ms of stage 'str' is about batches; give it a batch_size too."),
        ({"collate": list}, ValueError, "collate of stage 'str' is about batches; give it a batch_size too."),
        ({"split": list}, ValueError, "split of stage 'str' is about batches; give it a batch_size too."),
        ({"filter": "x"}, TypeError, "filter of stage 'str' is 'x'; it must be a function."),
        ({"on_error": "skip"}, ValueError, "on_error of stage 'str' is 'skip'; it must be \"raise\", "),
        ({"on_error": None}, ValueError, "on_error of stage 'str' is None; it must be"),
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """When the stage is made, naming stage, option and value."""
    with pytest.raises(error, match=re.escape(sentence)):
        Stage(str, **options)


def test_what_is_no_function_is_refused() -> None:
    """Also one that is asynchronous: its coroutines would be taken for results."""

    async def asynchronous(value: int) -> int:
        return value

    with pytest.raises(TypeError, match="A stage is a function or another callable; 3 cannot be called"):
        Pipeline(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is asynchronous; a stage's function runs in a thread and just returns"):
        Stage(asynchronous)
    with pytest.raises(ValueError, match="max_in_flight is 0; it must be a whole number from 1"):
        Pipeline(str, max_in_flight=0)


def test_a_stage_has_the_name_of_its_function() -> None:
    """Of a partial's function, of an object's class, or what it is told."""

    class Model:
        def __call__(self, value: int) -> int:
            return value

    stages = [Stage(invert), Stage(functools.partial(invert)), Stage(Model()), Stage(invert, name="second")]
    assert [stage.name for stage in stages] == ["invert", "invert", "Model", "second"]
    assert repr(Pipeline(*stages)) == "Pipeline(invert, invert, Model, second)"


@pytest.mark.parametrize("processes", [False, True])
def test_results_without_an_end_are_one_too_many(processes: bool) -> None:
    """No more are taken than it needs to know that, and `on_error` is not asked."""
    stage = Stage(functions.endless, batch_size=4, on_error="null", processes=processes)
    with pytest.raises(BrokenStage) as raised:
        list(Pipeline(stage)(range(4)))
    assert str(raised.value) == (
        "Stage 'endless' returned more than 4 results for a batch of 4 items; it must return one for each, in their "
        "order."
    )


def test_no_result_is_taken_beyond_the_one_that_is_too_many() -> None:
    """An iterator may be slow, or wait for ever."""
    taken = []

    def numbers(values: list[int]) -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    with pytest.raises(BrokenStage, match=r"returned more than 3 results for a batch of 3 items"):
        list(Pipeline(Stage(numbers, batch_size=3))(range(3)))
    assert taken == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_no_sequence_of_results(kind: type) -> None:
    """Which result is whose nobody could say; the keys of a dict have an order."""
    for stage in (Stage(kind, batch_size=4, name="unordered"), Stage(list, batch_size=4, split=kind, name="unordered")):
        with pytest.raises(BrokenStage, match=rf"^Stage 'unordered' has a batch_size and returned a {kind.__name__};"):
            list(Pipeline(stage)([9, 8, 7, 6]))
    assert list(Pipeline(Stage(dict.fromkeys, batch_size=4, split=dict.keys))([9, 8, 7, 6])) == [9, 8, 7, 6]
