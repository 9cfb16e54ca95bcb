"""An archive's example and disturbed copies of it prove that requests like it may share a call, or prove nothing."""

from __future__ import annotations

import io
import json
import logging
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.toy_models import computation, request
from tidegate.inference.images import data_uri, reading, writing
from tidegate.inference.images.palette import Palette
from tidegate.inference.worker import proving_ahead
from tidegate.inference.worker.artifact import Example
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.declared.sides import declared
from tidegate.inference.worker.proving_ahead import disturbed, prove_ahead

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def example(body: Any, content_type: str = JSON) -> Example:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Example(
        body=data, content_type=content_type, accept=JSON, expected=b"", expected_type=JSON, rtol=0.0, atol=0.0
    )


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def floats(body: str, _: Any) -> torch.Tensor:
    return torch.tensor(json.loads(body), dtype=torch.float64)


def mean_over_time(data: torch.Tensor, _: Any) -> Any:
    return (data - data.mean(0)).tolist()


def tried(toy: Computation, body: Any, content_type: str = JSON) -> tuple[bool, int]:
    """Whether it is proved ahead, and how often that began."""
    begun: list[bool] = []
    found = prove_ahead(toy, example(body, content_type), lambda: begun.append(True))
    return found, len(begun)


def joined(toy: Computation, *bodies: Any) -> int:
    return ask(toy, [request(body, number) for number, body in enumerate(bodies)])[1].joined


# --- what it says


def test_an_example_of_rows_opens_its_signature_before_any_request() -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: data * 2)
    assert tried(toy, [[1.5, 2.5]]) == (True, 1)
    assert joined(toy, [[1.0, 2.0]], [[3.0, 4.0]]) == 1


def test_a_rule_about_the_values_of_the_whole_batch_is_found_where_the_example_is_beyond_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    toy = computation(input_fn=floats, predict_fn=lambda data, _: data / 255 if data.max() > 1 else data)
    with caplog.at_level(logging.WARNING):
        assert tried(toy, [[151.5, 29.5]]) == (False, 1)
    (told,) = caplog.messages
    assert "the predictions differ" in told


def test_the_example_is_tried_with_as_many_requests_as_there_may_be() -> None:
    sizes: list[int] = []
    toy = computation(input_fn=floats, predict_fn=lambda data, _: (sizes.append(len(data)), data * 2)[1])
    assert prove_ahead(toy, example([[1.5, 2.5]]), lambda: None, max_batch_size=8)
    assert max(sizes) == 8
    assert joined(toy, *[[[float(number), 1.0]] for number in range(8)]) == 1


def test_an_example_that_is_one_series_closes_its_signature_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    toy = computation(input_fn=floats, predict_fn=mean_over_time)
    with caplog.at_level(logging.WARNING):
        assert tried(toy, [[1.5, 2.5], [0.5, 9.5]]) == (False, 1)
    (told,) = caplog.messages
    assert "collate_fn" in told
    assert joined(toy, [[1.0, 2.0]], [[3.0, 4.0]]) == 0


def test_functions_that_share_a_global_are_found_out() -> None:
    left: list[Any] = []

    def input_fn(body: str, _: Any) -> torch.Tensor:
        left[:] = json.loads(body)
        return floats(body, _)

    toy = computation(input_fn=input_fn, predict_fn=lambda d, _: d, output_fn=lambda p, _: [left, p.tolist()])
    assert tried(toy, [[1.5, 2.5]]) == (False, 1)


@pytest.mark.parametrize(
    "predict",
    [lambda data, _: [1] * len(data), lambda data, _: data * 1e-9, lambda data, _: data.mean(0).expand(2, 2) * 0],
    ids=["constant", "too small to tell", "of another shape"],
)
def test_an_example_that_tells_nothing_opens_nothing(predict: Any) -> None:
    toy = computation(input_fn=floats, predict_fn=predict)
    assert not tried(toy, [[1.5, 2.5]])[0]
    assert joined(toy, [[1.0, 2.0]], [[3.0, 4.0]]) == 0


def test_what_proved_only_a_part_counts_for_nothing() -> None:
    """Only the last copies are small enough for another answer."""
    toy = computation(input_fn=floats, predict_fn=lambda data, _: (data > 1.1).double())
    assert tried(toy, [[1.5, 2.5]]) == (False, 1)
    for _ in range(2):
        assert joined(toy, [[1.0, 2.0]], [[random.random(), 4.0]]) == 0  # noqa: S311 - one that was not there before


@pytest.mark.parametrize("body", [[["a", "b"]], [[0.0, 0.0]], [[3, 3]], "text"])
def test_an_example_that_cannot_be_disturbed_is_left_to_the_traffic(body: Any) -> None:
    calls: list[Any] = []
    toy = computation(input_fn=lambda b, _: json.loads(b), predict_fn=lambda data, _: calls.append(data) or data)
    assert not tried(toy, body)[0]


def test_a_copy_that_the_script_refuses_is_left_to_the_traffic_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    def input_fn(body: str, _: Any) -> Any:
        if json.loads(body) != [[1.5, 2.5]]:
            raise ValueError("not mine")
        return floats(body, _)

    with caplog.at_level(logging.INFO):
        assert tried(computation(input_fn=input_fn), [[1.5, 2.5]]) == (False, 0)
    assert caplog.messages == []


def test_a_model_that_takes_its_time_is_left_to_the_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving_ahead, "MAX_ANSWER_S", 0.0)
    toy = computation(input_fn=floats, predict_fn=lambda data, _: (time.sleep(0), data)[1])
    assert tried(toy, [[1.5, 2.5]]) == (False, 0)


PAINTED = {
    "input": {"as": "labels", "palette": {"colours": [[0, 0, 0], [200, 0, 0], [0, 200, 0]]}},
    "output": {"value_range": [-1, 1]},
}


@pytest.mark.parametrize("way", ["body", "data URI"])
def test_an_example_that_is_a_picture_opens_its_signature(way: str) -> None:
    """Disturbed it has the same size and no other colours, so that a palette still knows them."""
    labels = np.arange(5 * 7).reshape(5, 7) % 3
    png = writing.image(Palette(PAINTED["input"]["palette"]["colours"]).paint(labels))  # type: ignore[arg-type]
    toy = computation(
        model=lambda labels: torch.stack([labels.float() - 1] * 3, 1),
        declared=declared({"image": PAINTED}, Reading(max_decoded_bytes=0)),
    )
    if way == "body":
        assert tried(toy, png, "image/png") == (True, 1)
    else:
        assert tried(toy, {"image": data_uri.write(png, "image/png")}) == (True, 1)


def test_a_disturbed_picture_is_moved_and_one_that_cannot_be_read_stays() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    png = writing.image(pixels)
    moved = disturbed(png, "image/png", 1)
    assert reading.pixels(moved, max_decoded_bytes=99).tolist() == np.roll(pixels, 1, axis=1).tolist()
    assert disturbed(b"no picture", "image/png", 1) == b"no picture"
    for uri in ("data:image/png;base64,AAAA", "data:image/png;base64,AAA"):
        body = json.dumps({"image": uri}).encode()
        assert disturbed(body, JSON, 1) == body
    in_uri = json.loads(disturbed(json.dumps({"image": data_uri.write(png, "image/png")}).encode(), JSON, 1))["image"]
    assert data_uri.read(in_uri, max_bytes=999).data == moved


# --- disturbed bodies


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b'{"x": [1.0, -2.5], "n": 3, "s": "a"}', JSON, b'{"x": [0.89, -2.225], "n": 3, "s": "a"}'),
        (b'{"ids": [101, 7, 9], "mask": true}', JSON, b'{"ids": [7, 9, 101], "mask": true}'),
        (b"1.0,2.0,word\n", CSV, b"0.89,1.78,word\n"),
        (b'["only", "words"]', JSON, b'["only", "words"]'),
        (b"\xff\xd8\xff 1.0", "image/jpeg", b"\xff\xd8\xff 1.0"),
        (npy(np.array([[1.0, 2.0]], ">f4")), NPY, npy(np.array([[0.89, 1.78]], ">f4"))),
        (npy(np.array([[1, 2, 3]])), NPY, npy(np.array([[3, 1, 2]]))),
    ],
)
def test_decimals_become_smaller_and_whole_numbers_change_places(
    body: bytes, content_type: str, expected: bytes
) -> None:
    assert disturbed(body, content_type, 1) == expected


@given(
    st.recursive(
        st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-9, 9) | st.booleans() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
        max_leaves=12,
    ),
    st.integers(1, 4),
)
def test_a_disturbed_document_is_one_of_the_same_form(document: Any, turn: int) -> None:
    assert form(json.loads(disturbed(json.dumps(document).encode(), JSON, turn))) == form(document)


def form(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: form(member) for key, member in value.items()}
    return [form(member) for member in value] if isinstance(value, list) else type(value)
