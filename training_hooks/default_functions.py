"""What the server does where the archive's own code lacks a function, for the bodies that examples usually have.

Loaded in the process that answers an example, by path: nothing of training_hooks is there, as in the server. The
contract tests hold it to the server's own defaults.
"""

import csv
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"
_NUMBERS = (frozenset({int}), frozenset({float}), frozenset({int, float}), frozenset({bool}))


class NoDefault(Exception):
    """The defaults here do not reach that far; the text is the end of a sentence."""


def model_fn(model_dir: str) -> Any:
    """Load the directory's TorchScript file: model.pt, else the only .pt or .pth file."""
    found = [path for path in sorted(Path(model_dir).iterdir()) if path.suffix in (".pt", ".pth")]
    chosen = [path for path in found if path.name == "model.pt"] or found
    if len(chosen) != 1 or not is_torch_script(chosen[0]):
        raise NoDefault(
            "there is neither a model_fn nor one TorchScript file nor a named architecture; define model_fn, or give "
            "the response"
        )
    return torch.jit.load(chosen[0], map_location="cpu")  # type: ignore[no-untyped-call]


def input_fn(body: str | bytes, content_type: str) -> Any:
    """Decode JSON, CSV and npy."""
    if content_type == NPY and isinstance(body, bytes):
        return torch.from_numpy(np.load(io.BytesIO(body), allow_pickle=False))
    if content_type == JSON:
        value = json.loads(body)
        if isinstance(value, dict):
            return {name: _floats(item) for name, item in value.items()}
        return _floats(value)
    if content_type == CSV and isinstance(body, str):
        return _floats([[float(cell) for cell in row] for row in csv.reader(io.StringIO(body, newline="")) if row])
    raise NoDefault(
        f"there is no input_fn, and none is taken for granted here for {content_type}; define it, or give the response"
    )


def dictionary(body: str | bytes, content_type: str) -> dict[str, Any]:
    """Decode JSON and npz for a model of `create_model`: lists of numbers are arrays, any other value is itself."""
    if content_type == NPZ and isinstance(body, bytes):
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            return dict(arrays)
    value = json.loads(body) if content_type == JSON else None
    if not isinstance(value, dict):
        raise NoDefault(f"a model of create_model takes a JSON object or npz, and the example is {content_type}")
    return {name: _array(each) for name, each in value.items()}


def _array(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    shape, level = [len(value)], value
    while level and set(map(type, level)) == {list}:
        lengths = {len(each) for each in level}
        if len(lengths) != 1:
            return value
        shape.append(lengths.pop())
        level = [item for each in level for item in each]
    kinds = frozenset(map(type, level))
    if level and kinds not in _NUMBERS:
        return value
    whole = int in kinds and float not in kinds
    dtype: Any = bool if bool in kinds else np.float64
    if whole:
        dtype = np.uint64 if min(level) >= 0 and max(level) > np.iinfo(np.int64).max else np.int64
    try:
        return np.array(level, dtype=dtype).reshape(shape)
    except (OverflowError, ValueError):
        return value


def predict_fn(data: Any, model: Any) -> Any:
    """Call the model in evaluation mode without gradients, on its device and in its floating type.

    An object of one array is given as that array to a model that takes no dict.
    """
    first = None
    if isinstance(model, torch.nn.Module):
        model.eval()
        first = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)
    given = _moved(data, first)
    with torch.no_grad():
        try:
            return model(given)
        except (TypeError, AttributeError, RuntimeError):
            if not isinstance(given, dict) or len(given) != 1:
                raise
        (alone,) = given.values()
        return model(alone)


def output_fn(prediction: Any, accept: str) -> bytes:
    """Encode as JSON or npy."""
    media_type = accept.partition(";")[0].strip().lower()
    if media_type == JSON:
        return json.dumps(_plain(prediction)).encode()
    if media_type == NPY:
        buffer = io.BytesIO()
        value = prediction.detach().cpu() if isinstance(prediction, torch.Tensor) else prediction
        value = value.float() if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16 else value
        np.save(buffer, np.asarray(value), allow_pickle=False)
        return buffer.getvalue()
    raise NoDefault(
        f"there is no output_fn, and none is taken for granted here for {accept}; define it, or give the response"
    )


def lines(items: list[Any], accept: str) -> bytes:
    """Encode each item that predict_fn has yielded as a line of JSON, as the server does."""
    media_type = accept.partition(";")[0].strip().lower()
    if media_type not in (JSON, "application/jsonlines"):
        raise NoDefault(
            f"there is no output_fn, and a generator of predict_fn is not encoded here for {accept}; define it, or "
            "give the response"
        )
    return b"".join(json.dumps(_plain(item)).encode() + b"\n" for item in items)


def is_torch_script(path: Path) -> bool:
    """Say whether the file holds a network in TorchScript."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _floats(value: object) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float32)


def _moved(data: Any, like: torch.Tensor | None) -> Any:
    if isinstance(data, Mapping):
        return {name: _moved(value, like) for name, value in data.items()}
    if not isinstance(data, torch.Tensor) or like is None:
        return data
    return data.to(like.device, like.dtype if data.is_floating_point() else None)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
