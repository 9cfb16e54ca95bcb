"""Two predictions are the same within a tolerance for floating-point numbers, and to the letter in all else."""

from __future__ import annotations

import math
from collections import OrderedDict, UserDict
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.worker.comparing import FULL, HALF, Evidence, Likeness, copied, evidence, likeness, tolerance_of

SAME, CLOSE, DIFFERENT = Likeness.SAME, Likeness.CLOSE, Likeness.DIFFERENT


class Bare:
    """Compares by identity, as any object does."""

    def __repr__(self) -> str:  # the default one has an address, and each process of a run its own
        return "Bare()"


class Odd:
    """Its equality is no truth value, as that of a table."""

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])

    def __repr__(self) -> str:  # without an address: tests have their names of it, in every process the same
        return "Odd()"

    __hash__ = None  # type: ignore[assignment]


def half(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.bfloat16)


CASES = [
    (1.0, 1.0, SAME),
    (1.0, 1.00009, CLOSE),
    (1.0, 1.0003, DIFFERENT),
    (0.0, 9e-6, CLOSE),
    (0.0, 2e-5, DIFFERENT),
    (1.0, 1, DIFFERENT),
    (100_000, 100_001, DIFFERENT),
    (True, 1, DIFFERENT),
    (math.nan, math.nan, SAME),
    (math.nan, 0.0, DIFFERENT),
    (math.inf, math.inf, SAME),
    (math.inf, -math.inf, DIFFERENT),
    (math.inf, 1e308, DIFFERENT),
    (1 + 1j, 1 + 1.00001j, CLOSE),
    (Decimal("1.0"), Decimal("1.00001"), DIFFERENT),
    ("cat", "cat", SAME),
    ("cat", "dog", DIFFERENT),
    (None, None, SAME),
    (b"x", "x", DIFFERENT),
    ({1, 2}, {2, 1}, SAME),
    ([1.0, "a"], [1.00001, "a"], CLOSE),
    ([1.0], [1.0, 2.0], DIFFERENT),
    ([1.0], (1.0,), DIFFERENT),
    ({"a": [{"b": 1.0}]}, {"a": [{"b": 1.00001}]}, CLOSE),
    ({"a": 1}, {"b": 1}, DIFFERENT),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, DIFFERENT),
    ({"a": 1}, OrderedDict(a=1), DIFFERENT),
    (UserDict(a=1.0), UserDict(a=1.0), SAME),
    (torch.ones(2), torch.ones(2) * 1.00001, CLOSE),
    (torch.ones(2), torch.ones(3), DIFFERENT),
    (torch.ones(2), torch.ones(2).double(), DIFFERENT),
    (torch.tensor([math.nan, math.inf]), torch.tensor([math.nan, math.inf]), CLOSE),
    (torch.tensor([100_000]), torch.tensor([100_001]), DIFFERENT),
    (torch.ones(2, requires_grad=True), torch.ones(2), SAME),
    (torch.ones(2), np.ones(2), DIFFERENT),
    (half(1.0), half(1.0078125), CLOSE),
    (half(1.0), half(1.1), DIFFERENT),
    (np.ones(2), np.ones(2) * 1.00001, CLOSE),
    (np.ones(2, np.float16), np.ones(2, np.float16) * np.float16(1.005), CLOSE),
    (np.float32(1), np.float32(1.00001), CLOSE),
    (np.array(["a"]), np.array(["b"]), DIFFERENT),
    (np.array([1.0, "a"], object), np.array([1.00001, "a"], object), CLOSE),
    (Bare(), Bare(), DIFFERENT),
    (Odd(), Odd(), DIFFERENT),
]


@pytest.mark.parametrize(("one", "other", "expected"), CASES, ids=[f"{a!r} and {b!r}"[:50] for a, b, _ in CASES])
def test_likeness(one: Any, other: Any, expected: Likeness) -> None:
    assert likeness(one, other) is expected
    assert likeness(other, one) is expected


NESTED = st.recursive(
    st.floats(-9, 9) | st.text(max_size=2) | st.integers(-3, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(NESTED)
def test_everything_is_the_same_as_its_own_copy(value: Any) -> None:
    assert likeness(value, copied(value)) is SAME


def test_a_copy_is_left_alone_by_what_happens_to_the_original() -> None:
    tensor, array = torch.ones(2), np.ones(2)
    original = {"t": tensor, "l": [array, (tensor, "x")]}
    copy = copied(original)
    tensor.zero_()
    array[:] = 0
    original["l"].append(1)  # type: ignore[union-attr]
    assert likeness(copy, {"t": torch.ones(2), "l": [np.ones(2), (torch.ones(2), "x")]}) is SAME


def test_half_precision_of_the_model_counts_whatever_type_its_predictions_have() -> None:
    assert tolerance_of(torch.nn.Linear(2, 2)) is FULL
    assert tolerance_of(torch.nn.Linear(2, 2).half()) is HALF
    assert tolerance_of({"net": torch.nn.Linear(2, 2).bfloat16(), "labels": ["a"]}) is HALF
    assert tolerance_of("no network") is FULL


PROOFS = [
    ([torch.tensor([[1.0]]), torch.tensor([[2.0]])], Evidence.STRONG),
    ([torch.tensor([[1.0]]), torch.tensor([[1.0]])], Evidence.NONE),
    ([torch.tensor([[1e-6]]), torch.tensor([[3e-6]])], Evidence.NONE),
    ([["cat"], ["dog"]], Evidence.WEAK),
    ([["cat"], ["cat"]], Evidence.NONE),
    ([torch.tensor([1]), torch.tensor([2])], Evidence.WEAK),
    ([{"label": ["a"], "p": [0.5]}, {"label": ["a"], "p": [0.7]}], Evidence.STRONG),
    ([{"label": ["a"], "p": [0.5]}, {"label": ["b"], "p": [0.5]}], Evidence.WEAK),
    ([{"label": ["a"], "p": [1e-7]}, {"label": ["b"], "p": [2e-7]}], Evidence.NONE),
    ([(["a"], [0.5]), (["a"], [0.7])], Evidence.STRONG),
]


@pytest.mark.parametrize(("predictions", "expected"), PROOFS)
def test_only_predictions_that_differ_prove_anything(predictions: list[Any], expected: Evidence) -> None:
    assert evidence(predictions, [1] * len(predictions)) is expected


def test_inputs_of_other_lengths_are_no_other_contents() -> None:
    assert evidence([torch.zeros(1, 2), torch.zeros(3, 2)], [1, 3]) is Evidence.NONE
    assert evidence([["a"], ["a", "a"]], [1, 2]) is Evidence.NONE
