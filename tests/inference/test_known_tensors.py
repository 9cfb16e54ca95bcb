"""Which tensors the metadata of the open inference protocol tells of, and how ONNX names are used."""

from __future__ import annotations

import json
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.test_open_inference import asking, outputs, tensor, whole
from tests.inference.toy_models import answered, computation, refused, request
from tidegate.inference.worker.asking import answer
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.declared.sides import declared
from tidegate.inference.worker.formats.onnx_model import OnnxModel
from tidegate.inference.worker.known_tensors import known_tensors


def known(toy: Computation, body: Any = None) -> Any:
    """What is known after the example `body` was answered."""
    example = None
    if body is not None:
        batch = toy.begin([request(body)])
        answer(toy, batch)
        example = batch.requests[0]
    return known_tensors(toy.steps.model, toy.steps.functions, example)


def described(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def test_the_example_shows_what_the_defaults_read_and_write() -> None:
    toy = computation(model=torch.nn.Linear(3, 2, dtype=torch.float64))
    assert known(toy, [[1, 2, 3]]) == {
        "inputs": [described("input_0", "FP32", -1, 3)],
        "outputs": [described("output_0", "FP64", -1, 2)],
    }


def test_members_have_their_names_and_vectors_their_length() -> None:
    toy = computation(predict_fn=lambda data, _: {"label": ["cat"], "score": data["a"]})
    assert known(toy, {"a": [1, 2], "b": [[1]]}) == {
        "inputs": [described("a", "FP32", 2), described("b", "FP32", -1, 1)],
        "outputs": [described("label", "BYTES", -1), described("score", "FP32", 2)],
    }


def test_without_an_example_nothing_is_known() -> None:
    assert known(computation()) == {}


def test_what_a_script_reads_and_writes_itself_is_not_told() -> None:
    def predict_fn(data: Any, _: Any) -> Any:
        return torch.ones(1)

    own = {"input_fn": lambda *_: 1}, {"output_fn": lambda *_: "1"}, {"transform_fn": lambda *_: "1"}
    assert known(computation(predict_fn=predict_fn, **own[0]), [1]) == {"outputs": [described("output_0", "FP32", 1)]}
    assert known(computation(predict_fn=predict_fn, **own[1]), [1]) == {"inputs": [described("input_0", "FP32", 1)]}
    assert known(computation(**own[2]), [1]) == {}


class Torn(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("torn")


@pytest.mark.parametrize("prediction", [iter("ab"), object(), {1}, Torn(a=1)])
def test_a_prediction_that_is_no_tensor_ends_no_load(prediction: Any) -> None:
    assert "outputs" not in known(computation(predict_fn=lambda *_: prediction), [1])


# --- ONNX, with onnxruntime's place taken by a stand-in that has its interface


class Session:
    """Adds its inputs."""

    def get_inputs(self) -> list[Any]:
        return [
            SimpleNamespace(name="a", type="tensor(float)", shape=["batch", 2]),
            SimpleNamespace(name="b", type="tensor(int64)", shape=[None, 2]),
        ]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="sum", type="tensor(double)", shape=["batch", 2])]

    def run(self, _: None, arrays: dict[str, Any]) -> list[Any]:
        if missing := sorted({"a", "b"} - arrays.keys()):
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({list(arrays)}).")
        return [np.float64(arrays["a"] + arrays["b"])]


def test_an_onnx_file_describes_itself() -> None:
    toy = computation(model=OnnxModel(Session()))
    assert known(toy) == {
        "inputs": [described("a", "FP32", -1, 2), described("b", "INT64", -1, 2)],
        "outputs": [described("sum", "FP64", -1, 2)],
    }


def test_an_onnx_model_is_given_its_inputs_by_name_and_names_its_output() -> None:
    toy = computation(model=OnnxModel(Session()))
    both = tensor([1.5, 2], shape=[1, 2], name="a"), tensor([3, 4], "INT64", shape=[1, 2], name="b")
    assert outputs(answered(toy, asking(whole(*both)))) == {
        "sum": {"name": "sum", "datatype": "FP64", "shape": [1, 2], "data": [4.5, 6]}
    }
    for wrong in ([both[0]], [{**both[0], "name": "c"}], [*both, tensor([1], name="c")]):
        assert refused(toy, asking(whole(*wrong))).status == 400


def test_behind_a_predict_fn_of_the_script_an_onnx_model_is_its_own_business() -> None:
    toy = computation(model=OnnxModel(Session()), predict_fn=lambda data, _: data)
    answer_ = answered(toy, asking(whole(tensor([1.5], name="c"))))
    assert outputs(answer_)["output_0"]["data"] == [1.5]
    assert known(toy) == {}
    assert json.loads(answer_.body)["model_name"] == "model"


# --- what does not fit, and names that a model of torch wants


class Numbers(torch.nn.Module):
    """Takes a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Sum(Numbers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class Named(torch.nn.Module):
    """Takes a dict."""

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return x["a"] * 2


def scripted(model: torch.nn.Module) -> Any:
    """The same as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(model)


class Unpacking(Named):
    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return sum(value * 2 for value in x.values())  # type: ignore[return-value]


@pytest.mark.parametrize(
    "model", [Numbers(), Sum(), scripted(Numbers()), Named()], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize("shape", [[1], [], [1, 1]])
def test_bytes_to_a_model_that_takes_numbers_are_400(model: Any, shape: list[int]) -> None:
    error = refused(computation(model=model), asking(whole(tensor(["a"], "BYTES", shape))))
    assert error.status == 400, error.message


@pytest.mark.parametrize("datatype", ["UINT16", "UINT32", "UINT64"])
def test_numbers_that_torch_cannot_compute_with_are_400(datatype: str) -> None:
    assert refused(computation(model=Sum()), asking(whole(tensor([1, 2], datatype)))).status == 400


@pytest.mark.parametrize("model", [Named(), Unpacking(), scripted(Named())], ids=lambda each: type(each).__name__)
def test_a_model_that_takes_a_dict_is_given_one_input_by_its_name(model: Any) -> None:
    toy = computation(model=model)
    for _ in range(2):
        assert outputs(answered(toy, asking(whole(tensor([[3]], shape=[1, 1], name="a")))))["output_0"]["data"] == [6]
    assert toy.steps.by_name
    if not isinstance(model, Unpacking):
        error = refused(toy, asking(whole(tensor([3], name="b"))))
        assert (error.status, "asks for 'a'" in error.message) == (400, True)


def test_declared_tensors_are_known_without_an_example() -> None:
    said = [{"name": "ids", "dtype": "int64", "shape": ["batch", 3]}]
    toy = computation(model=lambda data: data, declared=declared({"tensors": said}, Reading(max_decoded_bytes=1)))
    found = known_tensors(toy.steps.model, toy.steps.functions, None, toy.steps.declared)
    assert found == {"inputs": [{"name": "ids", "datatype": "INT64", "shape": [-1, 3]}]}
