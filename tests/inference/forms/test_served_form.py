"""A form as the model that is called: nothing that does not fit reaches the engine, and no number of records is odd."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.forms.toy_forms import SIGNATURE
from tidegate.inference.worker import comparing, defaults, misfit
from tidegate.inference.worker.forms.served_form import OtherOutputs, ServedForm
from tidegate.inference.worker.forms.signature import read
from tidegate.inference.worker.misfit import InputRefused

CPU = torch.device("cpu")


class Engine:
    """Doubles what it is given, and keeps that. Reads memory as it lies, and empties the list, as AOTInductor does."""

    def __init__(self, compute: Callable[[torch.Tensor], torch.Tensor] = lambda x: x * 2) -> None:
        self.given: list[list[torch.Tensor]] = []
        self._compute = compute

    def __call__(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        self.given.append(list(tensors))
        given = tensors[0]
        tensors.clear()
        return [self._compute(torch.as_strided(given, given.shape, _contiguous(given.shape)))]

    @property
    def sizes(self) -> list[int]:
        return [len(tensors[0]) for tensors in self.given]


def _contiguous(shape: torch.Size) -> tuple[int, ...]:
    return torch.empty(shape, device="meta").stride()


def served(engine: Any, **changes: Any) -> ServedForm:
    signature = {**copy.deepcopy(SIGNATURE), "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", 4]}]}
    return ServedForm("toy", read({**signature, **changes}, "signature"), engine, CPU, comparing.FULL)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.ones(2, 5), r"the input 'x' has the shape \(2, 5\); it must be \(batch, 4\) of float32"),
        (torch.ones(4), r"the input 'x' has the shape \(4,\)"),
        (torch.ones(2, 4, 1), r"the input 'x' has the shape \(2, 4, 1\)"),
        (torch.ones(2, 4, dtype=torch.complex64), "is of complex64; it must be of float32"),
        (torch.full((2, 4), 2**24 + 1), "is of int64; it must be of float32, and a cast would change it"),
        (torch.ones(2, 4).to_sparse(), "the input 'x' is not a dense tensor"),
        ([[1.0] * 4], "the input 'x' must be Tensor, not list"),
        ({"x": torch.ones(2, 4)}, "the input 'x' must be Tensor, not dict"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_engine_sees_it(given: Any, said: str) -> None:
    engine = Engine()
    with pytest.raises(InputRefused, match=said):
        served(engine)(given)
    assert engine.given == []


@pytest.mark.parametrize(
    "given",
    [
        torch.arange(8.0).reshape(4, 2).T,
        torch.arange(16.0).reshape(2, 8)[:, ::2],
        torch.arange(8.0, dtype=torch.float64).reshape(2, 4),
        torch.arange(8).reshape(2, 4),
        torch.ones(2, 4, dtype=torch.bool),
        torch.ones(1, 4).expand(2, 4),
        torch.ones(2, 4).requires_grad_(),
        torch.complex(torch.zeros(2, 4), torch.arange(8.0).reshape(2, 4)).conj().imag,
    ],
)
def test_layout_and_precision_are_made_what_the_engine_takes(given: torch.Tensor) -> None:
    engine = Engine()
    found = served(engine)(given)
    torch.testing.assert_close(found, given.detach().to(torch.float32) * 2)
    ((tensor,),) = engine.given
    assert tensor.is_contiguous()
    assert tensor.dtype is torch.float32


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        (torch.tensor([[1.0, 2.0, 3.0, 4.0]]), True),
        (torch.tensor([[1.0, 2.5, 3.0, 4.0]]), False),
        (torch.tensor([[1.0, float("nan"), 3.0, 4.0]]), False),
        (torch.tensor([[1.0, 1e30, 3.0, 4.0]]), False),
        (torch.tensor([[1, 2, 3, 4]], dtype=torch.int32), True),
        (torch.tensor([[1, 2, 3, 2**40]]), False),
    ],
)
def test_whole_numbers_are_made_of_others_only_where_nothing_is_lost(given: torch.Tensor, fits: bool) -> None:
    form = served(
        Engine(),
        inputs=[{"name": "x", "dtype": "int32", "shape": ["batch", 4]}],
        outputs=[{"name": "output", "dtype": "int32", "shape": ["batch", 4]}],
    )
    if fits:
        assert form(given).tolist() == (given * 2).tolist()
    else:
        with pytest.raises(InputRefused, match="it must be of int32"):
            form(given)


def test_dimensions_of_one_name_are_equal_and_within_their_range() -> None:
    inputs = [{"name": name, "dtype": "float32", "shape": ["batch", "length"]} for name in ("x", "mask")]
    form = served(
        Engine(),
        inputs=inputs,
        positional=["x", "mask"],
        dimensions={"length": {"min": 2, "max": 4}},
        outputs=[{"name": "output", "dtype": "float32", "shape": ["batch", "length"]}],
    )
    assert form(torch.ones(2, 3), torch.ones(2, 3)).shape == (2, 3)
    for lengths, said in (((3, 4), "has 4 as its 'length', where another"), ((5, 5), "which must be from 2 to 4")):
        with pytest.raises(InputRefused, match=said):
            form(*(torch.ones(2, length) for length in lengths))


@given(st.integers(0, 40))
def test_any_number_of_records_is_answered_as_by_the_model(records: int) -> None:
    """More than the form takes in several calls, none of them with more than it takes; of none, none."""
    engine = Engine()
    given = torch.arange(records * 4.0).reshape(records, 4)
    assert torch.equal(served(engine)(given), given * 2)
    assert all(1 <= size <= 8 for size in engine.sizes)


def test_records_that_depend_on_each_other_are_never_computed_apart() -> None:
    form = served(Engine(lambda x: x - x.mean(0)))
    assert form(torch.arange(32.0).reshape(8, 4)).shape == (8, 4)
    for _ in range(2):
        with pytest.raises(InputRefused, match="the input has 9 records; this form of the model takes from 1 to 8"):
            form(torch.arange(36.0).reshape(9, 4))


def test_fewer_records_than_a_form_takes_are_refused() -> None:
    form = served(Engine(), dimensions={"batch": {"min": 2, "max": 8}})
    with pytest.raises(InputRefused, match="the input has 1 records"):
        form(torch.ones(1, 4))
    assert form(torch.ones(0, 4)).shape == (0, 4)


def test_the_answer_has_the_type_of_the_model_whatever_the_engine_computes_with() -> None:
    form = served(Engine(lambda x: x.to(torch.bfloat16)))
    assert form(torch.ones(2, 4)).dtype is torch.float32


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([torch.ones(2, 4)] * 2, "the form 'toy' of the model gives 2 outputs, where its signature has 1"),
        ([], "gives 0 outputs"),
        (
            [torch.ones(2, 3)],
            r"gives 'output' as \(2, 3\) of float32 for a batch of 2, where its signature has \(batch, 4\) of float32",
        ),
        ([torch.ones(2)], r"gives 'output' as \(2,\) of float32"),
        ([torch.ones(1, 4)], r"gives 'output' as \(1, 4\) of float32 for a batch of 2"),
        ([torch.ones(2, 4, dtype=torch.int64)], r"gives 'output' as \(2, 4\) of int64"),
    ],
)
def test_what_an_engine_gives_beside_its_signature_is_an_error_and_no_answer(
    outputs: list[torch.Tensor], said: str
) -> None:
    """Compiled code says nothing of its outputs, so nothing else would notice that the manifest is another model's."""
    with pytest.raises(OtherOutputs, match=said):
        served(lambda _: outputs)(torch.ones(2, 4))


def test_whole_numbers_of_fewer_bits_become_those_of_the_model_and_others_do_not() -> None:
    outputs = [{"name": "output", "dtype": "int64", "shape": ["batch", 4]}]
    form = served(Engine(lambda x: x.to(torch.int32)), outputs=outputs)
    assert form(torch.ones(2, 4)).dtype is torch.int64
    for other in (torch.float32, torch.bool):
        with pytest.raises(OtherOutputs):
            served(Engine(lambda x, other=other: x.to(other)), outputs=outputs)(torch.ones(2, 4))


def test_a_length_that_may_follow_from_a_dynamic_one_is_not_held_to_that_of_the_example() -> None:
    """A stride of two gives 2 for 4 and for 3, which `export` sees as fixed."""
    form = served(
        Engine(lambda x: x[:, ::2]),
        inputs=[{"name": "x", "dtype": "float32", "shape": ["batch", "length"]}],
        outputs=[{"name": "output", "dtype": "float32", "shape": ["batch", 2]}],
    )
    assert form(torch.ones(2, 9)).shape == (2, 5)


def test_what_else_a_model_has_is_not_there_and_the_error_says_so() -> None:
    form = served(Engine())
    with pytest.raises(AttributeError, match="the form 'toy' of the model has no attribute 'classifier'"):
        form.classifier  # noqa: B018
    assert not hasattr(form, "classifier")
    assert list(form.parameters()) == []


def test_the_default_predict_fn_calls_a_form_as_it_calls_a_model() -> None:
    """A dict of one tensor is unpacked, and what does not fit is the client's mistake."""
    form = served(Engine())
    assert defaults.predict_fn({"x": torch.ones(2, 4)}, form).tolist() == [[2.0] * 4] * 2
    with pytest.raises(Exception, match=r"The model does not take an input of the shape \(2, 5\)") as caught:
        defaults.predict_fn(torch.ones(2, 5), form)
    assert "it must be (batch, 4) of float32" in str(caught.value)
    by_name = served(Engine(), positional=[{"dict": ["x"]}])
    with pytest.raises(InputRefused) as refused:
        by_name(torch.ones(2, 4))
    assert misfit.wants_names(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([[1.0, 2, 3, 4], [1, 2, 3, float("nan")]]),
        torch.tensor([[1.0, 2, 3, -float("inf")]]),
        torch.full((1, 4), 1e300, dtype=torch.float64),
    ],
)
def test_a_form_that_answers_nan_otherwise_than_the_model_takes_finite_numbers_alone(given: torch.Tensor) -> None:
    """Also where a number becomes infinite by the precision of the form; another form computes what it is given."""
    engine = Engine()
    spec = {**copy.deepcopy(SIGNATURE), "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", 4]}]}
    form = ServedForm("toy", read(spec, "signature"), engine, CPU, comparing.FULL, finite=True)
    with pytest.raises(InputRefused, match="the input 'x' holds NaN or infinity in float32, which this form"):
        form(given)
    assert engine.given == []
    assert form(torch.ones(1, 4)).tolist() == [[2.0] * 4]
    assert not served(engine)(given).isfinite().all()


@pytest.mark.parametrize(
    ("numbers", "dtype"),
    [
        (np.array([[2**64 - 1]], np.uint64), "int64"),
        (np.array([[2**63]], np.uint64), "int64"),
        (np.array([[2**64 - 1]], np.uint64), "int32"),
        (np.array([[2**32 - 1]], np.uint32), "int32"),
        (np.array([[-1]], np.int8), "uint8"),
        (np.array([[-1]], np.int64), "uint8"),
    ],
)
def test_a_whole_number_never_wraps_around(numbers: Any, dtype: str) -> None:
    """An id of 2^64 - 1 is not the last row, -1."""
    tensors = [{"name": name, "dtype": dtype, "shape": ["batch", 1]} for name in ("x", "y")]
    form = ServedForm(
        "toy", read({"inputs": tensors[:1], "outputs": tensors[1:]}, "signature"), Engine(), CPU, comparing.FULL
    )
    with pytest.raises(InputRefused, match="a cast would change it"):
        form(torch.from_numpy(numbers))
    assert form(torch.from_numpy(np.ones_like(numbers))).tolist() == [[2]]
