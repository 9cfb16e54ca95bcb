"""Many requests in one prediction, where the archive declares that this is right: nobody pays for another's mistake."""

from __future__ import annotations

import gc
import io
import json
import math
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.toy_models import computation, outcomes, request, values
from tidegate.inference.protocol import Answer
from tidegate.inference.worker import joined_calls
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.context import Context


class Counting:
    """A predict_fn that doubles, fails on negative numbers, and notes the size of every batch."""

    def __init__(self, error: type[Exception] = RuntimeError) -> None:
        self.sizes: list[int] = []
        self.error = error

    def __call__(self, data: torch.Tensor, _: Any) -> torch.Tensor:
        self.sizes.append(len(data))
        if (data < 0).any():
            raise self.error("negative")
        return data * 2


def declared(**functions: Any) -> Computation:
    return computation(joins=True, **functions)


def rows(*numbers: float) -> list[list[list[float]]]:
    return [[[number]] for number in numbers]


def test_a_batch_is_predicted_with_one_call_and_split_again() -> None:
    predict = Counting()
    assert values(declared(predict_fn=predict), *rows(1, 2, 3)) == [[[2.0]], [[4.0]], [[6.0]]]
    assert predict.sizes == [3]


def test_requests_of_several_records_get_their_own_back() -> None:
    predict = Counting()
    found = values(declared(predict_fn=predict), [[1.0], [2.0]], [[3.0]], [[4.0], [5.0], [6.0]])
    assert found == [[[2.0], [4.0]], [[6.0]], [[8.0], [10.0], [12.0]]]
    assert predict.sizes == [6]


def test_requests_that_do_not_fit_together_are_predicted_in_groups() -> None:
    predict = Counting()
    found = values(declared(predict_fn=predict), [[1.0]], [[1.0, 2.0]], [[3.0]], [5.0], [6.0])
    assert found == [[[2.0]], [[2.0, 4.0]], [[6.0]], [10.0], [12.0]]
    assert sorted(predict.sizes) == [1, 1, 1, 2]


def test_a_request_that_cannot_be_decoded_leaves_the_batch() -> None:
    predict = Counting()
    toy = declared(predict_fn=predict)
    items = [request([[1.0]], 0), request(b"{", 1), request([[3.0]], 2), request(b"", 3, content_type="")]
    found, _ = ask(toy, items)
    assert [(o.id, o.status) for o in found] == [(0, 200), (1, 400), (2, 200), (3, 415)]
    assert predict.sizes == [2]


def test_a_request_that_cannot_be_encoded_does_not_touch_the_others() -> None:
    def output_fn(prediction: Any, accept: str) -> Any:
        if prediction[0][0] > 3:
            raise RuntimeError("too large")
        return prediction.tolist()

    assert values(declared(predict_fn=Counting(), output_fn=output_fn), *rows(1, 2)) == [[[2.0]], 500]


@given(st.integers(2, 64).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=4))))
def test_halving_finds_exactly_the_requests_that_fail(case: tuple[int, set[int]]) -> None:
    """With k bad ones among n, in at most 2·k·(log2 n + 1) + 1 calls; without any, in one."""
    count, bad = case
    predict = Counting()
    found = values(declared(predict_fn=predict), *rows(*(-1.0 if i in bad else float(i) for i in range(count))))
    assert found == [500 if i in bad else [[2.0 * i]] for i in range(count)]
    assert len(predict.sizes) <= 2 * len(bad) * (math.ceil(math.log2(count)) + 1) + 1


@pytest.mark.parametrize(
    ("most", "numbers", "halved"),
    [
        pytest.param(8, (1, 2, 3, 4), 0, id="it goes through"),
        pytest.param(2, (1, 2, 3, 4), 1, id="only its halves do"),
        pytest.param(1, (1, 2, 3, 4), 3, id="each by itself"),
        pytest.param(8, (1, 2, -3, 4), 0, id="one request is to blame"),
        pytest.param(0, (1, 2), 0, id="none does, however small"),
    ],
)
def test_a_call_that_fails_though_its_halves_do_not_is_told_to_the_frontend(
    most: int, numbers: tuple[float, ...], halved: int
) -> None:
    """It says that so many are too many, which an error of one request does not."""

    def predict_fn(data: torch.Tensor, model: Any) -> torch.Tensor:
        if len(data) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if (data < 0).any():
            raise ValueError("negative")
        return data

    _, done = ask(declared(predict_fn=predict_fn), [request([[number]], at) for at, number in enumerate(numbers)])
    assert done.halved == halved


def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    emptied: list[int] = []
    monkeypatch.setattr(joined_calls, "empty_cache", lambda: emptied.append(len(sizes)))

    def predict_fn(data: torch.Tensor, model: Any) -> torch.Tensor:
        sizes.append(len(data))
        if len(data) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return data

    found = values(declared(predict_fn=predict_fn), *rows(*range(8)))
    assert found == rows(*map(float, range(8)))
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert emptied == [1, 2, 5], "the cache is emptied after each call that ran out of memory, before the next"


def test_the_memory_of_a_failed_batch_is_free_before_its_halves_are_tried() -> None:
    """Otherwise halving could not help: the traceback would keep the tensors that did not fit."""
    alive: list[weakref.ref[torch.Tensor]] = []
    kept: list[bool] = []

    def predict_fn(data: torch.Tensor, model: Any) -> torch.Tensor:
        gc.collect()
        kept.append(any(reference() is not None for reference in alive))
        activations = data * 2
        alive.append(weakref.ref(activations))
        if len(data) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        del activations
        return data

    values(declared(predict_fn=predict_fn), *rows(1, 2, 3, 4))
    assert len(kept) == 7
    assert not any(kept)


def test_a_request_that_runs_out_of_memory_alone_is_507_and_the_others_are_answered() -> None:
    assert values(declared(predict_fn=Counting(MemoryError)), *rows(1, -1, 3)) == [[[2.0]], 507, [[6.0]]]


def test_a_status_of_the_handlers_own_is_for_the_request_that_caused_it() -> None:
    class Refused(Exception):
        status_code = 422

    assert values(declared(predict_fn=Counting(Refused)), *rows(1, -1)) == [[[2.0]], 422]


def test_a_prediction_that_has_no_part_for_each_request_is_made_one_by_one() -> None:
    sizes: list[int] = []

    def predict_fn(data: torch.Tensor, model: Any) -> Any:
        sizes.append(len(data))
        return {"mean": float(data.mean())}

    found = values(declared(predict_fn=predict_fn), *rows(1, 2, 3))
    assert found == [{"mean": 1.0}, {"mean": 2.0}, {"mean": 3.0}]
    assert sizes[0] == 3
    assert sizes.count(1) == 3


# --- collate_fn and split_fn


def texts(body: str, _: Any) -> Any:
    return json.loads(body)


def test_collate_fn_and_split_fn_take_the_place_of_joining_and_splitting() -> None:
    seen: list[Any] = []

    def predict_fn(data: Any, model: Any) -> Any:
        seen.append(data)
        return ",".join(text.upper() for text in data["texts"])

    toy = declared(
        input_fn=texts,
        predict_fn=predict_fn,
        collate_fn=lambda inputs: {"texts": inputs},
        split_fn=lambda prediction, _: prediction.split(","),
    )
    assert values(toy, "a", "b", "c") == ["A", "B", "C"]
    assert seen == [{"texts": ["a", "b", "c"]}]


@pytest.mark.parametrize("own", [["collate_fn", "split_fn"], ["split_fn"]])
def test_a_lone_request_takes_the_same_road_as_a_batch(own: list[str]) -> None:
    """So output_fn is given the same for a request, whoever else is there."""
    functions: dict[str, Any] = {
        "collate_fn": lambda inputs: [text for each in inputs for text in each],
        "split_fn": lambda prediction, _: [{"part": part} for part in prediction],
    }
    toy = declared(input_fn=texts, predict_fn=lambda data, _: data, **{name: functions[name] for name in own})
    together = values(toy, ["a"], ["b"])
    assert together == [{"part": "a"}, {"part": "b"}]
    assert values(toy, ["a"]) == together[:1]


def test_split_fn_with_the_wrong_number_of_parts_falls_back_to_one_by_one() -> None:
    toy = declared(input_fn=texts, predict_fn=lambda data, _: data, split_fn=lambda prediction, _: prediction[:1])
    assert values(toy, ["a"], ["b"]) == ["a", "b"]


def test_a_collate_fn_that_fails_on_one_input_costs_only_that_one() -> None:
    def collate_fn(inputs: list[Any]) -> Any:
        if None in inputs:
            raise TypeError("None")
        return inputs

    toy = declared(input_fn=texts, predict_fn=lambda data, _: data, collate_fn=collate_fn)
    assert values(toy, "a", None, "c") == [["a"], 500, ["c"]]


# --- the context of a batch


def test_the_indices_of_the_context_follow_the_batch() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})
    seen: list[tuple[str, list[str | None]]] = []

    def note(where: str) -> None:
        seen.append((where, [each.get_request_property("x-n") for each in context.request_processor]))

    def input_fn(body: str, _: Any) -> Any:
        note("input")
        return torch.tensor(json.loads(body))

    def predict_fn(data: Any, _: Any) -> Any:
        note("predict")
        for index in range(len(data)):
            number = context.get_request_header(index, "x-n")
            context.set_response_header(index, "x-answer", f"to {number}")
        return data

    def output_fn(prediction: Any, _: Any) -> Any:
        note("output")
        return prediction.tolist()

    toy = declared(input_fn=input_fn, predict_fn=predict_fn, output_fn=output_fn, context=context)
    items = [request([[float(n)]], n, headers=b"x-n: %d\r\n" % n) for n in range(3)]
    found, _ = ask(toy, items)
    assert [where for where, _ in seen] == ["input"] * 3 + ["predict"] + ["output"] * 3
    assert [numbers for _, numbers in seen] == [["0"], ["1"], ["2"], ["0", "1", "2"], ["0"], ["1"], ["2"]]
    assert [o.headers for o in found if isinstance(o, Answer)] == [b"x-answer: to %d\r\n" % n for n in range(3)]


@given(st.lists(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=2), max_size=3), max_size=8))
def test_a_batch_answers_as_each_request_would_be_answered_alone(bodies: list[Any]) -> None:
    """Whatever is sent, ragged and empty arrays included."""
    toy = declared(predict_fn=Counting())
    together = outcomes(toy, *bodies)
    alone = [outcomes(toy, body)[0] for body in bodies]
    assert [(o.status, getattr(o, "body", None)) for o in together] == [
        (o.status, getattr(o, "body", None)) for o in alone
    ]


def test_the_answer_of_a_batch_holds_nobody_elses_numbers() -> None:
    """torch.save writes the whole storage of a tensor, so a view of the batch would carry all of it."""
    found = outcomes(declared(predict_fn=Counting(), output_fn=lambda prediction, _: prediction), *rows(1, 2, 3))
    for outcome in found:
        assert isinstance(outcome, Answer)
        assert torch.load(io.BytesIO(outcome.body)).untyped_storage().nbytes() == 4


def test_what_the_records_of_a_batch_share_is_each_requests_own() -> None:
    def predict_fn(data: torch.Tensor, model: Any) -> Any:
        shared = {"left": 1}
        return [{"value": row, "shared": shared} for row in data.tolist()]

    def output_fn(prediction: Any, accept: str) -> Any:
        return [prediction[0]["value"], prediction[0]["shared"].pop("left", None)]

    assert values(declared(predict_fn=predict_fn, output_fn=output_fn), *rows(1, 2)) == [[[1.0], 1], [[2.0], 1]]


def test_what_a_failed_batch_said_about_its_answers_is_forgotten() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})

    def input_fn(body: str, content_type: str) -> Any:
        context.set_response_header(0, "X-Read", "yes")
        return torch.tensor(json.loads(body))

    def predict_fn(data: torch.Tensor, model: Any) -> Any:
        if (data < 0).any():
            context.set_response_status(299)
            context.set_response_header(0, "X-Odd", "yes")
            raise RuntimeError("odd")
        return data

    toy = declared(context=context, input_fn=input_fn, predict_fn=predict_fn)
    found = outcomes(toy, *rows(1, 2, -1, 3))
    assert [outcome.status for outcome in found] == [200, 200, 500, 200]
    answers = [outcome for outcome in found if isinstance(outcome, Answer)]
    assert all(b"X-Read" in answer.headers and b"X-Odd" not in answer.headers for answer in answers)


def test_a_declared_prediction_with_a_part_that_only_looks_like_one_for_each_request_is_not_cut() -> None:
    def predict_fn(data: torch.Tensor, model: Any) -> Any:
        return {"scores": data.tolist(), "classes": ["a", "b", "c"]}

    toy = declared(predict_fn=predict_fn)
    for bodies in (rows(1, 2, 3), rows(4, 5, 6, 7), rows(8)):
        assert values(toy, *bodies) == [{"scores": [*body], "classes": ["a", "b", "c"]} for body in bodies]


def test_a_declared_prediction_that_has_a_part_for_each_request_is_cut() -> None:
    sizes: list[int] = []

    def predict_fn(data: torch.Tensor, model: Any) -> Any:
        sizes.append(len(data))
        return {"scores": data, "labels": ["even" if value % 2 == 0 else "odd" for (value,) in data.tolist()]}

    toy = declared(predict_fn=predict_fn)
    for _ in range(2):
        assert [value["labels"] for value in values(toy, *rows(1, 2, 3))] == [["odd"], ["even"], ["odd"]]
    assert sizes == [3, 1, 3]


def test_a_collate_fn_whose_prediction_cannot_be_split_answers_one_by_one() -> None:
    def predict_fn(data: torch.Tensor, model: Any) -> Any:
        return {"total": float(data.sum()), "classes": ["a", "b", "c"]}

    toy = computation(
        collate_fn=torch.cat, input_fn=lambda body, _: torch.tensor(json.loads(body)), predict_fn=predict_fn
    )
    for bodies in (rows(1), rows(1, 2, 3), rows(5, 6)):
        expected = [{"total": body[0][0], "classes": ["a", "b", "c"]} for body in bodies]
        assert values(toy, *bodies) == expected
