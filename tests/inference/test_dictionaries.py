"""Bodies as dictionaries of arrays: which lists are arrays, and what is refused."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.inference.errors import BadRequest, UnsupportedMediaType
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.dictionaries import array_of, read

PLAIN = Reading(max_decoded_bytes=1 << 24)
NPZ, JSON_LINES = "application/x-npz", "application/jsonlines"


def npz(**named: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **named)
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "array"),
    [
        ([1, 2, 3], np.array([1, 2, 3], dtype=np.int64)),
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], dtype=np.int64)),
        ([1, 2.5], np.array([1.0, 2.5])),
        ([True, False], np.array([True, False])),
        ([], np.zeros(0)),
        ([[], []], np.zeros((2, 0))),
        ([[[1]], [[2]]], np.array([[[1]], [[2]]], dtype=np.int64)),
        ([2**63, 1], np.array([2**63, 1], dtype=np.uint64)),
        ([float("inf"), 1], np.array([np.inf, 1.0])),
    ],
)
def test_a_list_of_numbers_is_an_array(value, array):
    """Rows of the same length, at any depth; whole numbers stay such."""
    found = array_of(value)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    "value",
    [
        *(1, 2.5, True, None, "text", {"a": [1, 2]}, ["a", "b"], [1, "a"], [1, None], [[1], [1, 2]], [[1], 2]),
        *([True, 1], [2**63, -1], [2**70], [10**400, 1.5], [{"a": 1}], [[["a"]]]),
    ],
)
def test_anything_else_is_what_json_has(value):
    """Texts, objects, rows of different lengths, and numbers that numpy has not."""
    assert array_of(value) is value


def test_a_list_that_is_deeper_than_numpy_goes_stays_a_list():
    """numpy has 64 dimensions."""
    value: Any = 1
    for _ in range(100):
        value = [value]
    assert array_of(value) is value


def test_a_long_text_beside_many_numbers_takes_no_memory():
    """numpy would make each number a text of the same length."""
    value = ["x" * 100_000, *range(100_000)]
    assert array_of(value) is value


LEAVES = st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.none() | st.text(max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.recursive(st.lists(LEAVES, max_size=4), lambda inner: st.lists(inner, max_size=4), max_leaves=20))
def test_an_array_says_what_the_list_said(value):
    """Whatever the list: it is left as it is, or the array has the same values."""
    found = array_of(value)
    assert found is value or json.dumps(found.tolist()) == json.dumps(
        np.array(value, dtype=np.float64).tolist() if found.dtype == np.float64 else value
    )


def test_json_npz_and_json_lines_are_dictionaries():
    """Each of them, in the types that the values have."""
    assert read('{"a": [1.5], "b": "x"}', "application/json", reading=PLAIN)["a"].tolist() == [1.5]
    found = read(bytearray(npz(a=np.ones(2, np.float32))), NPZ, reading=PLAIN)
    assert found["a"].dtype == np.float32
    lines = read(bytearray(b'{"a": 1}\n\n{"a": 2}\n'), JSON_LINES, reading=PLAIN)
    assert lines == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("body", "content_type", "error", "said"),
    [
        ("[1, 2]", "application/json", BadRequest, "The body must be a JSON object"),
        ("3", "application/json", BadRequest, "it is a number or boolean"),
        ('"a"', "application/json", BadRequest, "it is a string"),
        ("null", "application/json", BadRequest, "it is null"),
        ("{", "application/json", BadRequest, "not valid JSON"),
        ('{"a": 1}\n{"a": 2}', "application/json", BadRequest, JSON_LINES),
        (bytearray(b'{"a": 1}\n[1]'), JSON_LINES, BadRequest, "Line 2 must be a JSON object"),
        (bytearray(b"\n"), JSON_LINES, BadRequest, "is empty"),
        (bytearray(b"PK"), NPZ, BadRequest, "The npz body"),
        (
            "1,2",
            "text/csv",
            UnsupportedMediaType,
            "Content-Type 'text/csv' cannot be read; this model takes a dictionary",
        ),
        (bytearray(b"1"), None, UnsupportedMediaType, "The Content-Type header is missing"),
    ],
)
def test_what_is_no_dictionary_is_refused_in_one_sentence(body, content_type, error, said):
    """By whoever sent it, and with what would be right."""
    with pytest.raises(error) as refusal:
        read(body, content_type, reading=PLAIN)
    assert said in refusal.value.message
