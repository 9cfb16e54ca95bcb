"""What the server does where the user's script defines no function of its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from inference.worker import weights
from inference.worker.content import decode, encode, split_media_type


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
    """Call the model on its own device, without gradients."""
    place = next((tensor.device for tensor in _tensors(model)), None)
    with torch.inference_mode():
        return model(to_device(data, place) if place is not None else data)


def _tensors(model: Any) -> Any:
    if isinstance(model, torch.nn.Module):
        yield from model.parameters()
        yield from model.buffers()


def to_device(data: Any, place: torch.device) -> Any:
    if isinstance(data, torch.Tensor):
        return data.to(place)
    if isinstance(data, dict):
        return {key: to_device(value, place) for key, value in data.items()}
    return data


def output_fn(prediction: Any, accept: str) -> bytes:
    """Encode tensors, arrays, numbers, strings, and lists, tuples and dicts of them; see `content.encode`."""
    return encode(prediction, split_media_type(accept)[0])


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """A tensor that output_fn returned as it is, in `torch.save` form, as TorchServe sent it."""
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()
