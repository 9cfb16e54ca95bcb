"""Requests share a call only after a proof, and no client ever reads an answer that it would not have got alone."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections import UserDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inference.toy_models import computation, request, values
from tidegate.inference.protocol import Answer, Done, Progress
from tidegate.inference.worker import joining, tally
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.context import Context

FOUR = 4


def floats(body: str, _: Any) -> torch.Tensor:
    return torch.tensor(json.loads(body), dtype=torch.float64)


def texts(body: str, _: Any) -> Any:
    return json.loads(body)


class Sized:
    """A predict_fn around another one, which notes how many records each call had."""

    def __init__(self, predict: Any) -> None:
        self.predict = predict
        self.sizes: list[int] = []

    def __call__(self, data: Any, _: Any) -> Any:
        self.sizes.append(len(data))
        return self.predict(data)


def series(source: random.Random, *, length: int = 5) -> list[list[float]]:
    return [[source.uniform(-3, 3) for _ in range(2)] for _ in range(length)]


def images(source: random.Random) -> list[Any]:
    return [[[source.random() for _ in range(3)] for _ in range(4)] for _ in range(4)]


def words(source: random.Random) -> list[str]:
    return [source.choice("abcdefgh") * source.randint(1, 3) for _ in range(3)]


def row(source: random.Random) -> list[list[float]]:
    return series(source, length=1)


def batches(make: Any, count: int, size: int = FOUR) -> list[list[Any]]:
    source = random.Random(7)  # noqa: S311 - it is to be repeatable
    return [[make(source) for _ in range(size)] for _ in range(count)]


def hold(make_toy: Any, bodies: list[list[Any]]) -> Computation:
    """Ask in batches, and a second computation one by one: the answers must be the same. Returns the first."""
    toy, alone = make_toy(), make_toy()
    for batch in bodies:
        assert values(toy, *batch) == [values(alone, body)[0] for body in batch]
    return toy


def joined_of(toy: Computation, *bodies: Any) -> int:
    """How many shared calls this batch made, without those of a proof."""
    _, done = ask(toy, [request(body, number) for number, body in enumerate(bodies)])
    return done.joined


def mean_over_time(data: torch.Tensor) -> Any:
    """Of a series: an answer that depends on all its steps, with a part for each."""
    return (data - data.mean(0)).tolist()


def cumulated(data: torch.Tensor) -> Any:
    return data.cumsum(0).tolist()


# --- what may be joined


def test_three_equal_batches_of_different_contents_open_a_signature() -> None:
    predict = Sized(lambda data: data * 2)
    toy = computation(input_fn=floats, predict_fn=predict, output_fn=lambda p, _: p.tolist())
    found = []
    for batch in batches(row, 5):
        predict.sizes.clear()
        assert values(toy, *batch) == [[[2 * number for number in one] for one in body] for body in batch]
        found.append(list(predict.sizes))
    assert found == [[1, 1, 1, 1, 4]] * 3 + [[4]] * 2


@pytest.mark.parametrize(
    ("input_fn", "make", "predict"),
    [
        (texts, words, lambda data: [word.upper() for word in data]),
        (lambda b, _: floats(b, _).numpy(), series, lambda data: data + 1),
        (lambda b, _: {"x": floats(b, _)}, series, lambda data: {"y": data["x"] * 3, "z": data["x"].tolist()}),
        (lambda b, _: (floats(b, _), json.loads(b)), series, lambda data: (data[0] * 3, data[1])),
        (lambda b, _: UserDict({"x": floats(b, _)}), row, lambda data: {"y": data.data["x"] * 3}),
        (floats, images, lambda data: data.flatten(1).sum(1)),
    ],
    ids=["words", "array", "dict", "tuple", "mapping", "rows of images"],
)
def test_every_kind_that_is_the_same_together_is_joined(input_fn: Any, make: Any, predict: Any) -> None:
    toy = hold(lambda: computation(input_fn=input_fn, predict_fn=lambda data, _: predict(data)), batches(make, 3))
    assert joined_of(toy, *batches(make, 4)[-1]) == 1


def test_each_signature_is_proved_for_itself() -> None:
    toy = hold(lambda: computation(input_fn=floats, predict_fn=lambda data, _: data * 2), batches(row, 3))
    assert joined_of(toy, *batches(row, 4)[-1]) == 1
    assert joined_of(toy, *batches(images, 1)[0]) == 0


def test_single_requests_cost_nothing_and_prove_nothing() -> None:
    predict = Sized(lambda data: data * 2)
    toy = computation(input_fn=floats, predict_fn=predict)
    for (body,) in batches(row, 5, size=1):
        values(toy, body)
    assert predict.sizes == [1] * 5
    assert joined_of(toy, *batches(row, 1)[0]) == 0


# --- what must not be


def normalised(data: torch.Tensor) -> Any:
    return ((data - data.mean(0)) / (data.std(0) + 1e-9)).tolist()


def smoothed(data: torch.Tensor) -> Any:
    padded = torch.cat([data[:1], data, data[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]).tolist()


class Noisy:
    def __call__(self, data: torch.Tensor) -> Any:
        return (data + torch.rand_like(data)).tolist()


def pooled_image(data: torch.Tensor) -> Any:
    """One image as (height, width, 3), which gets one label for each row by way of a mean over all of it."""
    return [float(data.mean())] * len(data)


@pytest.mark.parametrize("predict", [mean_over_time, cumulated, normalised, smoothed, pooled_image])
@pytest.mark.parametrize("make", [series, images, row])
def test_what_depends_on_the_whole_input_is_never_joined(predict: Any, make: Any) -> None:
    toy = hold(lambda: computation(input_fn=floats, predict_fn=lambda data, _: predict(data)), batches(make, 12))
    assert joined_of(toy, *batches(make, 1)[0]) == 0


def test_one_text_as_a_list_of_words_is_never_joined() -> None:
    def predict_fn(data: list[str], _: Any) -> list[str]:
        return [f"{place} of {len(data)}: {word}" for place, word in enumerate(data)]

    toy = hold(lambda: computation(input_fn=texts, predict_fn=predict_fn), batches(words, 12))
    assert joined_of(toy, *batches(words, 1)[0]) == 0


def test_a_network_in_training_mode_is_never_joined() -> None:
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2, track_running_stats=False), torch.nn.Linear(2, 2)).double()
    toy = hold(lambda: computation(input_fn=floats, predict_fn=lambda data, _: net(data).detach()), batches(series, 9))
    assert joined_of(toy, *batches(series, 1)[0]) == 0


def test_a_recurrent_network_over_time_is_never_joined() -> None:
    torch.manual_seed(3)
    net = torch.nn.GRU(2, 3).double()
    toy = hold(
        lambda: computation(input_fn=floats, predict_fn=lambda data, _: net(data)[0].detach()), batches(series, 9)
    )
    assert joined_of(toy, *batches(series, 1)[0]) == 0


@pytest.mark.parametrize(
    "predict",
    [
        Noisy(),
        lambda data: {"mean": float(data.mean())},
        lambda data: (number for number in data),
        lambda data: [object() for _ in data],
        lambda data: data if len(data) == 1 else 1 / 0,
    ],
    ids=["random", "not splittable", "generator", "not comparable", "raises"],
)
def test_what_is_random_or_cannot_be_compared_is_tried_once_and_harms_nobody(predict: Any) -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: predict(data), output_fn=lambda _, __: "answered")
    results = []
    for batch in batches(row, 6):
        found, done = ask(toy, [request(body, number) for number, body in enumerate(batch)])
        assert [outcome.status for outcome in found] == [200] * FOUR
        results.append((done.joined, done.proved, done.refused, done.hopeless))
    assert results == [(0, 0, 1, False)] + [(0, 0, 0, True)] * 5


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, RecursionError, MemoryError])
def test_whatever_ends_the_shared_call_ends_nothing_else(end: type[BaseException]) -> None:
    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        if len(data) > 1:
            raise end
        return data

    hold(lambda: computation(input_fn=floats, predict_fn=predict_fn), batches(row, 6))


# --- functions that have more in common than what they are given


def test_what_input_fn_leaves_in_a_global_for_output_fn_is_not_mixed_up() -> None:
    def make() -> Computation:
        left: list[Any] = []

        def input_fn(body: str, _: Any) -> torch.Tensor:
            left[:] = json.loads(body)
            return floats(body, _)

        return computation(input_fn=input_fn, predict_fn=lambda d, _: d, output_fn=lambda p, _: [left, p.tolist()])

    toy = hold(make, batches(row, 12))
    assert joined_of(toy, *batches(row, 1)[0]) == 0


def test_what_input_fn_leaves_in_a_global_for_predict_fn_is_not_mixed_up() -> None:
    def make() -> Computation:
        left: list[Any] = []

        def input_fn(body: str, _: Any) -> torch.Tensor:
            left[:] = json.loads(body)
            return floats(body, _)

        return computation(input_fn=input_fn, predict_fn=lambda data, _: data + left[0][0])

    toy = hold(make, batches(row, 12))
    assert joined_of(toy, *batches(row, 1)[0]) == 0


def after_proofs(toy: Computation, proofs: list[list[Any]], *then: list[Any], make_toy: Any) -> None:
    """Open the signature with `proofs`; each batch of `then` must be answered as alone, whatever it is that changes."""
    for batch in proofs:
        values(toy, *batch)
    alone = make_toy()
    for batch in then:
        assert values(toy, *batch) == [values(alone, body)[0] for body in batch]


@pytest.mark.parametrize(
    "predict",
    [
        lambda data: (data * 2).sum(1).squeeze().tolist(),
        lambda data: (data * 2).tolist()[0] if len(data) == 1 else (data * 2).tolist(),
        lambda data: (data * 2).tolist() if len(data) % 4 else [[0.0]] * len(data),
    ],
    ids=["squeeze", "one is not many", "a number of records"],
)
def test_what_was_proved_for_two_records_is_not_joined_for_one_or_three(predict: Any) -> None:
    def make() -> Computation:
        return computation(input_fn=floats, predict_fn=lambda data, _: predict(data))

    one, two, three = (batches(lambda s, n=n: series(s, length=n), 8) for n in (1, 2, 3))
    mixed = [[a[0], b[0], c[0], a[1]] for a, b, c in zip(one, two, three, strict=True)]
    after_proofs(make(), two, *one, *mixed, *three, make_toy=make)


def test_what_was_proved_with_two_requests_is_proved_again_with_eight() -> None:
    """As a mixture of experts, each of which takes four records."""

    def make() -> Computation:
        def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
            return torch.cat([data[:4], torch.zeros_like(data[4:])])

        return computation(input_fn=floats, predict_fn=predict_fn)

    toy = make()
    after_proofs(toy, batches(row, 3, size=2), *batches(row, 5, size=8), make_toy=make)


def test_more_requests_than_were_proved_are_joined_after_one_proof() -> None:
    toy = computation(input_fn=floats, predict_fn=Sized(lambda data: data * 2))
    for batch in batches(row, 3, size=2):
        values(toy, *batch)
    assert [joined_of(toy, *batch) for batch in batches(row, 3, size=8)] == [4, 0, 1]


def with_option(make_option: Any) -> Any:
    def make(source: random.Random) -> dict[str, Any]:
        return {"x": row(source), **make_option(source)}

    return make


OPTIONS = [
    (lambda order: {"x": torch.tensor(order["x"]), "t": order["t"]}, lambda d: d["x"] * d["t"][0][0]),
    (lambda order: (torch.tensor(order["x"]), torch.tensor(order["t"])), lambda d: d[0] * d[1][0, 0]),
    (
        lambda order: [{"x": order["x"][0], "t": order["t"]}],
        lambda d: [[n * d[0]["t"][0][0] for n in r["x"]] for r in d],
    ),
    (
        lambda order: [{"x": order["x"][0], "options": {"t": order["t"]}}],
        lambda d: [[n * d[0]["options"]["t"][0][0] for n in r["x"]] for r in d],
    ),
]


@pytest.mark.parametrize(("make_input", "predict"), OPTIONS, ids=["dict", "tuple", "records", "nested"])
def test_a_member_that_never_varied_is_joined_only_where_it_is_equal(make_input: Any, predict: Any) -> None:
    def make() -> Computation:
        return computation(input_fn=lambda b, _: make_input(json.loads(b)), predict_fn=lambda data, _: predict(data))

    alike = batches(with_option(lambda _: {"t": [[0.5]]}), 4)
    toy = make()
    after_proofs(toy, alike[:3], make_toy=make)
    assert joined_of(toy, *alike[3]) == 1
    pairs = batches(with_option(lambda s: {"t": [[s.choice([1.0, 2.0])]]}), 1, size=8)
    two_values = {json.dumps(body["t"]) for body in pairs[0]}
    assert len(two_values) == 2
    after_proofs(toy, [], *pairs, make_toy=make)
    after_proofs(toy, [], *batches(with_option(lambda s: {"t": [[s.random()]]}), 8), make_toy=make)


def test_a_member_that_varies_for_each_record_is_joined_after_a_proof_that_has_seen_it() -> None:
    def input_fn(body: str, _: Any) -> Any:
        order = json.loads(body)
        return {"x": torch.tensor(order["x"]), "mask": torch.tensor(order["mask"])}

    toy = computation(input_fn=input_fn, predict_fn=lambda data, _: data["x"] * data["mask"])
    ones = batches(with_option(lambda _: {"mask": [[1, 1]]}), 4)
    assert [joined_of(toy, *batch) for batch in ones] == [0, 0, 0, 1], "a mask of ones proves as well as any"
    mixed = batches(with_option(lambda s: {"mask": [[1, s.randint(0, 1)]]}), 3)
    assert [joined_of(toy, *batch) for batch in mixed][1:] == [0, 1]


def test_an_attribute_of_the_context_that_is_set_for_a_request_is_not_mixed_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def make(*, always: bool) -> Computation:
        context: Any = Context(model_name="model", manifest={}, system_properties={})
        context.k = 1.0

        def input_fn(body: str, _: Any, context: Any = context) -> torch.Tensor:
            order = json.loads(body)
            if always or "k" in order:
                context.k = order.get("k", 1.0)
            return torch.tensor(order["x"])

        return computation(input_fn=input_fn, predict_fn=lambda data, _: data * context.k, context=context)

    same = batches(with_option(lambda _: {}), 4)
    different = batches(with_option(lambda s: {"k": s.random()}), 2)
    for always in (True, False):
        toy = make(always=always)
        assert joined_of(toy, *same[0]) + joined_of(toy, *same[1]) + joined_of(toy, *same[2]) == 0
        assert joined_of(toy, *same[3]) == (not always)
        with caplog.at_level(logging.WARNING):
            after_proofs(toy, [], *different, make_toy=lambda always=always: make(always=always))
    (told,) = {message for message in caplog.messages if "attribute 'k' of the context" in message}
    assert "collate_fn" in told


def test_what_predict_fn_decides_about_a_response_in_a_joined_call_that_is_given_up_is_forgotten() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})

    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        if (data > 100).any():
            context.set_response_status(201, idx=0)
        return data

    toy = computation(input_fn=floats, predict_fn=predict_fn, context=context)
    for batch in batches(row, 3):
        values(toy, *batch)
    found, _ = ask(toy, [request(body, n) for n, body in enumerate([[[1.0, 2.0]], [[3.0, 4.0]], [[200.0, 1.0]]])])
    assert [answer.status for answer in found] == [200, 200, 201]


def test_what_the_script_hangs_on_a_tensor_is_not_lost() -> None:
    def make() -> Computation:
        def input_fn(body: str, _: Any) -> Any:
            order = json.loads(body)
            data: Any = torch.tensor(order["x"])
            if "k" in order:
                data.k = order["k"]
            return data

        return computation(input_fn=input_fn, predict_fn=lambda data, _: data * getattr(data, "k", 1.0))

    different = batches(with_option(lambda s: {"k": s.random()}), 2)
    after_proofs(make(), batches(with_option(lambda _: {}), 4), *different, make_toy=make)


@pytest.mark.parametrize("declared", [{}, {"collate_fn": torch.cat, "split_fn": lambda p, n: list(p.chunk(n))}])
def test_a_part_of_a_joined_prediction_has_memory_of_its_own(declared: Any) -> None:
    """Else torch.save would send one client what the others have been answered."""
    held: list[int] = []

    def output_fn(prediction: torch.Tensor, _: Any) -> Any:
        held.append(prediction.untyped_storage().nbytes())
        return prediction.tolist()

    toy = computation(input_fn=floats, predict_fn=lambda data, _: data * 2, output_fn=output_fn, **declared)
    for batch in batches(row, 5):
        values(toy, *batch)
    assert set(held) == {16}


def test_an_input_that_is_changed_in_place_is_joined_all_the_same() -> None:
    """The comparison begins anew from the bodies, so it does not see what a call has left of an input."""

    def predict_fn(data: list[Any], _: Any) -> list[Any]:
        for record in data:
            record["sum"] = record.pop("a") + record.pop("b")
        return data

    def record(source: random.Random) -> list[Any]:
        return [{"a": source.random(), "b": 1}]

    toy = hold(lambda: computation(input_fn=texts, predict_fn=predict_fn), batches(record, 4))
    assert joined_of(toy, *batches(record, 1)[0]) == 1


def test_a_prediction_that_output_fn_changes_in_place_is_compared_as_it_was() -> None:
    def output_fn(prediction: torch.Tensor, _: Any) -> Any:
        return prediction.mul_(10).round().tolist()

    toy = hold(
        lambda: computation(input_fn=floats, predict_fn=lambda d, _: d * 3, output_fn=output_fn), batches(row, 4)
    )
    assert joined_of(toy, *batches(row, 1)[0]) == 1


def test_a_difference_that_only_a_rounded_digit_shows_is_none() -> None:
    """The same number but for its last bits may round to either side; that says nothing of the batch."""

    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        return data.round(decimals=2) + 0.005 + (1e-9 if len(data) > 1 else -1e-9)

    def output_fn(prediction: torch.Tensor, _: Any) -> Any:
        return [[round(number, 2) for number in one] for one in prediction.tolist()]

    toy = computation(input_fn=floats, predict_fn=predict_fn, output_fn=output_fn)
    for batch in batches(row, 3):
        values(toy, *batch)
    assert joined_of(toy, *batches(row, 4)[-1]) == 1


def test_an_output_fn_that_never_answers_alike_is_not_joined() -> None:
    stamps = iter(range(10_000))
    toy = computation(
        input_fn=floats, predict_fn=lambda data, _: data, output_fn=lambda p, _: [next(stamps), p.tolist()]
    )
    for batch in batches(row, 4):
        values(toy, *batch)
    assert joined_of(toy, *batches(row, 1)[0]) == 0


def test_a_predict_fn_that_asks_the_context_about_its_request_is_not_joined() -> None:
    """Scripts of the AWS container ask about index 0, which would be the first request of the batch."""
    context = Context(model_name="model", manifest={}, system_properties={})

    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        return data * int(context.get_request_header(0, "x-scale") or 1)

    toy = computation(input_fn=floats, predict_fn=predict_fn, context=context)
    for batch in batches(row, 4):
        items = [request(body, number, headers=b"x-scale: 2\r\n") for number, body in enumerate(batch)]
        assert ask(toy, items)[1].joined == 0
    batch = batches(row, 1)[0]
    found, _ = ask(toy, [request(body, n, headers=b"x-scale: %d\r\n" % (n + 1)) for n, body in enumerate(batch)])
    assert [json.loads(o.body) for o in found if isinstance(o, Answer)] == [
        [[number * (n + 1) for number in one] for one in body] for n, body in enumerate(batch)
    ]


def test_a_predict_fn_that_asks_the_context_about_its_model_only_is_joined() -> None:
    context = Context(model_name="model", manifest={}, system_properties={"gpu_id": None})
    toy = computation(
        input_fn=floats,
        predict_fn=lambda data, _: data * len(context.model_name),
        output_fn=lambda p, _: [context.get_request_header(0, "x"), p.tolist()],
        context=context,
    )
    for batch in batches(row, 3):
        values(toy, *batch)
    assert joined_of(toy, *batches(row, 4)[-1]) == 1


def test_headers_and_status_of_the_clients_answers_are_those_of_their_own_calls() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})

    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        context.set_response_header(0, "x-first", f"{float(data[0, 0]):.6f}")
        return data

    toy = computation(input_fn=floats, predict_fn=predict_fn, context=context)
    for batch in batches(row, 5):
        found, done = ask(toy, [request(body, number) for number, body in enumerate(batch)])
        assert [o.headers for o in found if isinstance(o, Answer)] == [
            f"x-first: {body[0][0]:.6f}\r\n".encode() for body in batch
        ]
        assert done.joined == 0


# --- false proofs


def test_one_request_that_everybody_repeats_proves_nothing_and_costs_nothing() -> None:
    predict = Sized(mean_over_time)
    toy = computation(input_fn=floats, predict_fn=predict)
    body = batches(series, 1)[0][0]
    for _ in range(10):
        values(toy, *[body] * FOUR)
    assert predict.sizes == [5] * FOUR * 10


def test_clients_that_repeat_their_requests_share_a_call_after_three_proofs() -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: data * 2)
    batch = batches(row, 1)[0]
    assert [joined_of(toy, *batch) for _ in range(5)] == [0, 0, 0, 1, 1]


def test_the_same_labels_of_the_same_batch_again_and_again_prove_nothing() -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: ["high" if r[0] > 0 else "low" for r in data])
    batch = [[[float(number)]] for number in (-1, 1, 2, -2)]
    assert [joined_of(toy, *batch) for _ in range(20)] == [0] * 20
    assert joined_of(toy, *reversed(batch)) == 0


def test_inputs_of_zeros_prove_nothing_whatever_their_length() -> None:
    """The mean of zeros is zero, together and alone."""
    toy = computation(input_fn=floats, predict_fn=lambda data, _: mean_over_time(data))
    for start in range(10):
        values(toy, *[[[0.0, 0.0]] * (start + length) for length in range(1, 5)])
    bodies = batches(series, 1)[0]
    assert values(toy, *bodies) == [mean_over_time(torch.tensor(body, dtype=torch.float64)) for body in bodies]


def test_answers_that_are_all_alike_prove_nothing() -> None:
    """The label of glued images may happen to be that of each of them."""
    predict = Sized(lambda data: ["cat" if float(data.mean()) > 0 else "dog"] * len(data))
    toy = computation(input_fn=floats, predict_fn=predict)
    bright = [[[[0.5 + source.random()] * 3] * 4] * 4 for source in [random.Random(n) for n in range(80)]]  # noqa: S311
    for start in range(0, 80, FOUR):
        assert values(toy, *bright[start : start + FOUR]) == [["cat"] * 4] * FOUR
    bodies = [bright[0], [[[-9.0] * 3] * 4] * 4]
    assert values(toy, *bodies) == [["cat"] * 4, ["dog"] * 4]


def test_differences_smaller_than_the_tolerance_prove_nothing() -> None:
    """Numbers of a millionth are within the tolerance of each other, right or wrong."""

    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        return data.mean(0, keepdim=True).expand(len(data), -1) * 1e-7

    hold(lambda: computation(input_fn=floats, predict_fn=predict_fn), batches(series, 12))


def test_what_proves_nothing_is_tried_ever_more_seldom() -> None:
    predict = Sized(lambda data: [1] * len(data))
    toy = computation(input_fn=floats, predict_fn=predict)
    for batch in batches(row, 100):
        values(toy, *batch)
    assert predict.sizes.count(FOUR) == 7, "at the batches 1, 3, 6, 11, 20, 37 and 70"


def test_a_request_that_fails_is_left_out_of_the_proof() -> None:
    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        if (data > 100).any():
            raise ValueError
        return data

    toy = computation(input_fn=floats, predict_fn=predict_fn)
    for batch in batches(row, 3):
        assert values(toy, *batch[:2], [[1000.0, 0.0]], "{", *batch[2:])[2:4] == [500, 500]
    assert joined_of(toy, *batches(row, 4)[-1]) == 1


# --- afterwards


def test_the_proof_is_repeated_and_a_difference_that_shows_late_closes_what_was_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(joining, "REPEAT_AFTER", 5)
    turned = False

    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        return data - data.mean(0) if turned else data

    toy = computation(input_fn=floats, predict_fn=predict_fn)
    every = batches(row, 40)
    found = [joined_of(toy, *batch) for batch in every[:15]]
    assert found == [0] * 3 + [1] * 5 + [0] + [1] * 5 + [0]
    turned = True
    with caplog.at_level(logging.WARNING):
        found = [joined_of(toy, *batch) for batch in every[15:30]]
    assert found == [1] * 5 + [0] * 10
    (told,) = caplog.messages
    assert "collate_fn" in told


def test_a_shared_call_that_fails_where_each_request_does_not_is_proved_anew() -> None:
    broken = False

    def predict_fn(data: torch.Tensor, _: Any) -> torch.Tensor:
        if broken and len(data) > 1:
            raise RuntimeError
        return data * 2

    toy = computation(input_fn=floats, predict_fn=predict_fn)
    for batch in batches(row, 3):
        values(toy, *batch)
    broken = True
    assert values(toy, *batches(row, 4)[-1]) == [[[2 * n for n in one] for one in body] for body in batches(row, 4)[-1]]
    _, done = ask(toy, [request(body, n) for n, body in enumerate(batches(row, 5)[-1])])
    assert (done.joined, done.refused) == (0, 1)


def test_the_way_out_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: mean_over_time(data))
    with caplog.at_level(logging.INFO):
        for make in (row, images, series):
            for batch in batches(make, 3):
                values(toy, *batch)
    (told,) = caplog.messages
    assert "collate_fn" in told
    assert "save_model(batching=True)" in told


def test_no_more_requests_share_a_call_than_are_done_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test: each request takes 7 s, alone or not, and half of the limit are 25 s."""
    now_s = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])

    def double_slowly(data: torch.Tensor) -> torch.Tensor:
        now_s[0] += 7.0 * len(data)
        return data * 2

    predict = Sized(double_slowly)
    toy = computation(input_fn=floats, predict_fn=predict)
    toy.joined_calls.timeout_s = 50.0
    *first, last = batches(row, 4, size=8)
    for batch in first:
        values(toy, *batch)
    predict.sizes.clear()
    assert joined_of(toy, *last) == 3
    assert predict.sizes == [3, 3, 2]


# --- what is declared


def test_without_retries_nothing_is_tried_and_what_is_declared_is_joined() -> None:
    predict = Sized(lambda data: data * 2)
    toy = computation(input_fn=floats, predict_fn=predict, prove=False)
    assert not toy.may_join
    for batch in batches(row, 4):
        values(toy, *batch)
    assert predict.sizes == [1] * FOUR * 4
    for declared in ({"joins": True}, {"collate_fn": torch.cat}, {"split_fn": torch.chunk}):
        toy = computation(input_fn=floats, predict_fn=predict, prove=False, **declared)
        assert joined_of(toy, *batches(row, 1)[0]) == 1


def test_what_is_declared_not_to_be_joined_is_not() -> None:
    predict = Sized(lambda data: data * 2)
    toy = computation(input_fn=floats, predict_fn=predict, joins=False)
    assert not toy.may_join
    for batch in batches(row, 4):
        values(toy, *batch)
    assert predict.sizes == [1] * FOUR * 4


# --- what is told meanwhile


def test_every_answer_is_told_as_soon_as_it_is_there_and_before_anything_is_compared() -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: data)
    batch = batches(row, 1)[0]
    events = list(toy.events(toy.begin([request(body, number) for number, body in enumerate(batch)])))
    answers, comparing, (done,) = events[:FOUR], events[FOUR:-1], events[-1]
    assert [[type(event) for event in told] for told in answers] == [[Answer]] * FOUR
    assert comparing == [[Progress(proving=True)]] * max(len(comparing), 1), "more of them where it takes longer"
    assert isinstance(done, Done)


def test_a_lone_request_is_told_with_the_end_of_its_batch() -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: data)
    (told,) = toy.events(toy.begin([request([[1.0]])]))
    assert [type(event) for event in told] == [Answer, Done]


def test_what_shares_a_call_is_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "PROGRESS_S", math.inf)
    toy = computation(input_fn=floats, predict_fn=lambda data, _: data, joins=True)
    (told,) = toy.events(toy.begin([request([[1.0]], 1), request([[2.0]], 2)]))
    assert [type(event) for event in told] == [Answer, Answer, Done]


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=1, max_size=3), max_size=4),
        max_size=12,
    ),
    st.sampled_from([mean_over_time, cumulated, normalised, smoothed, lambda data: (data * 2).tolist()]),
)
def test_no_batch_of_whatever_contents_is_answered_in_another_way(bodies: list[list[Any]], predict: Any) -> None:
    """Small whole numbers make equal inputs and equal answers likely; each batch is followed by distinct ones."""
    distinct = batches(series, 2)
    hold(lambda: computation(input_fn=floats, predict_fn=lambda data, _: predict(data)), [*bodies, *distinct, *bodies])
