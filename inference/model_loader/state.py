"""Weights from a file, read as data, into the network that they belong to."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line, some_of, text_of
from tidegate.inference.state_dicts import safetensors_file, tied_weights

CPU = torch.device("cpu")
_SAFETENSORS_HEAD_BYTES = 9
_ZIP = b"PK\x03\x04"
"""What a file of torch.save begins with."""
_UNSUPPORTED, _UNSUPPORTED_GLOBAL = "Unsupported", "Unsupported global"
"""In what torch says of a pickle with more in it than weights."""
_WRAPPERS = ("module.", "_orig_mod.")
"""Put before each name by DataParallel and by torch.compile."""


def load_into(network: torch.nn.Module, path: Path, *, called: str) -> None:
    """Give the network exactly the weights of a file of `torch.save(state_dict)`, or of safetensors.

    `called` is what people call the file, which may lie in a cache. Raises `DeploymentError`.
    """
    state: Any
    kept_as: Mapping[str, str] = {}
    if _is_safetensors(path):
        state, kept_as = safetensors_file.read(path, CPU, called=called, way_out="pip install safetensors")
    else:
        state = _saved(path, called)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise DeploymentError(f"{called} holds a {type(state).__name__}, no weights by name: save the state_dict.")
    if inner := [name for name, value in state.items() if isinstance(value, Mapping)]:
        raise DeploymentError(
            f"{called} holds {some_of(map(repr, state))}, and weights below {inner[0]!r}: save that state_dict alone."
        )
    state = dict(state)
    try:
        tied_weights.fill(state, network, kept_as)
        keys = network.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise DeploymentError(f"{called} does not fit {_name(network)}: {one_line(error)}.") from error
    missing, unexpected = list(keys.missing_keys), list(keys.unexpected_keys)
    if missing or unexpected:
        faults = [f"lacks {some_of(missing)}"] if missing else []
        faults += [f"has {some_of(unexpected)}, which it does not know"] if unexpected else []
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
        return torch.load(path, map_location=CPU, weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its reader trips over
        # Junk reads as a pickle with an unknown operand.
        refused = _UNSUPPORTED if _begins_as_pickle(path) else _UNSUPPORTED_GLOBAL
        if isinstance(error, pickle.UnpicklingError) and refused in text_of(error):
            raise DeploymentError(
                f"{called} holds more than weights, and reading it would run code: save its state_dict."
            ) from error
        raise DeploymentError(f"{called} {_damage(path)}.") from error


def _begins_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) in (b"\x80", _ZIP[:1])


def _damage(path: Path) -> str:
    """What can be said of a file that torch did not read; its own words for that are about its insides."""
    with path.open("rb") as file:
        head = file.read(len(_ZIP))
    if not head:
        return "is empty: write the weights again"
    if head == _ZIP:
        return f"was written by torch.save and is damaged, or its end is missing: it has {path.stat().st_size} bytes"
    return "is not a file that torch.save or safetensors wrote, or it is damaged"


def _name(network: torch.nn.Module) -> str:
    return f"{type(network).__module__}:{type(network).__qualname__}"
