"""A call that takes too long fails its item; the others go on, with threads that are bounded in number."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.inference.pipeline.threads import running
from tests.inference.ticking import ticking
from tests.polling import until
from tidegate.inference.pipeline import run
from tidegate.pipeline import Pipeline, Stage, StageTimeout


@pytest.fixture(autouse=True)
def _a_busy_machine_costs_no_call_its_time() -> Iterator[None]:
    with ticking(run):
        yield


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What hanging calls wait for; set at the end of the test, so that their threads end."""
    event = threading.Event()
    yield event
    event.set()


def of_item(item: int, error: Exception) -> str:
    return str(item)


def of_error(item: int, error: Exception) -> str:
    return str(error)


def test_a_call_that_takes_too_long_is_an_error_of_its_item(released: threading.Event) -> None:
    """A TimeoutError that names the stage, with a note on the item."""

    def hangs(value: int) -> int:
        if value == 1:
            released.wait(60)
        return value

    results = Pipeline(Stage(hangs, workers=2, timeout_s=0.1))([0, 1, 2])
    assert next(results) == 0
    with pytest.raises(TimeoutError) as raised:
        next(results)
    assert type(raised.value) is StageTimeout
    assert str(raised.value) == "Stage 'hangs' has a timeout_s of 0.1, and the call took longer."
    assert raised.value.__notes__ == ["In stage 1 (hangs) of the pipeline, item 1."]


def test_a_hanging_call_does_not_hold_up_the_others(released: threading.Event) -> None:
    """Another thread takes the place of its own, and the late result is dropped."""

    def hangs(value: int) -> int:
        if value % 10 == 0:
            released.wait(60)
        return value

    pipeline = Pipeline(Stage(hangs, workers=1, timeout_s=0.2, on_error=of_item), lambda value: -value)
    got = list(pipeline(range(1, 35)))
    assert got == [str(value) if value % 10 == 0 else -value for value in range(1, 35)]
    until(lambda: len(running()) == 3)


def test_a_late_thread_goes_back_to_work() -> None:
    """One worker, whose first call is late: no more than two threads are needed, and no result comes twice."""
    names = set()
    others = threading.Event()

    def slow(value: int) -> int:
        names.add(threading.current_thread().name)
        if value == 0:
            assert others.wait(60)
        others.set()
        return value

    assert list(Pipeline(Stage(slow, workers=1, timeout_s=0.2, on_error="null"))(range(200))) == [None, *range(1, 200)]
    assert len(names) == 2


def test_the_threads_of_hanging_calls_are_bounded(released: threading.Event) -> None:
    """Every call hangs: each item still gets its answer, and the number of threads an end."""
    begun = []

    def hangs(value: int) -> int:
        begun.append(value)
        released.wait(60)
        return value

    results = list(Pipeline(Stage(hangs, workers=2, timeout_s=0.03, on_error=of_error))(range(40)))
    until(lambda: len(begun) == len(running()) == 8)
    assert len(results) == 40
    assert results[0] == "Stage 'hangs' has a timeout_s of 0.03, and the call took longer."
    assert results[-1] == (
        "Stage 'hangs' has a timeout_s of 0.03, and no thread was free for so long: all are in calls that took longer."
    )


def test_a_batch_that_takes_too_long_is_called_item_by_item(released: threading.Event) -> None:
    """So that only the item that hangs fails."""

    def hangs(values: list[int]) -> list[int]:
        if 2 in values:
            released.wait(60)
        return values

    pipeline = Pipeline(Stage(hangs, batch_size=4, timeout_s=0.2, on_error="null"))
    assert list(pipeline(range(8))) == [0, 1, None, 3, 4, 5, 6, 7]


def test_a_time_out_does_not_count_the_wait_before_the_call() -> None:
    """Forty items behind one worker take longer than one may."""

    def slow(value: int) -> int:
        time.sleep(0.01)
        return value

    assert list(Pipeline(Stage(slow, workers=1, timeout_s=0.3))(range(40))) == [*range(40)]


def test_a_time_out_is_noticed_while_nobody_asks_for_results(released: threading.Event) -> None:
    """The items behind go on."""
    seen = threading.Event()

    def hangs(value: int) -> int:
        if value == 1:
            released.wait(60)
        if value == 5:
            seen.set()
        return value

    results = Pipeline(Stage(hangs, workers=1, timeout_s=0.2, on_error="null"))(range(6))
    assert next(results) == 0
    assert seen.wait(60)
    assert list(results) == [None, 2, 3, 4, 5]


def test_on_error_may_take_its_time_over_a_time_out(released: threading.Event) -> None:
    """It runs without the run's lock: the other items come meanwhile."""
    others = threading.Event()

    def hangs(value: int) -> int:
        if value == 1:
            released.wait(60)
        if value == 3:
            others.set()
        return value

    def waits(item: int, error: Exception) -> bool:
        return others.wait(60)

    assert list(Pipeline(Stage(hangs, workers=2, timeout_s=0.2, on_error=waits))(range(4))) == [0, True, 2, 3]


def test_stopping_does_not_wait_for_a_time_out(released: threading.Event) -> None:
    """Nor does the watch live longer than the run."""
    results = Pipeline(Stage(lambda value: value, workers=2, timeout_s=3600))(range(10**9))
    next(results)
    results.close()
    until(lambda: not running())
