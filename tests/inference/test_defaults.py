"""The default predict_fn: inputs come to a model as it needs them, and what does not fit it is told as such."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from tidegate.inference.errors import BadRequest
from tidegate.inference.worker import defaults
from tidegate.inference.worker.compat.sagemaker_pytorch_serving_container.default_pytorch_inference_handler import (
    DefaultPytorchInferenceHandler,
)


def scripted(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module)


class SeesDtype(nn.Module):
    """Answers with what it was given; its weights have the types that it is built with."""

    def __init__(self, *dtypes: torch.dtype) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(1, dtype=dtype)) for dtype in dtypes)

    def forward(self, data: Any) -> Any:
        return data


FLOAT32, FLOAT64, BFLOAT16 = torch.float32, torch.float64, torch.bfloat16


@pytest.mark.parametrize(
    ("model", "given", "seen"),
    [
        ([FLOAT32], FLOAT64, FLOAT32),
        ([BFLOAT16, BFLOAT16], FLOAT32, BFLOAT16),
        ([FLOAT64], FLOAT32, FLOAT64),
        ([FLOAT32], torch.int64, torch.int64),
        ([FLOAT32], torch.bool, torch.bool),
        ([FLOAT32, BFLOAT16], FLOAT64, FLOAT64),
        ([], FLOAT64, FLOAT64),
    ],
)
def test_floating_point_numbers_reach_a_model_in_its_own_type(
    model: list[torch.dtype], given: torch.dtype, seen: torch.dtype
) -> None:
    """A model of several types, or of none, decides for itself; whole numbers may be indices."""
    net = SeesDtype(*model)
    data = torch.ones(1, 2, dtype=given)
    assert defaults.predict_fn(data, net).dtype == seen
    assert defaults.predict_fn({"x": data}, net)["x"].dtype == seen
    assert data.dtype == given


@pytest.mark.parametrize("wrap", [lambda module: module, scripted], ids=["eager", "scripted"])
@pytest.mark.parametrize(
    ("module", "data", "words"),
    [
        (nn.Linear(4, 2), torch.zeros(1, 3), "mat1 and mat2 shapes cannot be multiplied (1x3 and 4x2)"),
        (nn.Linear(4, 2), torch.zeros(1, 4, dtype=torch.int64), "must have the same dtype, but got Long and Float"),
        (nn.Conv2d(3, 4, 3), torch.zeros(1, 2), "Expected 3D (unbatched) or 4D (batched) input to conv2d"),
        (nn.Conv2d(3, 4, 3), torch.zeros(1, 1, 8, 8), "expected input[1, 1, 8, 8] to have 3 channels, but got 1"),
        (nn.Conv2d(3, 4, 9), torch.zeros(1, 3, 2, 2), "Kernel size can't be greater than actual input size"),
        (nn.BatchNorm1d(4).eval(), torch.zeros(1, 3), "running_mean should contain 3 elements not 4"),
        (nn.LayerNorm(4), torch.zeros(1, 3), "expected input with shape [*, 4]"),
        (nn.Softmax(1), torch.zeros(4), "Dimension out of range"),
        (nn.Embedding(3, 2), torch.tensor([[5]]), "index out of range in self"),
        (nn.Embedding(3, 2), torch.tensor([[0.5]]), "to have one of the following scalar types: Long, Int"),
        (nn.Conv1d(3, 4, 3), torch.zeros(1, 3, 9, dtype=torch.int64), "Input type (long int) and bias type (float)"),
        (nn.Softmax(1), torch.zeros(1, 3, dtype=torch.int64), "not implemented for 'Long'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_an_input_that_the_layers_refuse_is_the_clients_mistake(
    wrap: Any, module: nn.Module, data: torch.Tensor, words: str
) -> None:
    model = wrap(module)
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(data, model)
    text = caught.value.message
    assert words in text
    assert text.startswith(f"The model does not take an input of the shape {tuple(data.shape)} and the type ")
    assert "\n" not in text
    assert "Traceback" not in text


class Doubles(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return data * 2


class ReadsX(nn.Module):
    def forward(self, data: dict[str, torch.Tensor]) -> torch.Tensor:
        return data["x"] * 2


class Flattens(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return data.flatten()


@pytest.mark.parametrize("wrap", [lambda module: module, scripted], ids=["eager", "scripted"])
@pytest.mark.parametrize("module", [nn.Linear(4, 2), Doubles(), Flattens()], ids=lambda module: type(module).__name__)
def test_a_dict_of_one_tensor_is_that_tensor_to_a_model_that_takes_none(wrap: Any, module: nn.Module) -> None:
    """An npz body becomes a dict; no JSON, CSV or npy body does."""
    model, data = wrap(module), torch.ones(1, 4)
    found = defaults.predict_fn({"whatever": data}, model)
    assert torch.equal(found, defaults.predict_fn(data, model))


@pytest.mark.parametrize("wrap", [lambda module: module, scripted], ids=["eager", "scripted"])
@pytest.mark.parametrize(
    ("module", "names", "words"),
    [
        (nn.Linear(4, 2), "ab", "dict"),
        (Doubles(), "ab", "dict"),
        (Flattens(), "ab", "dict"),
        (ReadsX(), "a", "it asks for 'x'."),
        (ReadsX(), "ab", "it asks for 'x'."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_arrays_that_are_too_many_or_have_other_names_are_the_clients_mistake(
    wrap: Any, module: nn.Module, names: str, words: str
) -> None:
    data = {name: torch.ones(1, 4) for name in names}
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(data, wrap(module))
    text = caught.value.message
    assert text.startswith("The model does not take an input of 'a': the shape (1, 4) and the type float32")
    assert words in text
    assert "\n" not in text


def test_a_tensor_for_a_model_that_takes_a_dict_is_the_clients_mistake() -> None:
    with pytest.raises(BadRequest, match="Expected a value of type 'Dict"):
        defaults.predict_fn(torch.ones(1), scripted(ReadsX()))


def test_a_key_that_the_model_itself_mislays_stays_its_own_mistake() -> None:
    class Mislays(nn.Module):
        def forward(self, data: dict[str, torch.Tensor]) -> Any:
            return dict[str, int]()[next(iter(data))]

    with pytest.raises(KeyError):
        defaults.predict_fn({"x": torch.ones(1)}, Mislays())
    with pytest.raises(KeyError):
        defaults.predict_fn(torch.ones(1), lambda _: dict[str, int]()["x"])


def test_any_other_failure_of_a_model_stays_what_it_is() -> None:
    class Broken(nn.Module):
        def forward(self, data: torch.Tensor) -> torch.Tensor:
            raise ValueError(f"the vocabulary is empty for {data}")

    with pytest.raises(ValueError, match="the vocabulary is empty"):
        defaults.predict_fn(torch.zeros(1), Broken())


def test_a_script_that_calls_the_toolkits_default_may_catch_torchs_own_error() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        DefaultPytorchInferenceHandler().default_predict_fn(torch.zeros(1, 3), nn.Linear(4, 2))
