"""What comes out of a pipeline: every item once, in order, as it is asked for."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inference.pipeline.threads import running
from tests.inference.ticking import ticking
from tidegate.inference.pipeline import at_exit, run
from tidegate.pipeline import BrokenStage, Pipeline, Stage


def double(value: int) -> int:
    return 2 * value


def test_results_keep_the_order_of_the_items_whichever_is_ready_first() -> None:
    """The first item waits for the second."""
    second = threading.Event()

    def waits(value: int) -> int:
        if value == 0:
            assert second.wait(60)
        else:
            second.set()
        return value

    assert list(Pipeline(Stage(waits, workers=2))([0, 1])) == [0, 1]


@given(
    count=st.integers(0, 70),
    workers=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    batch_sizes=st.lists(st.none() | st.integers(1, 9), min_size=4, max_size=4),
    waits=st.sampled_from([None, 0, 1, 20]),
    max_in_flight=st.none() | st.integers(1, 12),
    modulus=st.integers(2, 9),
)
@settings(max_examples=60, deadline=None)
def test_every_item_that_is_not_filtered_comes_out_once_in_order(
    count: int,
    workers: list[int],
    batch_sizes: list[int | None],
    waits: float | None,
    max_in_flight: int | None,
    modulus: int,
) -> None:
    """For any stages, batches, waits and windows, with items that fail, are dropped, or are slower than others."""

    def one(value: int) -> int:
        if value % 5 == 0:
            time.sleep(0.0005)
        if value % modulus == 1:
            raise ValueError(value)
        return value

    def many(values: list[int]) -> list[int]:
        return [one(value) for value in values]

    stages = [
        Stage(
            one if batch_size is None else many,
            workers=count_of_workers,
            batch_size=batch_size,
            max_wait_ms=None if batch_size is None else waits,
            filter=lambda value: value % 7 != 3,
            on_error=lambda value, error: ("failed", value, str(error)),
        )
        for count_of_workers, batch_size in zip(workers, batch_sizes, strict=False)
    ]
    wanted = [
        ("failed", value, str(value)) if value % modulus == 1 else value for value in range(count) if value % 7 != 3
    ]
    assert list(Pipeline(*stages, max_in_flight=max_in_flight)(range(count))) == wanted


def test_a_mapping_gives_a_dict_under_the_same_keys() -> None:
    """The stages see the values only; what a filter drops has no key."""
    pipeline = Pipeline(Stage(double, workers=3, filter=lambda value: value != 2), str)
    assert pipeline({"a": 1, "b": 2, "c": 3}) == {"a": "2", "c": "6"}
    assert list(pipeline({"b": 1, "a": 3})) == ["b", "a"]


@pytest.mark.parametrize(
    "items", [(1, 2), [1, 2], range(1, 3), iter([1, 2]), (n for n in (1, 2)), {1: None, 2: 0}.keys()]
)
def test_any_iterable_gives_an_iterator(items: Any) -> None:
    """Lists, tuples, ranges, generators, views."""
    results = Pipeline(double)(items)
    assert iter(results) is results
    assert list(results) == [2, 4]
    assert list(results) == []


@pytest.mark.parametrize("items", ["text", b"bytes", 3, None])
def test_what_is_no_collection_of_items_is_refused(items: Any) -> None:
    """A text iterates too, but nobody means its letters."""
    with pytest.raises(TypeError, match=r"A pipeline takes an iterable of items or a mapping"):
        Pipeline(double)(items)


def test_a_pipeline_without_stages_gives_its_items() -> None:
    """The neutral element of putting pipelines together."""
    assert list(Pipeline()([1, 2])) == [1, 2]
    assert Pipeline()({"a": 1}) == {"a": 1}


def test_a_pipeline_in_a_pipeline_is_its_stages() -> None:
    """Put together, and called within a stage."""
    inner = Pipeline(Stage(double, workers=2), str)
    assert list(Pipeline(double, inner, inner.stages[0])([1, 2])) == ["44", "88"]
    assert list(
        Pipeline(Stage(lambda values: sum(Pipeline(Stage(double, workers=2))(values)), workers=3))([[1, 2], [3]])
    ) == [6, 6]
    assert list(Pipeline(Stage(inner, batch_size=2))([1, 2, 3])) == ["2", "4", "6"]


def test_the_source_is_read_only_so_far_ahead() -> None:
    """An endless one is no matter, and memory is bounded by `max_in_flight`."""
    read = itertools.count()

    def endless() -> Iterator[int]:
        while True:
            yield next(read)

    results = Pipeline(Stage(double, workers=3), max_in_flight=10)(endless())
    assert not running()
    assert [next(results) for _ in range(30)] == [2 * value for value in range(30)]
    results.close()
    assert next(read) <= 30 + 10 + 1


def test_a_result_comes_before_the_source_gives_the_next_item() -> None:
    """As where a client sends its next message when it has the answer to the last."""
    answered = threading.Semaphore(1)

    def conversation() -> Iterator[int]:
        for value in range(5):
            assert answered.acquire(timeout=60)
            yield value

    for result in Pipeline(Stage(double, workers=2), double)(conversation()):
        assert result % 4 == 0
        answered.release()


def test_a_slow_source_is_no_end_of_the_stream() -> None:
    """Slower than the time-out and the wait for a batch: nothing is lost."""

    def slow() -> Iterator[int]:
        for value in range(4):
            time.sleep(0.06)
            yield value

    stages = Stage(double, workers=2, timeout_s=0.05), Stage(list, batch_size=3, max_wait_ms=1, timeout_s=0.05)
    with ticking(run):
        assert list(Pipeline(*stages)(slow())) == [0, 2, 4, 6]


def test_several_threads_may_call_one_pipeline_at_once() -> None:
    """Each gets its own results."""
    pipeline = Pipeline(Stage(double, workers=4), Stage(list, batch_size=7), str)
    got: dict[int, list[str]] = {}

    def call(start: int) -> None:
        got[start] = list(pipeline(range(start, start + 200)))

    threads = [threading.Thread(target=call, args=(1000 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {start: [str(2 * n) for n in range(start, start + 200)] for start in range(0, 6000, 1000)}


def test_batches_are_full_but_the_last() -> None:
    """However fast the items come one by one."""
    sizes = []

    def note(values: list[int]) -> list[int]:
        sizes.append(len(values))
        return values

    assert list(Pipeline(Stage(double, workers=4), Stage(note, batch_size=32))(range(1000))) == [
        2 * n for n in range(1000)
    ]
    assert sizes == [32] * 31 + [8]


def test_a_filter_leaves_no_holes_in_a_batch() -> None:
    """It is asked before the batch is put together."""
    sizes = []

    def note(values: list[int]) -> list[int]:
        sizes.append(len(values))
        return values

    assert list(Pipeline(Stage(note, batch_size=4, filter=lambda n: n % 2))(range(16))) == [*range(1, 16, 2)]
    assert sizes == [4, 4]


def test_a_batch_does_not_wait_for_what_only_its_own_result_makes_room_for() -> None:
    """The window is smaller than the batch."""
    assert list(Pipeline(Stage(list, batch_size=50), max_in_flight=3)(range(10))) == [*range(10)]


def test_a_batch_is_collated_and_its_result_split() -> None:
    """The function sees what `collate` makes, `split` what it returns."""
    stage = Stage(
        lambda text: {"all": text.upper()}, batch_size=3, collate="".join, split=lambda result: list(result["all"])
    )
    assert list(Pipeline(stage)(["a", "b", "c", "d"])) == ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ([1], "Stage 'wrong' returned 1 result for a batch of 3 items; it must return one for each, in their order."),
        (
            [1] * 4,
            "Stage 'wrong' returned 4 results for a batch of 3 items; it must return one for each, in their order.",
        ),
        (
            None,
            "Stage 'wrong' has a batch_size and returned a NoneType, which cannot be iterated; it must return a "
            "sequence with one result for each item (3 here).",
        ),
        (
            "abc",
            "Stage 'wrong' has a batch_size and returned a str; it must return a sequence with one result for each "
            "item (3 here), or be given a split function that makes one.",
        ),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "null"])
def test_a_batch_with_too_few_or_too_many_results_is_one_clear_error(
    returned: Any, sentence: str, on_error: Any
) -> None:
    """Whatever `on_error` says: the function is at fault, and nobody knows which item is meant."""

    def wrong(values: list[int]) -> Any:
        return returned

    with pytest.raises(BrokenStage) as raised:
        list(Pipeline(Stage(wrong, batch_size=3, on_error=on_error))([1, 2, 3]))
    assert str(raised.value) == sentence


def test_threads_are_started_as_items_come() -> None:
    """A pipeline of many workers costs a request with one item one thread a stage."""
    names: set[str] = set()

    def note(value: int) -> int:
        names.add(threading.current_thread().name)
        return value

    assert list(Pipeline(Stage(note, workers=32))([1])) == [1]
    assert names == {"pipeline-note-0"}


def test_no_thread_is_left_when_the_results_have_been_read() -> None:
    """Not even for a moment: they are waited for."""
    list(Pipeline(Stage(double, workers=8), Stage(list, batch_size=4, timeout_s=5))(range(100)))
    assert not running()


def test_a_thread_that_is_done_but_not_gone_is_waited_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a few steps left when its work is over, and the machine may let it wait there."""
    stands_still, goes_on = threading.Event(), threading.Event()

    class Slow(set[threading.Thread]):
        def discard(self, thread: threading.Thread) -> None:
            if not stands_still.is_set():
                stands_still.set()
                goes_on.wait(60)
            super().discard(thread)

    def join_late(joined: run.Run) -> None:
        assert stands_still.wait(60)
        threading.Timer(0.2, goes_on.set).start()
        join(joined)

    join = run.Run.join
    monkeypatch.setattr(at_exit, "threads", Slow())
    monkeypatch.setattr(run.Run, "join", join_late)
    assert list(Pipeline(Stage(double, workers=2))(range(3))) == [0, 2, 4]
    assert not running()
