"""Inputs are joined only where that changes nothing: each gets back the part that it would have got alone."""

from __future__ import annotations

from collections import UserDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.worker.collate import NotSplittable, join, signature, split

SHAPES = st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 2))


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
    record = draw(st.sampled_from([st.text(max_size=3), st.lists(st.integers(), min_size=1, max_size=2)]))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    found: list[Any] = []
    for rows in sizes:
        images = tensor(rows, width)
        made = {
            "tensor": images,
            "array": images.numpy(),
            "list": draw(st.lists(record, min_size=1, max_size=4)),
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
    [["a"], ["b"]],
    [{"a": 1}, {"a": 2}],
    [tensor(3), tensor(3)],
    (tensor(2, 3),),
    (tensor(2, 3), tensor(2, 3)),
    {"x": tensor(2, 3)},
    {"y": tensor(2, 3)},
    {"x": tensor(2, 4)},
    {"x": ["a", "b"]},
    UserDict({"x": tensor(2, 3)}),
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
        [np.float32(1), np.float32(2)],
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


class Encoding(UserDict[str, Any]):
    """A mapping with a method of its own, as a tokenizer's output has."""

    def to(self, _: str) -> Encoding:
        return self


class Keyed(dict[str, Any]):
    """A mapping that is not made from a dict alone."""

    def __init__(self, *, key: str, **members: Any) -> None:
        super().__init__(members)
        self.key = key


class Scores(NamedTuple):
    scores: torch.Tensor


def test_a_mapping_of_another_type_is_joined_and_split_as_one_of_its_own_type() -> None:
    inputs = [Encoding({"ids": torch.full((rows, 2), rows)}) for rows in (1, 2)]
    assert [found[1] for each in inputs if (found := signature(each))] == [1, 2]
    joined = join(inputs)
    assert joined.to("cpu")["ids"].tolist() == [[1, 1], [2, 2], [2, 2]]
    parts = split(joined, [1, 2])
    assert [type(part) for part in parts] == [Encoding, Encoding]
    assert parts[1]["ids"].tolist() == [[2, 2], [2, 2]]


def test_a_mapping_that_cannot_be_made_from_its_members_becomes_the_dict_that_it_is() -> None:
    joined = join([Keyed(key="a", x=torch.zeros(1, 2)), Keyed(key="b", x=torch.ones(1, 2))])
    assert type(joined) is dict
    assert joined["x"].tolist() == [[0, 0], [1, 1]]


def test_a_named_tuple_of_predictions_stays_one() -> None:
    parts = split(Scores(torch.arange(3)), [1, 2])
    assert [part.scores.tolist() for part in parts] == [[0], [1, 2]]


@pytest.mark.parametrize(
    "data",
    [
        np.ma.masked_array(np.zeros((2, 3)), mask=np.ones((2, 3))),
        torch.nn.Parameter(torch.zeros(2, 3)),
        type("Rows", (list,), {})(["a"]),
        Scores(torch.zeros(2, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_of_sequences_are_left_alone(data: Any) -> None:
    """A user's own type may mean something that a plain tensor, array or list would lose."""
    assert signature(data) is None


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


def test_parts_own_their_memory_at_any_depth() -> None:
    batch = torch.arange(6.0).reshape(3, 2)
    (first, _, _) = split([(row, {"array": row.numpy()}) for row in batch], [1, 1, 1])
    ((tensor, members),) = first
    assert tensor.untyped_storage().nbytes() == 8
    assert members["array"].base is None
