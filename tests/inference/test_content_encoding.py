"""Predictions become bodies of the wanted type, with their numbers and dtype."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.errors import HandlerFailed, NotAcceptable
from tidegate.inference.worker.content import CSV, JSON, JSON_LINES, NPY, NPZ, Reading, decode
from tidegate.inference.worker.encoding import encode, to_array, to_plain

MATRIX = [[1.0, 2.5], [3.0, -4.0]]


def load(body: bytes) -> Any:
    return np.load(io.BytesIO(body), allow_pickle=False)


@pytest.mark.parametrize(
    "prediction", [torch.tensor(MATRIX), np.array(MATRIX), MATRIX, torch.nn.Parameter(torch.tensor(MATRIX))]
)
def test_tensors_arrays_and_lists_encode_alike(prediction: Any) -> None:
    assert json.loads(encode(prediction, JSON)) == MATRIX
    assert encode(prediction, JSON_LINES) == b"[1.0, 2.5]\n[3.0, -4.0]\n"
    assert encode(prediction, CSV) == b"1.0,2.5\n3.0,-4.0\n"


def test_json_holds_tensors_inside_dicts_lists_and_tuples() -> None:
    prediction = {"label": "seven", "p": torch.tensor([0.5]), "box": (np.int64(1), [np.float32(0.5), None, True])}
    assert json.loads(encode(prediction, JSON)) == {"label": "seven", "p": [0.5], "box": [1, [0.5, None, True]]}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.float64])
def test_every_dtype_of_numbers_becomes_json(dtype: torch.dtype) -> None:
    assert json.loads(encode(torch.ones(2, dtype=dtype), JSON)) == [1, 1]


def test_json_lines_has_one_line_for_each_record() -> None:
    assert encode([{"a": 1}, {"a": 2}], JSON_LINES) == b'{"a": 1}\n{"a": 2}\n'
    assert encode({"a": 1}, JSON_LINES) == b'{"a": 1}\n'
    assert encode(torch.tensor(3), JSON_LINES) == b"3\n"


@pytest.mark.parametrize(
    ("prediction", "body"),
    [
        (torch.tensor([1.5, 2.0]), b"1.5\n2.0\n"),
        (torch.tensor(3), b"3\n"),
        (["plain", 'with "quotes", and comma'], b'plain\n"with ""quotes"", and comma"\n'),
        ([["a", 1], ["b", 2]], b"a,1\nb,2\n"),
    ],
)
def test_csv_has_one_line_for_each_record(prediction: Any, body: bytes) -> None:
    assert encode(prediction, CSV) == body


@pytest.mark.parametrize("prediction", [torch.zeros(2, 2, 2), {"a": 1}, [{"a": 1}], [[[1]]]])
def test_what_csv_cannot_hold_is_406(prediction: Any) -> None:
    with pytest.raises(NotAcceptable, match="holds objects, or has more than two dimensions, which CSV cannot hold"):
        encode(prediction, CSV)


@pytest.mark.parametrize(
    ("prediction", "dtype"),
    [
        (torch.tensor(MATRIX), np.float32),
        (torch.tensor(MATRIX, dtype=torch.float16), np.float16),
        (torch.tensor(MATRIX, dtype=torch.bfloat16), np.float32),
        (torch.tensor(MATRIX, dtype=torch.float64), np.float64),
        (torch.tensor(MATRIX, requires_grad=True), np.float32),
        (torch.tensor(MATRIX).T.T, np.float32),
        (np.array(MATRIX, np.float32), np.float32),
    ],
)
def test_npy_keeps_the_dtype(prediction: Any, dtype: Any) -> None:
    """The AWS container answered float64 whatever the model computed, and failed on bfloat16."""
    found = load(encode(prediction, NPY))
    assert found.dtype == dtype
    assert found.tolist() == MATRIX


def test_npy_resolves_lazy_conjugates_and_negatives() -> None:
    value = torch.tensor([1 + 2j]).conj()
    assert load(encode(value, NPY)).tolist() == [1 - 2j]
    assert load(encode(value.imag, NPY)).tolist() == [-2]


@pytest.mark.parametrize("prediction", [{"a": 1}, [None], object(), [[1], [1, 2]]])
def test_what_npy_cannot_hold_is_406(prediction: Any) -> None:
    with pytest.raises(NotAcceptable, match="is not an array of numbers, which npy could hold; accept JSON"):
        encode(prediction, NPY)


@pytest.mark.parametrize("media_type", ["text/html", "image/png", ""])
def test_a_type_that_is_not_written_is_406_with_those_that_are(media_type: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        encode([1], media_type)
    assert caught.value.message == (
        f"Accept '{media_type}' cannot be answered; this model writes "
        "application/json, application/jsonlines, text/csv, application/x-npy, application/x-npz."
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "holds a value of the type set, which cannot be sent; make a list of it"),
        ((row for row in MATRIX), "holds a value of the type generator, which cannot be sent; make a list of it"),
        ({"a": 1}.keys(), "holds a value of the type dict_keys, which cannot be sent; make a list of it"),
        ({"a": b"text"}, "holds a value of the type bytes, which cannot be sent; make a str of it"),
    ],
)
@pytest.mark.parametrize("media_type", [JSON, JSON_LINES, CSV, NPY])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [1, [value]]], ids=["alone", "inside"])
def test_what_no_answer_can_hold_is_named_by_its_type_with_the_way_out(
    value: Any, said: str, media_type: str, wrap: Any
) -> None:
    """CSV would otherwise hold `<generator object …>` and its like."""
    with pytest.raises(HandlerFailed) as caught:
        encode(wrap(value), media_type)
    assert caught.value.message == f"The prediction {said} in predict_fn, or define an output_fn."


@pytest.mark.parametrize(
    ("value", "kind"), [(Decimal("0.1"), "Decimal"), (1j, "complex"), (torch.ones(1, dtype=torch.cfloat), "complex")]
)
def test_what_json_has_no_form_for_is_named_by_its_type_with_the_way_out(value: Any, kind: str) -> None:
    with pytest.raises(HandlerFailed) as caught:
        encode({"a": value}, JSON)
    assert caught.value.message == (
        f"The prediction holds a value of the type {kind}, which cannot be sent; "
        "make a number, str, list or dict of it in predict_fn, or define an output_fn."
    )


def test_a_key_that_json_has_no_form_for_is_told() -> None:
    with pytest.raises(HandlerFailed, match=r"cannot be written as JSON: keys must be str, .*, not tuple\.$"):
        encode({(1, 2): 1}, JSON)


def test_numbers_in_json_and_csv_are_as_the_page_says() -> None:
    """docs/handlers.md: each float as the shortest text of its exact value in double precision."""
    floats = [torch.tensor([0.1], dtype=kind) for kind in (torch.float64, torch.float32, torch.bfloat16)]
    assert encode(floats, JSON) == b"[[0.1], [0.10000000149011612], [0.10009765625]]"
    assert encode([np.float32(0.1), np.int64(3), np.bool_(True)], JSON) == b"[0.10000000149011612, 3, true]"
    assert encode(torch.tensor([torch.nan, torch.inf]), JSON) == b"[NaN, Infinity]"
    assert encode([Decimal("0.10"), None, True], CSV) == b'0.10\n""\nTrue\n'


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(width=32, allow_nan=False), min_size=width, max_size=width), min_size=2, max_size=4
        )
    ),
    st.sampled_from([JSON, JSON_LINES, CSV, NPY]),
)
def test_float32_survives_every_encoding(rows: list[list[float]], media_type: str) -> None:
    tensor = torch.tensor(rows, dtype=torch.float32)
    body = encode(tensor, media_type)
    found = decode(body, media_type, Reading(max_decoded_bytes=2**20)).data
    assert isinstance(found, torch.Tensor)
    # One column of CSV is one dimension, as in the AWS container.
    wanted = tensor.flatten() if media_type == CSV and tensor.shape[1] == 1 else tensor
    assert torch.equal(found, wanted)


def test_plain_and_array_forms_do_not_change_what_is_plain_already() -> None:
    assert to_plain("text") == "text"
    assert to_plain(None) is None
    assert to_array([1, 2]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("named", "media_type"),
    [
        *(({1: [1], "1": [2]}, kind) for kind in (JSON, JSON_LINES, NPZ)),
        *(({"a": {True: 1, "true": 2}}, kind) for kind in (JSON, JSON_LINES)),
        *(({None: [1], "null": [2]}, JSON), ({None: [1], "None": [2]}, NPZ), ({1.5: [1], "1.5": [2]}, NPZ)),
    ],
)
def test_keys_that_are_written_alike_are_an_error_and_no_loss(named: Any, media_type: str) -> None:
    with pytest.raises(HandlerFailed, match=r"^The prediction has the keys .* and .*, which \w+ cannot tell apart\.$"):
        encode(named, media_type)


def test_keys_that_are_numbers_are_written_as_texts() -> None:
    assert encode({1: 2, "a": 3, None: 4}, JSON) == b'{"1": 2, "a": 3, "null": 4}'
    assert np.load(io.BytesIO(encode({1: [2], "true": [3], False: [4]}, NPZ))).files == ["1", "true", "False"]


@pytest.mark.parametrize("key", ["a\0b", "\0", "\ud800", "x" * 70_000])
def test_a_key_that_npz_cannot_hold_is_406(key: str) -> None:
    """zipfile would cut it off, or raise in words about zips."""
    with pytest.raises(
        NotAcceptable, match=r"^The prediction has the key .{3,90}, which npz cannot hold; accept JSON\.$"
    ):
        encode({key: [1]}, NPZ)
    assert json.loads(encode({key: [1]}, JSON)) == {key: [1]}


def test_masked_numbers_are_null_in_json_and_406_where_they_would_be_numbers() -> None:
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    assert json.loads(encode({"a": masked}, JSON)) == {"a": [1.0, None]}
    for value, media_type in (({"a": masked}, NPZ), (masked, NPZ), (masked, NPY), ([masked, masked], NPY)):
        with pytest.raises(
            NotAcceptable, match=r"^The prediction has masked numbers, which np\w cannot hold; accept JSON"
        ):
            encode(value, media_type)
    nothing_masked = np.ma.masked_array([1.0, 2.0])
    assert np.load(io.BytesIO(encode(nothing_masked, NPY))).tolist() == [1.0, 2.0]
