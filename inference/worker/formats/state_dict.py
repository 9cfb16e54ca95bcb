"""Files of torch.save: read as data, or, where the deployer trusts the archive, as the objects that they pickle."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line, text_of
from tidegate.inference.model_files import damage, torch_pickle, zip_members
from tidegate.inference.worker import pickled_module

TRUST = "TIDEGATE_TRUST_PICKLED_MODEL"
"""The variable by which the deployer says that the archive may run code while its model is read."""


def read(path: Path, place: torch.device, *, trust_pickle: bool) -> Any:
    """What the file holds, with its tensors on `place`. Raises `DeploymentError`."""
    if (what := damage.seen(path)) is not None and not torch_pickle.is_torch_save(path):
        raise DeploymentError(f"{path} cannot be loaded: it is {what}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the pickle's protocol, which is read nonetheless
            return _loaded(path, place, trust_pickle=trust_pickle)
    except pickle.UnpicklingError as error:
        asks_for_code = zip_members.names(path) or (torch_pickle.is_old(path) and "Unsupported" in text_of(error))
        if not (trust_pickle or asks_for_code):
            # torch's own text advises to read it as code.
            raise DeploymentError(
                f"{path} cannot be loaded: torch.save did not write it, nor safetensors, or it is damaged."
            ) from error
        if trust_pickle:
            raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}.") from error
        raise DeploymentError(
            f"{path} holds more than weights, and reading it would run code: save its state_dict, or set {TRUST}=on if "
            "you trust the archive."
        ) from error
    except (ImportError, AttributeError) as error:
        raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}{pickled_module.WAY_OUT}.") from error
    except (struct.error, LookupError) as error:  # what torch's reader trips over where a file is cut off
        raise DeploymentError(f"{path} cannot be loaded: it is cut off or damaged ({one_line(error)}).") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}.") from error


def _loaded(path: Path, place: torch.device, *, trust_pickle: bool) -> Any:
    if path.suffix == ".safetensors":  # by this suffix torch would not look what is inside
        with path.open("rb") as file:
            return torch.load(file, map_location=place, weights_only=not trust_pickle)
    # Whoever packs such a file anew may compress it, and torch would take the compressed bytes for numbers.
    sizes = zip_members.stored_sizes(path)
    state = torch.load(path, map_location=place, weights_only=not trust_pickle, mmap=sizes is not None)
    if sizes is not None and not trust_pickle and isinstance(state, Mapping):
        _demand_that_all_is_there(state, sizes)
    return state


def _demand_that_all_is_there(state: Mapping[str, Any], sizes: list[int]) -> None:
    """Refuse tensors that have more bytes than any member: in mapped memory they go on into the next one."""
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.layout is torch.strided:
            size = value.untyped_storage().nbytes()
            if size and size not in sizes:
                raise ValueError(f"'{name}' has {size} bytes, and no member of the file has as many")
