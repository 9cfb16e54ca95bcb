"""What the server does where the user's script defines no function of its own."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from inference.errors import DeploymentError
from inference.worker.content import decode, encode, split_media_type
from inference.worker.user_code import one_line

SUFFIXES = (".pt", ".pth")


def device() -> torch.device:
    """The worker's own GPU (set before `model_fn` runs), else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def model_fn(model_dir: str) -> Any:
    """Load `model.pt`, or else the only `.pt` or `.pth` file, which must be TorchScript. Raises `DeploymentError`."""
    path = _weights(Path(model_dir))
    kind = _kind(path)
    if kind != "TorchScript":
        raise DeploymentError(
            f"{path} is {kind}, which cannot be served without code: add code/inference.py with a model_fn that builds "
            "the network and loads it."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # archives in TorchScript exist, and loading them stays
            return torch.jit.load(path, map_location=device()).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise DeploymentError(f"{path} cannot be loaded as TorchScript: {one_line(error)}.") from error


def _weights(model_dir: Path) -> Path:
    if (model_dir / "model.pt").is_file():
        return model_dir / "model.pt"
    found = sorted(path for path in model_dir.iterdir() if path.suffix in SUFFIXES and path.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise DeploymentError(f"{model_dir} holds several models ({names}); name one model.pt or define a model_fn.")
    names = ", ".join(sorted(path.name for path in model_dir.iterdir())[:10])
    raise DeploymentError(
        f"{model_dir} holds neither code/inference.py with a model_fn nor a model that can be served without one "
        f"(a TorchScript .pt or .pth file); it holds: {names}."
    )


def _kind(path: Path) -> str:
    # By the members of the zip, because every kind of file bears every suffix.
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "not a file that torch.save or torch.jit.save wrote (or it is damaged)"
    if any(name.endswith("/constants.pkl") for name in names):
        return "TorchScript"
    if any(name.endswith("/data.pkl") for name in names):
        return "a state dict or a pickled module"
    return "no kind of model that is known here"


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
