"""Studio.ML's ModelPipe by its old name: what it did right is the same, and what it did wrong is right."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.inference import lending
from tests.inference.ticking import ticking
from tests.polling import until
from tidegate.inference.pipeline import BrokenStage, run
from tidegate.inference.worker.compat.studio.model_util import ModelPipe, resize_to_model_input


def inverse(value: Any) -> Any:
    return 1 / value


def test_the_old_name_is_importable_in_every_way():
    """As wrappers write it, and gone again after the test."""
    with lending.lent() as lent:
        assert "studio" in lent
        names: dict[str, Any] = {}
        script = (
            "from studio import model_util\nimport studio.model_util\nfrom studio.model_util import ModelPipe\n"
            "pipe = model_util.ModelPipe()\npipe.add(lambda x: x + 1, num_workers=4, timeout=5)\n"
        )
        exec(script, names)  # noqa: S102 - a script, with its own globals
        assert names["pipe"]({"a": 1}) == {"a": 2}


def test_each_container_comes_back_as_itself():
    """A tuple, too, of which nothing came back."""
    pipe = ModelPipe().add(lambda x: x * 2)
    assert pipe({"a": 1, "b": 2}) == {"a": 2, "b": 4}
    assert pipe([3, 4]) == [(0, 6), (1, 8)]
    assert pipe((3, 4)) == ((0, 6), (1, 8))
    assert pipe({1, 2}) == {2, 4}
    assert list(pipe(x for x in (3, 4))) == [(0, 6), (1, 8)]
    assert pipe.apply_ordered([3, 4]) == [6, 8]
    assert pipe.apply_ordered((3, 4)) == (6, 8)
    assert list(pipe.apply_ordered(iter([3, 4]))) == [6, 8]
    assert pipe.apply_ordered({"a": 1}) == {"a": 2}
    assert pipe.apply_unordered([1]) == [(0, 2)]


def test_a_pipe_without_functions_gives_what_it_is_given():
    """And one of nothing gives nothing, at once."""
    assert ModelPipe()({"a": 1}) == {"a": 1}
    assert ModelPipe().add(inverse, num_workers=2).apply_ordered([]) == []


def test_functions_alone_are_composed_in_one_stage():
    """Behind a batch they get the batch, as there."""
    pipe = ModelPipe().add(lambda x: x + 1).add(lambda x: x * 10)
    pipe.add(lambda batch: batch.sum(axis=1), batch_size=4, batcher=np.vstack).add(lambda batch: batch / 2)
    assert pipe.apply_ordered([0, 1, 2]) == [5.0, 10.0, 15.0]


def test_a_stage_takes_over_what_it_is_not_told():
    """And what is told counts, also where it is zero."""
    sizes: list[int] = []

    def counted(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        return batch

    pipe = ModelPipe().add(counted, batch_size=3).add(counted, num_workers=2)
    assert pipe.apply_ordered(list(range(6))) == list(range(6))
    assert max(sizes) <= 3
    assert sum(sizes) == 12
    at_once: list[int] = []
    running = threading.Semaphore(0)

    def watched(value: int) -> int:
        running.release()
        at_once.append(running._value)
        running.acquire()
        return value

    one = ModelPipe().add(lambda x: x, num_workers=8).add(watched, num_workers=0, timeout=0)
    assert one.apply_ordered(list(range(50))) == list(range(50))
    assert max(at_once) == 1


@pytest.mark.parametrize("arguments", [{}, {"num_workers": 4}, {"num_workers": 1, "timeout": 5}])
def test_an_item_that_fails_is_none_in_its_place(arguments):
    """In the last stage and in an earlier one; there it vanished, with the places of those behind it."""
    assert ModelPipe().add(inverse, **arguments).apply_ordered([1, 0, 2]) == [1.0, None, 0.5]
    pipe = ModelPipe().add(inverse, **arguments).add(lambda x: x + 1, num_workers=2)
    assert pipe.apply_ordered([1, 0, 2]) == [2.0, None, 1.5]
    assert pipe({"a": 0, "b": 1}) == {"a": None, "b": 2.0}


def test_one_bad_item_of_a_batch_fails_alone(caplog):
    """There, its batch was None as a whole; the log has the reason."""
    pipe = ModelPipe().add(lambda batch: [1 / x for x in batch], batch_size=4)
    assert pipe.apply_ordered([1, 2, 0, 4, 5]) == [1.0, 0.5, None, 0.25, 0.2]
    assert [record.message for record in caplog.records] == ["the item 2 has no result: ZeroDivisionError"]


def test_what_a_function_returns_as_none_goes_no_further():
    """The default filterf, with the place kept; nothing is logged, because nothing failed."""
    seen: list[Any] = []
    pipe = ModelPipe().add(lambda x: None if x == 2 else x).add(lambda x: seen.append(x) or x, num_workers=1)
    assert pipe.apply_ordered([1, 2, 3]) == [1, None, 3]
    assert seen == [1, 3]
    batched = ModelPipe().add(lambda x: None if x == 2 else x).add(lambda batch: batch, batch_size=4)
    assert batched.apply_ordered([1, 2, 3]) == [1, None, 3]


def test_what_a_filterf_drops_is_missing():
    """As it says; the places of the others are those that they had."""
    pipe = ModelPipe().add(lambda x: x * 10, filterf=lambda x: x != 2)
    assert pipe([1, 2, 3]) == [(0, 10), (2, 30)]
    assert pipe.apply_ordered([1, 2, 3]) == [10, 30]
    assert pipe({"a": 1, "b": 2}) == {"a": 10}


def test_falsy_values_are_values():
    """There, a batch of zeros was taken for the end."""
    pipe = ModelPipe().add(lambda x: x, num_workers=2).add(lambda batch: batch, batch_size=2)
    assert pipe.apply_ordered([0, 0, "", [], 0]) == [0, 0, "", [], 0]


def test_a_slow_source_loses_nothing():
    """A time-out there was the end of the stream: [0, 1] of five. Here it is the time of one call."""
    gate = threading.Semaphore(0)

    def source() -> Iterator[int]:
        for number in range(5):
            gate.acquire(timeout=60)
            yield number

    results = ModelPipe().add(lambda x: x * 2, num_workers=2, timeout=0.001).apply_ordered(source())
    collected: list[int] = []
    for _ in range(5):
        gate.release()
        collected.append(next(results))
    gate.release()
    assert list(results) == []
    assert len(collected) == 5


def test_a_call_that_takes_too_long_is_none():
    """The others have their results."""
    blocked = threading.Event()
    try:
        pipe = ModelPipe().add(lambda x: blocked.wait(60) if x == 1 else x, num_workers=3, timeout=1.0)
        with ticking(run):  # or a busy machine costs the others their results
            assert pipe.apply_ordered([0, 1, 2]) == [0, None, 2]
    finally:
        blocked.set()


def test_a_generator_is_read_as_it_is_asked_for_and_ends_as_one():
    """There, every pipe with a queue ended in RuntimeError (PEP 479)."""
    taken: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    before = set(threading.enumerate())
    results = ModelPipe().add(lambda x: x + 1, num_workers=4).apply_ordered(endless())
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    results.close()
    assert len(taken) < 200
    until(lambda: set(threading.enumerate()) <= before)


def test_a_pipe_may_be_called_by_many_threads_at_once():
    """As a handler is, with input threads."""
    pipe = ModelPipe().add(lambda x: x * 2, num_workers=3).add(lambda batch: batch, batch_size=4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: pipe({k: start + k for k in range(10)}), range(0, 400, 100)))
    assert found == [{k: 2 * (start + k) for k in range(10)} for start in range(0, 400, 100)]


def test_a_function_that_returns_too_few_results_is_an_error():
    """There, the rest was lost in silence."""
    with pytest.raises(BrokenStage, match="1"):
        ModelPipe().add(lambda batch: batch[:1], batch_size=4).apply_ordered([1, 2, 3])
    with pytest.raises(BrokenStage, match="int"):
        ModelPipe().add(len, batch_size=4).apply_ordered([1, 2, 3])


def test_what_cannot_be_called_is_refused_where_it_is_added():
    """In a sentence."""
    with pytest.raises(TypeError, match=r"ModelPipe.add takes a function; 3 cannot be called"):
        ModelPipe().add(3)


@settings(max_examples=50, deadline=None)
@given(
    items=st.lists(st.integers(-3, 3), max_size=40),
    workers=st.integers(0, 4),
    size=st.integers(1, 5),
)
def test_nothing_is_lost_and_the_order_is_kept(items, workers, size):
    """Whatever the workers and batches: a result or None for each item, in its place."""
    pipe = (
        ModelPipe().add(inverse, num_workers=workers).add(lambda batch: [x * 2 for x in batch], batch_size=max(2, size))
    )
    assert pipe.apply_ordered(items) == [None if x == 0 else 2 / x for x in items]
    assert pipe(dict(enumerate(items))) == {n: None if x == 0 else 2 / x for n, x in enumerate(items)}


def test_a_model_of_keras_is_asked_by_its_predict():
    """As Studio.ML did."""

    class Model:
        __module__ = "keras.models"

        def predict(self, batch: Any) -> Any:
            return batch * 10

        def __call__(self, _: Any) -> Any:
            raise AssertionError

    pipe = ModelPipe().add(Model(), batch_size=2, batcher=np.array)
    assert pipe.apply_ordered([1, 2, 3]) == [10, 20, 30]


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ((None, 4, 6, 3), (1, 4, 6, 3)),
        ((None, 3, 4, 6), (1, 3, 4, 6)),
        ((SimpleNamespace(value=None), *(SimpleNamespace(value=n) for n in (4, 6, 1))), (1, 4, 6, 1)),
        ((None, 1, 4, 6), (1, 1, 4, 6)),
    ],
)
def test_a_picture_is_made_to_fit_a_model(lengths, shape):
    """Height before width, channels where the model has them, 0…1."""
    model = SimpleNamespace(inputs=[SimpleNamespace(shape=lengths)])
    resized = resize_to_model_input(model)
    found = resized(Image.new("RGB", (20, 10), (255, 255, 255)))
    assert (found.shape, found.dtype) == (shape, np.float32)
    assert np.allclose(found, 1.0)
    assert resized(None) is None


def test_a_model_that_takes_no_pictures_is_refused():
    """With the shape that it takes."""
    with pytest.raises(ValueError, match=r"the input of this one is \(784,\)"):
        resize_to_model_input(SimpleNamespace(inputs=[SimpleNamespace(shape=(None, 784))]))
