"""An .onnx file behind the call that every other model has: tensors in, tensors out.

onnxruntime is not one of the server's dependencies; an archive brings it by its requirements.txt.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.model_files import damage
from tidegate.inference.worker.formats.missing_operators import missing_operator
from tidegate.inference.worker.formats.onnx_inputs import STRINGS, checked, demand_one_length
from tidegate.inference.worker.misfit import InputRefused
from tidegate.inference.worker.tensor_data import BYTES, datatype_of

_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8,
    "tensor(uint64)": torch.uint64,
    "tensor(uint32)": torch.uint32,
    "tensor(uint16)": torch.uint16,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
"""The names that onnxruntime gives the types of a model's inputs."""

_AROUND_THE_REASON = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|/\S+:\d+ .*? was false\. "  # a place in the runtime's own source
    r"| Please fix either the inputs/outputs or the model\.?$"
)


class OnnxModel:
    """Call it with a tensor (the first input), a sequence (the inputs in order) or a dict (by name).

    Each input is cast to the dtype that the model declares where that changes nothing, because JSON has one kind of
    number. One output is returned as a tensor, several as a dict by name; all are on the CPU, and strings are lists.
    Raises `InputRefused`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = {each.name: (_DTYPES.get(each.type), each.type) for each in session.get_inputs()}
        self._shapes = {each.name: each.shape for each in session.get_inputs()}
        self.outputs = [each.name for each in session.get_outputs()]

    def __call__(self, data: Any) -> Any:
        named = self._by_name(data)
        unknown = [name for name in named if name not in self._inputs]
        if unknown:
            raise InputRefused(f"the model has the inputs {', '.join(self._inputs)}, not {', '.join(unknown)}")
        arrays = {name: checked(value, name, *self._inputs[name]) for name, value in named.items()}
        demand_one_length(arrays, self._shapes)
        try:
            outputs = self._session.run(None, arrays)
        except Exception as error:
            reason = refusal(error)
            if reason is None:
                raise
            raise InputRefused(reason) from error
        tensors = [_tensor(output) for output in outputs]
        return tensors[0] if len(tensors) == 1 else dict(zip(self.outputs, tensors, strict=True))

    def described(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Inputs and outputs as the open inference protocol describes them: `name`, `datatype`, `shape`."""
        return _described(self._session.get_inputs()), _described(self._session.get_outputs())

    def _by_name(self, data: Any) -> Mapping[str, Any]:
        if isinstance(data, Mapping):
            return data
        several = isinstance(data, Sequence) and not isinstance(data, str | bytes)
        # One input of strings is a list itself.
        one_of_strings = [type_ for _, type_ in self._inputs.values()] == [STRINGS]
        values = list(data) if several and not one_of_strings else [data]
        if len(values) > len(self._inputs):
            raise InputRefused(f"the model has the inputs {', '.join(self._inputs)}, and {len(values)} were given")
        return dict(zip(self._inputs, values, strict=False))


def _described(nodes: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"name": node.name, "datatype": _datatype(node.type), "shape": [_length(length) for length in node.shape]}
        for node in nodes
    ]


def _datatype(type_: str) -> str:
    return datatype_of(_DTYPES[type_]) if type_ in _DTYPES else BYTES if type_ == STRINGS else ""


def _length(length: Any) -> int:
    return length if isinstance(length, int) else -1  # a name, or nothing, where it is free


def refusal(error: Exception) -> str | None:
    """Why the runtime does not take an input; None for an error that is about something else."""
    text = one_line(error)
    # By name, because onnxruntime is no dependency. It is raised for sizes, ranks, types and indices.
    refused = type(error).__name__ == "InvalidArgument"
    if refused or text.startswith("Required inputs") or "cannot be reshaped" in text:
        return _AROUND_THE_REASON.sub("", text)
    return None


def _tensor(output: Any) -> Any:
    if not isinstance(output, np.ndarray):
        return output  # a list or a dict, as classifiers of scikit-learn have
    return output.tolist() if output.dtype.kind == "O" else torch.as_tensor(output)


def load(path: Path, place: torch.device) -> OnnxModel:
    """The model of an .onnx file, with as many threads as torch has here. Raises `DeploymentError`."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise DeploymentError(f"{path} needs the package onnxruntime: name it in code/requirements.txt.")
    runtime = importlib.import_module("onnxruntime")
    providers: list[Any] = ["CPUExecutionProvider"]
    if place.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": place.index or 0}))
    try:
        options = _options(runtime)
        return OnnxModel(runtime.InferenceSession(str(path), options, providers=providers))
    except Exception as error:
        if what := damage.of_a_compiled_model(path):
            raise DeploymentError(f"{path} cannot be loaded as ONNX: it is {what}.") from None
        reason = missing_operator(error) or _AROUND_THE_REASON.sub("", one_line(error))
        raise DeploymentError(f"{path} cannot be loaded as ONNX: {reason.rstrip('.')}.") from error


def _options(runtime: Any) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin for the next request take the cores of the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if importlib.util.find_spec("onnxruntime_extensions") is not None:
        options.register_custom_ops_library(importlib.import_module("onnxruntime_extensions").get_library_path())
    return options
