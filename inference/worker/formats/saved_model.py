"""TensorFlow SavedModel, by the tensorflow that the archive brings in its requirements.txt."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.worker.formats.onnx_inputs import cast_to
from tidegate.inference.worker.misfit import InputRefused
from tidegate.inference.worker.numpy_files import Array

_SERVING = "serving_default"
_AROUND_THE_REASON = re.compile(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*?\]")
_NOT_OF_THE_INPUT = re.compile(
    "|".join(
        (
            r"No OpKernel was registered to support",
            r"No registered '\w+' OpKernel for",
            r"Op type not registered '",
            r"NodeDef (mentions|missing) attr",
            r"only supports? (the )?NHWC",
            r"unsupported operations when trying to compile",
            r"tf2xla conversion failed",
            r"Cannot assign a device for operation",
            r"Could not satisfy (explicit )?device specification",
            r"Trying to access resource .* located in device",
            r"on an unexpected device",
            r"CUDA_ERROR_|\bcu(DNN|BLAS|SOLVER|SPARSE|FFT)\b|[Ii]nvalid (GPU|device) (id|ordinal)",
            r"You must feed a value for placeholder tensor",
            r"^Traceback \(most recent call last\):",  # of a tf.py_function: the model's own code
        )
    ),
    re.MULTILINE,
)
"""What tensorflow says, by the class that also refuses inputs, of kernels and devices that are missing, and of graphs
that cannot run whatever they are given."""


class SavedModel:
    """Its signature `serving_default`: a tensor for its one input, or a dict by name; one output as a tensor, several
    as a dict. Numbers are cast to the declared type where that changes nothing. Raises `InputRefused`.
    """

    def __init__(self, tensorflow: Any, loaded: Any, signature: Any) -> None:
        self._tensorflow = tensorflow
        self._loaded = loaded  # its variables live as long as it does
        self._signature = signature
        # Tensorflow's own order differs from process to process.
        self._inputs: dict[str, Any] = dict(sorted(signature.structured_input_signature[1].items()))

    def __call__(self, data: Any) -> Any:
        named = data if isinstance(data, Mapping) else {next(iter(self._inputs)): data}
        if named.keys() != self._inputs.keys():
            raise InputRefused(f"the model has the inputs {', '.join(self._inputs)}, not {', '.join(map(str, named))}")
        given = {name: self._tensor(name, value) for name, value in named.items()}
        try:
            outputs = self._signature(**given)
        except (self._tensorflow.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            message = _message(error)
            if _NOT_OF_THE_INPUT.search(message):
                raise
            raise InputRefused(_reason(message)) from error
        tensors = {name: _plain(output.numpy()) for name, output in sorted(outputs.items())}
        return next(iter(tensors.values())) if len(tensors) == 1 else tensors

    def _tensor(self, name: str, value: Any) -> Any:
        spec = self._inputs[name]
        wanted = spec.dtype.as_numpy_dtype
        array = _byte_strings(value, name) if np.dtype(wanted).kind == "O" else cast_to(value, name, wanted)
        if not spec.shape.is_compatible_with(array.shape):
            raise InputRefused(f"the input '{name}' has the shape {array.shape}; the model takes {spec.shape}")
        return self._tensorflow.constant(array)


def _byte_strings(value: Any, name: str) -> Array:
    """Texts and bytes as an array of bytes, which is what a string is to tensorflow. Raises `InputRefused`."""
    if isinstance(value, torch.Tensor):
        raise InputRefused(f"the input '{name}' takes strings, and numbers were given")
    array: Array = np.array(value, object)
    if not all(isinstance(each, str | bytes) for each in array.flat):
        raise InputRefused(f"the input '{name}' takes strings, which were not given")
    try:
        encoded = [each.encode() if isinstance(each, str) else each for each in array.flat]
    except UnicodeEncodeError:
        raise InputRefused(f"the input '{name}' takes strings, and one was given that is not Unicode text") from None
    return np.array(encoded, object).reshape(array.shape)


def _plain(array: Any) -> Any:
    """Numbers as a tensor; strings as lists of them, a single one as itself."""
    if isinstance(array, bytes):  # a scalar
        return _text(array)
    if array.dtype.kind == "O":
        return np.array([_text(each) for each in array.flat], object).reshape(array.shape).tolist()
    if array.dtype.name == "bfloat16":  # a type of tensorflow's own, which torch takes for none
        return torch.from_numpy(np.atleast_1d(array).view(np.int16)).view(torch.bfloat16).reshape(array.shape)
    return torch.from_numpy(np.asarray(array))


def _text(value: bytes) -> str | bytes:
    """A text; what is no UTF-8 stays as it is.

    Each string is looked at by itself: what one client gets must not depend on those who share the call.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _message(error: Any) -> str:
    """What tensorflow says. Where that quotes bytes of an input, it fails to make an error of it, and raises this."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode("utf-8", "backslashreplace")
    return str(error.message)


def _reason(message: str) -> str:
    """What tensorflow says of an input, without its own names of places and operations."""
    lines = [_AROUND_THE_REASON.sub("", line).strip() for line in message.splitlines()]
    return next((line for line in reversed(lines) if line), "tensorflow does not take the input")


def load(path: Path, _: torch.device) -> SavedModel:
    """The model of a directory with a saved_model.pb. Raises `DeploymentError`."""
    if importlib.util.find_spec("tensorflow") is None:
        raise DeploymentError(f"{path} needs the package tensorflow: name it in code/requirements.txt.")
    tensorflow = importlib.import_module("tensorflow")
    with suppress(RuntimeError):  # the script has computed with it already, and chosen
        tensorflow.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
    try:
        loaded = tensorflow.saved_model.load(str(path))
    except Exception as error:
        raise DeploymentError(f"{path} cannot be loaded as a SavedModel: {one_line(error)}.") from error
    signature = loaded.signatures.get(_SERVING)
    if signature is None:
        names = ", ".join(loaded.signatures) or "none"
        raise DeploymentError(f"{path} has the signatures {names}, and not {_SERVING}, which is what is served.")
    return SavedModel(tensorflow, loaded, signature)
