"""Inputs are joined only where that changes nothing: each gets back the part that it would have got alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.worker.collate import NotSplittable, join, signature, split

SHAPES = st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 2))
RECORDS = st.lists(st.text(max_size=3) | st.lists(st.integers(), max_size=2), min_size=1, max_size=4)


def tensor(rows: int, *rest: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, *rest).to(dtype)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


@st.composite
def inputs(draw: st.DrawFn) -> list[Any]:
    """Several inputs of one kind, each with its own number of records."""
    kind = draw(st.sampled_from(["tensor", "array", "list", "dict", "tuple", "nested"]))
    width = draw(st.integers(0, 3))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    found: list[Any] = []
    for rows in sizes:
        images = tensor(rows, width)
        made = {
            "tensor": images,
            "array": images.numpy(),
            "list": draw(RECORDS),
            "dict": {"x": images, "ids": torch.arange(rows * 2).reshape(rows, 2)},
            "tuple": (images, [str(row) for row in range(rows)]),
            "nested": {"x": (images, {"y": images.numpy()})},
        }
        found.append(made[kind])
    return found


@given(inputs())
def test_what_is_joined_and_split_is_what_it_was(given_inputs: list[Any]) -> None:
    signatures = [signature(each) for each in given_inputs]
    assert all(found is not None for found in signatures)
    assert len({found[0] for found in signatures if found}) == 1
    parts = split(join(given_inputs), [found[1] for found in signatures if found])
    assert equal(parts, given_inputs)


DIFFERENT = [
    tensor(2, 3),
    tensor(2, 4),
    tensor(2, 3, 1),
    tensor(2, 3, dtype=torch.float64),
    tensor(2, 3, dtype=torch.int64),
    torch.zeros(2, 3, device="meta"),
    np.zeros((2, 3), np.float32),
    np.zeros((2, 3), np.float64),
    np.zeros((2, 3), ">f4"),
    np.zeros((2, 4), np.float32),
    ["a", "b"],
    (tensor(2, 3),),
    (tensor(2, 3), tensor(2, 3)),
    {"x": tensor(2, 3)},
    {"y": tensor(2, 3)},
    {"x": tensor(2, 4)},
    {"x": ["a", "b"]},
]


def test_inputs_that_differ_in_kind_dtype_shape_device_or_keys_are_not_joined() -> None:
    keys = [found[0] for each in DIFFERENT if (found := signature(each))]
    assert len(keys) == len(DIFFERENT)
    assert len(set(keys)) == len(keys)


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_number_of_records_does_not_matter(one: int, other: int) -> None:
    first, second = signature(tensor(one, 3)), signature(tensor(other, 3))
    assert first
    assert second
    assert first[0] == second[0]
    assert (first[1], second[1]) == (one, other)


@pytest.mark.parametrize(
    "data",
    [
        torch.zeros(3),
        torch.tensor(1.0),
        torch.zeros(0, 3),
        torch.zeros(2, 2).to_sparse(),
        np.zeros(3),
        np.zeros((0, 3)),
        np.float32(1),
        [],
        [1, 2, 3],
        ["a", 1],
        [1.5, 2.5],
        [True],
        (),
        {},
        (torch.zeros(2, 3), torch.zeros(3, 3)),
        {"x": torch.zeros(2, 3), "scale": 2.0},
        {"x": torch.zeros(2, 3), "flat": torch.zeros(2)},
        "text",
        b"bytes",
        None,
        3,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_be_one_record_is_predicted_alone(data: Any) -> None:
    """Two flat rows of numbers joined would be one longer row that nobody sent."""
    assert signature(data) is None


def test_subclasses_of_containers_are_left_alone() -> None:
    """A user's own type may mean something that a plain dict or list would lose."""

    class Encoding(dict[str, Any]):
        pass

    assert signature(Encoding(x=torch.zeros(2, 3))) is None


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        (torch.zeros(2, 3), r"it has the shape (2, 3) for 3 records"),
        (torch.tensor(1.0), r"it has the shape () for 3 records"),
        (np.zeros((4,)), r"it has the shape (4,) for 3 records"),
        ([1, 2], r"it is a list of 2 for 3 records"),
        ((torch.zeros(3), torch.zeros(2)), r"it has the shape (2,) for 3 records"),
        ({"a": torch.zeros(3), "b": 0.5}, r"it is a float for 3 records"),
        ((), r"it is a tuple for 3 records"),
        ("abc", r"it is a str for 3 records"),
        (None, r"it is a NoneType for 3 records"),
    ],
)
def test_a_prediction_without_a_part_for_each_record_is_not_split(prediction: Any, reason: str) -> None:
    with pytest.raises(NotSplittable) as caught:
        split(prediction, [1, 2])
    assert str(caught.value) == reason


def test_members_of_a_prediction_are_split_each() -> None:
    found = split({"p": torch.arange(3), "names": ["a", "b", "c"], "pair": (np.arange(3), ["x", "y", "z"])}, [1, 2])
    assert equal(found[0], {"p": torch.tensor([0]), "names": ["a"], "pair": (np.array([0]), ["x"])})
    assert equal(found[1], {"p": torch.tensor([1, 2]), "names": ["b", "c"], "pair": (np.array([1, 2]), ["y", "z"])})
