"""What the server does where the user's script defines no function of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tidegate.inference.errors import BadRequest
from tidegate.inference.worker import misfit, weights
from tidegate.inference.worker.accept import demand_some
from tidegate.inference.worker.content import Decoded, Reading, decode, split_media_type
from tidegate.inference.worker.encoding import encode

log = logging.getLogger("tidegate.worker")


class _Home(NamedTuple):
    """Where a model's numbers are, and of which type: None where it has none, or of several types."""

    place: torch.device | None
    dtype: torch.dtype | None


def device() -> torch.device:
    """The worker's own GPU (set before `model_fn` runs), else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def model_fn(model_dir: str, *, trust_pickle: bool = False, trust_compiled: bool = False) -> Any:
    """Load what needs no code, or the architecture that the manifest names; see `weights.load`."""
    return weights.load(Path(model_dir), device(), trust_pickle=trust_pickle, trust_compiled=trust_compiled)


def input_fn(
    input_data: str | bytes | bytearray | memoryview,
    content_type: str | None,
    reading: Reading,
    *,
    as_rows: bool = False,
) -> Decoded:
    """Decode to tensors, and count the records; see `content.decode`. The default `predict_fn` is given rows."""
    return decode(input_data, content_type or "", reading, as_rows=as_rows)


def predict_fn(data: Any, model: Any) -> Any:
    """Call the model in evaluation mode without gradients, on its device and in its floating type.

    As in the AWS container, a module that `model_fn` left on the CPU is moved to the worker's GPU. Whole numbers stay
    such. Not in inference mode: scripts go on with what they get, and may change it in place.

    A dict of one tensor is given as that tensor to a model that takes no dict.

    Raises `BadRequest` where the input does not fit the model (see `misfit`): the client chose it.
    """
    home = _settled(model) if isinstance(model, torch.nn.Module) else _Home(None, None)
    try:
        with torch.no_grad():
            return model(to_device(data, home.place, home.dtype))
    except misfit.KINDS as error:
        reason = misfit.reason(error, data)
        if reason is None:
            raise
        if not (isinstance(data, dict) and len(data) == 1 and misfit.wants_a_tensor(reason)):
            shape = misfit.describe(data)
            log.warning("the model does not take an input", extra={"shape": shape, "reason": reason})
            raise BadRequest(f"The model does not take an input of {shape}: {reason}.") from error
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


def forget_models() -> None:
    """Refer no more to models that were called."""
    _settled.cache_clear()


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def to_device(data: Any, place: torch.device | None, dtype: torch.dtype | None = None) -> Any:
    """Tensors, also inside a dict, on `place` and, where they are floating-point numbers, of the type `dtype`."""
    if isinstance(data, torch.Tensor):
        # numpy's numbers are float64 by default, and a float32 model would refuse them.
        return data.to(place, dtype if data.is_floating_point() else None)
    if isinstance(data, dict):
        return {key: to_device(value, place, dtype) for key, value in data.items()}
    return data


def output_fn(prediction: Any, accept: str, *, records: int = 0, by_record: bool = False) -> bytes:
    """Encode tensors, arrays, numbers, strings, and lists, tuples and dicts of them; see `encoding.encode`."""
    demand_some(accept)
    return encode(prediction, split_media_type(accept)[0], records=records, by_record=by_record)
