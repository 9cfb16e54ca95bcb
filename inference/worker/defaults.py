"""What the server does where the user's script defines no function of its own."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from inference.errors import BadRequest
from inference.worker import weights
from inference.worker.accept import demand_some
from inference.worker.content import decode, encode, split_media_type

log = logging.getLogger("tidegate.worker")

_MISFITS = re.compile(
    "|".join(
        (
            r"shapes cannot be multiplied",
            r"size mismatch, got",
            r"mat1 and mat2 must have the same",
            r"Input type \(.*\) and (bias|weight) type \(",
            r"expected scalar type",
            r"to have one of the following scalar types",
            r"not implemented for '(Byte|Char|Short|Int|Long|Bool)'",
            r"[Ee]xpected \d\w* .*input",
            r"to have \d+ channels, but got",
            r"Given normalized_shape=",
            r"running_mean should contain",
            r"input\.size\(-1\) must be equal to input_size",
            r"Kernel size can't be greater than actual input size",
            r"Output size is too small",
            r"The size of tensor a .* must match the size of tensor b",
            r"shape '.*' is invalid for input of size",
            r"input has inconsistent input_size",
            r"need to be at least \dD",
            r"index out of range in self",
            r"Dimension out of range",
            r"Expected a value of type 'Dict.*' for argument '.*' but instead found type 'Tensor",
            r"the model has the inputs .*, not ",
        )
    )
)
"""What torch's own layers say of an input whose shape, type or indices are not those that they were built for."""

_WANTS_A_TENSOR = re.compile(
    r"instead found type 'dict'|must be Tensor, not dict|'dict' object has no attribute|unsupported operand .*'dict'"
)
"""What a model that takes a tensor says of the dict that an npz body has become."""

_SCRIPTS_KEY_ERROR = re.compile(r"^RuntimeError: KeyError: (.*)$", re.MULTILINE)


class _Home(NamedTuple):
    """Where a model's numbers are, and of which type: None where it has none, or of several types."""

    place: torch.device | None
    dtype: torch.dtype | None


def device() -> torch.device:
    """The worker's own GPU (set before `model_fn` runs), else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def model_fn(model_dir: str, *, trust_pickle: bool = False) -> Any:
    """Load what needs no code, or the architecture that the manifest names; see `weights.load`."""
    return weights.load(Path(model_dir), device(), trust_pickle=trust_pickle)


def input_fn(input_data: str | bytearray, content_type: str | None, *, max_decoded_bytes: int) -> Any:
    """Decode to tensors; see `content.decode`."""
    return decode(input_data, split_media_type(content_type or "")[0], max_decoded_bytes=max_decoded_bytes)


def predict_fn(data: Any, model: Any) -> Any:
    """Call the model in evaluation mode without gradients, on its device and in its floating type.

    As in the AWS container, a module that `model_fn` left on the CPU is moved to the worker's GPU. Whole numbers stay
    such. Not in inference mode: scripts go on with what they get, and may change it in place.

    A dict of one tensor is given as that tensor to a model that takes no dict.

    Raises `BadRequest` where torch's layers say that the input does not fit them: nobody but the client chose it.
    """
    home = _settled(model) if isinstance(model, torch.nn.Module) else _Home(None, None)
    try:
        with torch.no_grad():
            return model(to_device(data, home.place, home.dtype))
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        misfit = _misfit(error, data)
        if misfit is None:
            raise
        if not (isinstance(data, dict) and len(data) == 1 and _WANTS_A_TENSOR.search(misfit)):
            log.warning("the model does not take an input", extra={"shape": _shape(data), "reason": misfit})
            raise BadRequest(f"The model does not take an input of {_shape(data)}: {misfit}.") from error
    (alone,) = data.values()
    return predict_fn(alone, model)


@lru_cache(maxsize=4)  # a worker has one model, whose tensors are many
def _settled(model: torch.nn.Module) -> _Home:
    with suppress(NotImplementedError):  # the module of an exported program has one mode only
        model.eval()
    place = device()
    if place.type == "cuda" and {tensor.device.type for tensor in _tensors(model)} == {"cpu"}:
        model.to(place)
    tensors = list(_tensors(model))
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return _Home(tensors[0].device if tensors else None, dtypes.pop() if len(dtypes) == 1 else None)


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def to_device(data: Any, place: torch.device | None, dtype: torch.dtype | None = None) -> Any:
    """Tensors, also inside a dict, on `place` and, where they are floating-point numbers, of the type `dtype`."""
    if isinstance(data, torch.Tensor):
        # numpy's numbers are float64 unless somebody says otherwise, and a float32 model would refuse them.
        return data.to(place, dtype if data.is_floating_point() else None)
    if isinstance(data, dict):
        return {key: to_device(value, place, dtype) for key, value in data.items()}
    return data


def _misfit(error: Exception, data: Any) -> str | None:
    """Which of its lines says that the input does not fit; TorchScript puts many others around it."""
    if isinstance(data, dict) and (missing := _missing_key(error)) is not None and missing not in data:
        return f"it asks for '{missing}'"
    lines = (line.strip() for line in str(error).splitlines())
    says_so = (_MISFITS, _WANTS_A_TENSOR) if isinstance(data, dict) else (_MISFITS,)
    found = next((line for line in lines if any(pattern.search(line) for pattern in says_so)), None)
    return found.removeprefix("RuntimeError: ").rstrip(".")[:300] if found else None


def _missing_key(error: Exception) -> str | None:
    if isinstance(error, KeyError):
        return str(error.args[0]) if error.args else None
    found = _SCRIPTS_KEY_ERROR.search(str(error))
    return found[1] if found else None


def _shape(data: Any) -> str:
    if isinstance(data, torch.Tensor):
        return f"the shape {tuple(data.shape)} and the type {str(data.dtype).removeprefix('torch.')}"
    if isinstance(data, dict):
        return ", ".join(f"'{key}': {_shape(value)}" for key, value in data.items())[:500]
    return f"the type {type(data).__name__}"


def output_fn(prediction: Any, accept: str) -> bytes:
    """Encode tensors, arrays, numbers, strings, and lists, tuples and dicts of them; see `content.encode`."""
    demand_some(accept)
    return encode(prediction, split_media_type(accept)[0])


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """A tensor that output_fn returned as it is, in `torch.save` form, as TorchServe sent it."""
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()
