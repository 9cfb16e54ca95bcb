"""Weights from a file, read as data, into the network that they belong to."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError

_SAFETENSORS_HEAD_BYTES = 9
_WRAPPERS = ("module.", "_orig_mod.")
"""Put before each name by DataParallel and by torch.compile."""


def load_into(network: torch.nn.Module, path: Path, *, called: str) -> None:
    """Give the network exactly the weights of a file of `torch.save(state_dict)`, or of safetensors.

    `called` is what people call the file, which may lie in a cache. Raises `DeploymentError`.
    """
    state = _safetensors(path, called) if _is_safetensors(path) else _saved(path, called)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise DeploymentError(f"{called} holds a {type(state).__name__}, no weights by name: save the state_dict.")
    if inner := [name for name, value in state.items() if isinstance(value, Mapping)]:
        raise DeploymentError(
            f"{called} holds {_some(map(repr, state))}, and weights below {inner[0]!r}: save that state_dict alone."
        )
    try:
        keys = network.load_state_dict(dict(state), strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise DeploymentError(f"{called} does not fit {_name(network)}: {_one_line(error)}.") from error
    missing, unexpected = list(keys.missing_keys), list(keys.unexpected_keys)
    if missing or unexpected:
        faults = [f"lacks {_some(missing)}"] if missing else []
        faults += [f"has {_some(unexpected)}, which it does not know"] if unexpected else []
        raise DeploymentError(
            f"{called} does not fit {_name(network)}: it {' and '.join(faults)}{_wrapped(state, missing)}."
        )


def _wrapped(state: Mapping[str, Any], missing: list[str]) -> str:
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state) and {prefix + name for name in missing} & state.keys():
            return f"; every name in the file begins with {prefix!r}: save the state_dict of the module inside"
    return ""


def _is_safetensors(path: Path) -> bool:
    # By what it holds: in a cache a file has no name.
    with path.open("rb") as file:
        head = file.read(_SAFETENSORS_HEAD_BYTES)
    return len(head) == _SAFETENSORS_HEAD_BYTES and head.endswith(b"{") and not zipfile.is_zipfile(path)


def _saved(path: Path, called: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its reader trips over
        if isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error):
            raise DeploymentError(
                f"{called} holds more than weights, and reading it would run code: save its state_dict."
            ) from error
        raise DeploymentError(
            f"{called} is not a file that torch.save or safetensors wrote, or it is damaged: {_one_line(error)}."
        ) from error


def _safetensors(path: Path, called: str) -> dict[str, torch.Tensor]:
    if importlib.util.find_spec("safetensors") is None:
        raise DeploymentError(f"{called} needs the package safetensors: pip install safetensors.")
    module = importlib.import_module("safetensors")
    try:
        with module.safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as error:
        raise DeploymentError(f"{called} cannot be loaded as safetensors: {_one_line(error)}.") from error


def _name(network: torch.nn.Module) -> str:
    return f"{type(network).__module__}:{type(network).__qualname__}"


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")


def _one_line(error: BaseException, limit: int = 300) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
