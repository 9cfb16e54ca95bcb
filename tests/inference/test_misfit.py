"""Whose mistake an error of the model is: the client's where its layers refuse the input, else the model's own."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tidegate.inference.errors import BadRequest
from tidegate.inference.worker import defaults
from tidegate.inference.worker.formats.onnx_model import OnnxModel
from tidegate.inference.worker.misfit import InputRefused


def eager(module: nn.Module, _: Any) -> Any:
    return module


def _saved(model: Any) -> Any:
    file = io.BytesIO()
    torch.jit.save(model, file)
    file.seek(0)
    return torch.jit.load(file)


def scripted(module: nn.Module, _: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _saved(torch.jit.script(module))


def traced(module: nn.Module, sound: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _saved(torch.jit.trace(module, sound))


def frozen(module: nn.Module, _: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _saved(torch.jit.freeze(torch.jit.script(module)))


def compiled(module: nn.Module, _: Any) -> Any:
    return torch.compile(module, backend="eager")


def exported(module: nn.Module, sound: Any) -> Any:
    return torch.export.export(module, (sound,)).module()


class Inside(nn.Module):
    """A network of the user's own around one layer of torch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.layer(data)


def refusal(model: Any, data: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        defaults.predict_fn(data, model)
    assert "\n" not in caught.value.message
    assert "Traceback" not in caught.value.message
    return caught.value.message


CHECKS_IN_PYTHON = (nn.LocalResponseNorm, nn.InstanceNorm2d, nn.RNNCell, nn.Upsample)
"""A trace leaves these layers' own checks out, and takes what they refuse."""

LAYERS: list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = [
    (nn.BatchNorm1d(4), (2, 4), (4,)),
    (nn.BatchNorm2d(3), (1, 3, 4, 4), (3, 4)),
    (nn.GroupNorm(2, 4), (1, 4), (1, 6)),
    (nn.GroupNorm(2, 4), (1, 4), (4,)),
    (nn.InstanceNorm2d(3, affine=True), (1, 3, 4, 4), (2, 3)),
    (nn.LocalResponseNorm(2), (1, 3, 4), (2,)),
    (nn.RNNCell(4, 3), (1, 4), (1, 1, 4)),
    (nn.GRUCell(4, 3), (1, 4), (1, 5)),
    (nn.Upsample(scale_factor=2.0, mode="bilinear"), (1, 1, 4, 4), (1, 4)),
    (nn.Conv2d(3, 4, 3), (1, 3, 8, 8), (1, 4)),
    (nn.Conv2d(3, 4, 3), (1, 3, 8, 8), (1, 1, 8, 8)),
    (nn.ConvTranspose2d(3, 4, 3), (1, 3, 8, 8), (1, 4)),
    (nn.PixelShuffle(2), (1, 4, 2, 2), (1, 3, 2, 2)),
    (nn.ReflectionPad2d(5), (1, 1, 8, 8), (1, 1, 3, 3)),
    (nn.MaxPool2d(2), (1, 4, 4), (3,)),
    (nn.Unflatten(1, (2, 2)), (1, 4), (1, 6)),
    (nn.Linear(4, 2), (1, 4), (1, 3)),
]


@pytest.mark.parametrize(
    ("make", "layer", "sound", "wrong"),
    [
        (make, *case)
        for make in (eager, scripted, traced)
        for case in LAYERS
        if make is not traced or not isinstance(case[0], CHECKS_IN_PYTHON)
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_a_layer_of_torch_refuses_is_the_clients_mistake(
    make: Callable[..., Any], layer: nn.Module, sound: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    model = make(Inside(layer.eval()), torch.zeros(sound))
    assert defaults.predict_fn(torch.zeros(sound), model) is not None
    said = refusal(model, torch.zeros(wrong))
    assert said.startswith(f"The model does not take an input of the shape {wrong} and the type float32: ")


@pytest.mark.parametrize("make", [frozen, compiled])
@pytest.mark.parametrize(
    ("layer", "wrong"), [(nn.Linear(4, 2), (1, 3)), (nn.GroupNorm(2, 4), (1, 6)), (nn.BatchNorm1d(4), (4,))]
)
def test_frozen_and_compiled_models_say_the_same(
    make: Callable[..., Any], layer: nn.Module, wrong: tuple[int, ...]
) -> None:
    model = make(Inside(layer).eval(), None)
    try:
        said = refusal(model, torch.zeros(wrong))
    finally:
        torch._dynamo.reset()
    assert said.startswith(f"The model does not take an input of the shape {wrong} and the type float32: ")
    assert len(said) < 250


@pytest.mark.parametrize("make", [eager, scripted, traced])
@pytest.mark.parametrize("wrong", [(1, 4), (4,), (3, 8, 8, 1, 1)])
def test_a_wrong_rank_into_a_convolution_that_is_called_as_a_function_is_refused_too(
    make: Callable[..., Any], wrong: tuple[int, ...]
) -> None:
    class Convolves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            return functional.conv2d(data, self.weight)

    model = make(Convolves(), torch.zeros(1, 3, 8, 8))
    assert "xpected" in refusal(model, torch.zeros(wrong))


def test_the_reason_is_torchs_own_line() -> None:
    said = "expected 2D or 3D input (got 1D input)"
    for model in (eager(nn.BatchNorm1d(4), None), scripted(nn.BatchNorm1d(4), None)):
        assert refusal(model, torch.zeros(4)).endswith(f": {said}.")
    assert refusal(nn.RNNCell(4, 3), torch.zeros(1, 1, 4)).endswith(
        "RNNCell: Expected input to be 1D or 2D, got 3D instead."
    )
    assert "but got weight of shape [4] and input of shape [1, 6]" in refusal(nn.GroupNorm(2, 4), torch.zeros(1, 6))
    attention = nn.TransformerEncoderLayer(4, 2, batch_first=True)
    assert refusal(attention, torch.zeros(2, 5)).endswith("was expecting embedding dimension of 4, but got 5.")


@pytest.mark.parametrize("wrong", [(2, 3), (3, 4), (4,)])
def test_a_guard_of_an_exported_program_is_the_clients_mistake(wrong: tuple[int, ...]) -> None:
    model = exported(Inside(nn.Linear(4, 3)), torch.zeros(2, 4))
    assert "Guard failed: " in refusal(model, torch.zeros(wrong))
    assert "mat1 and mat2 must have the same dtype" in refusal(model, torch.zeros(2, 4, dtype=torch.int64))
    assert "Trying to flatten user inputs" in refusal(model, {"a": torch.zeros(2, 4), "b": torch.zeros(2, 4)})
    assert defaults.predict_fn({"x": torch.zeros(2, 4)}, model).shape == (2, 3)


# --- ONNX: what onnxruntime raises has its class only by name


class InvalidArgument(Exception):
    """As onnxruntime's."""


class Session:
    """Stands in for onnxruntime's session with two inputs, and raises what that was seen to raise."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": name, "type": "tensor(float)", "shape": []}) for name in "ab"]

    def get_outputs(self) -> list[Any]:
        return [type("Output", (), {"name": "y"})]

    def run(self, _: Any, arrays: dict[str, Any]) -> list[Any]:
        missing = [name for name in "ab" if name not in arrays]
        if missing:
            raise ValueError(f"Required inputs ({missing}) are missing from input feed ({list(arrays)}).")
        if self.error is not None:
            raise self.error
        return [arrays["a"]]


SIZES = (
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: a for the following indices\n"
    " index: 1 Got: 3 Expected: 4\n Please fix either the inputs/outputs or the model."
)


class Fail(Exception):
    """As onnxruntime's."""


RESHAPE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'' Status Message: "
    "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 ReshapeHelper::ReshapeHelper"
    "(const TensorShape&, bool) input_shape_size == requested_shape_size was false. The input tensor cannot "
    "be reshaped to the requested shape. Input shape:{1,5}, requested shape:{2,3}"
)
INDEX = (
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running Gather node. Name:'' "
    "Status Message: indices element out of data bounds, idx=9 must be within the inclusive range [-4,3]"
)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({"a": torch.zeros(1)}, None, "Required inputs (['b']) are missing from input feed (['a'])."),
        (torch.zeros(1), None, "Required inputs (['b']) are missing from input feed (['a'])."),
        ({"a": torch.zeros(1), "c": torch.zeros(1)}, None, "the model has the inputs a, b, not c."),
        (
            {"a": torch.zeros(1), "b": torch.zeros(1)},
            InvalidArgument(SIZES),
            ": Got invalid dimensions for input: a for the following indices index: 1 Got: 3 Expected: 4.",
        ),
        (
            {"a": torch.zeros(1), "b": torch.zeros(1)},
            InvalidArgument(INDEX),
            "idx=9 must be within the inclusive range [-4,3].",
        ),
        (
            {"a": torch.zeros(1), "b": torch.zeros(1)},
            Fail(RESHAPE),
            "Name:'' Status Message: The input tensor cannot be reshaped to the requested shape. Input shape:{1,5}, "
            "requested shape:{2,3}.",
        ),
    ],
)
def test_what_onnxruntime_refuses_of_an_input_is_the_clients_mistake(
    data: Any, error: Exception | None, words: str
) -> None:
    assert refusal(OnnxModel(Session(error)), data).endswith(words)


def test_more_values_than_an_onnx_model_has_inputs_are_refused() -> None:
    with pytest.raises(InputRefused, match="the model has the inputs a, b, and 3 were given"):
        OnnxModel(Session())([torch.zeros(1)] * 3)


def test_any_other_error_of_onnxruntime_is_no_mistake_of_the_client() -> None:
    both = {"a": torch.zeros(1), "b": torch.zeros(1)}
    with pytest.raises(RuntimeError, match="Failed to allocate memory"):
        defaults.predict_fn(both, OnnxModel(Session(RuntimeError("Failed to allocate memory"))))


# --- the model's own mistakes


class Own(nn.Module):
    """Makes the mistake `kind`, which no input mends."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = nn.Linear(4, 2)
        self.layers = nn.ModuleList([nn.Linear(4, 2)])
        self.table = nn.ParameterDict({"a": torch.zeros(1)})

    def forward(self, data: torch.Tensor) -> Any:
        def lookup() -> Any:
            return {}["vocabulary"]

        def raising(error: Exception) -> Any:
            raise error

        mistakes: dict[str, Callable[[], Any]] = {
            "raises ValueError": lambda: raising(ValueError("expected a trained vocabulary")),
            "raises RuntimeError": lambda: raising(RuntimeError("not trained")),
            "raises IndexError": lambda: raising(IndexError("no such label")),
            "asserts": lambda: raising(AssertionError("x must be trained")),
            "one argument too many": lambda: self.layer(data, data),
            "no such layer": lambda: self.missing(data),
            "no such layer in the list": lambda: self.layers[7](data),
            "no such parameter": lambda: self.table["b"],
            "wrong arguments of a function": lambda: functional.interpolate(data),
            "a key": lookup,
            "an index": lambda: list(range(2))[len(data) + 3],
        }
        return mistakes[self.kind]()


KINDS = [
    ("raises ValueError", ValueError),
    ("raises RuntimeError", RuntimeError),
    ("raises IndexError", IndexError),
    ("asserts", AssertionError),
    ("one argument too many", TypeError),
    ("no such layer", AttributeError),
    ("no such layer in the list", IndexError),
    ("no such parameter", AttributeError),
    ("wrong arguments of a function", ValueError),
    ("a key", KeyError),
    ("an index", IndexError),
]


@pytest.mark.parametrize(("kind", "raised"), KINDS)
@pytest.mark.parametrize("around", [lambda net: net, nn.Sequential, Inside], ids=["alone", "Sequential", "inside"])
def test_a_mistake_of_the_models_own_code_stays_its_own(kind: str, raised: type[Exception], around: Any) -> None:
    with pytest.raises(raised):
        defaults.predict_fn(torch.zeros(1, 4), around(Own(kind)))


class Refuses(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        if data.size(0) == 1:
            raise ValueError("the model was trained on pairs")
        return data


class Asks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Refuses()

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.layer(data)


@pytest.mark.parametrize("make", [scripted, compiled])
def test_what_a_scripted_or_compiled_model_raises_by_itself_stays_its_own_too(make: Callable[..., Any]) -> None:
    with pytest.raises((torch.jit.Error, ValueError), match="trained on pairs"):
        defaults.predict_fn(torch.zeros(1, 4), make(Asks(), None))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: device-side assert triggered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
        "Could not run 'aten::conv2d' with arguments from the 'QuantizedCPU' backend.",
        "\"addmm_impl_cpu_\" not implemented for 'Half'",
    ],
)
def test_devices_memory_and_missing_kernels_are_no_mistake_of_the_client_even_in_a_layer(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linear(*_: Any) -> Any:
        raise RuntimeError(text)

    monkeypatch.setattr(functional, "linear", linear)
    with pytest.raises(RuntimeError):
        defaults.predict_fn(torch.zeros(1, 4), nn.Linear(4, 2))
