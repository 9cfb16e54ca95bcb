"""Build the network that an artifact names and load its weights. Run as a script, in its own process.

    python -P build_network.py MODEL_DIR DESCRIPTION      the last line on standard error says why not

`code/` and the model directory are importable and the working directory is the model directory, as in the server.
DESCRIPTION is the JSON object of the manifest's `weights`, whose file may be an index of several.
"""

import importlib
import json
import os
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch

_INDEX = ".index.json"


class NotBuilt(Exception):
    """The network cannot be built or loaded; the text is one line that says why."""


def build(model_dir: Path, weights: dict[str, Any]) -> torch.nn.Module:
    """Return the network that `weights["architecture"]` names, with its weights. Raises `NotBuilt`."""
    model_dir = model_dir.absolute()
    os.chdir(model_dir)
    sys.path[:0] = [str(model_dir / "code"), str(model_dir)]
    architecture = str(weights["architecture"])
    module, _, name = architecture.partition(":")
    places = [model_dir / "code", model_dir]
    try:
        make = _maker(module, name, places)
        network = make(**weights.get("arguments", {}))
    except _Refused as refused:
        raise NotBuilt(f"{architecture!r} {refused}") from None
    except Exception as error:
        raise NotBuilt(
            f"{architecture!r} cannot be built from code_dir: {type(error).__name__}: {_one_line(error)}"
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise NotBuilt(f"{architecture!r} makes a {type(network).__name__}, not a torch.nn.Module")
    try:
        _fill(network, str(weights["file"]))
    except Exception as error:
        raise NotBuilt(f"the weights do not fit {architecture!r}: {_one_line(error)}") from error
    return _adapted(network, weights["adapter"]) if "adapter" in weights else network


class _Refused(Exception):
    """The name is not one of the archive's own code; the text is the end of a sentence."""


def _maker(module_name: str, name: str, places: list[Path]) -> Callable[..., Any]:
    """What may be called to build a network, as the server has it: a manifest names no function of another place."""
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise _Refused("is not 'module:Class'")
    if not any(_has(module_name, place) for place in places):
        raise ModuleNotFoundError(f"No module named {module_name!r} in the artifact")
    module = importlib.import_module(module_name)
    if not _is_own(module, places):
        raise _Refused(f"is of {getattr(module, '__file__', None) or 'Python itself'}, not of code_dir; rename yours")
    made: Callable[..., Any] = getattr(module, name)
    if isinstance(made, type) and issubclass(made, torch.nn.Module):
        return made
    function = made.__func__ if isinstance(made, MethodType) else made
    if isinstance(function, FunctionType) and _is_own(sys.modules.get(function.__module__), places):
        return made
    raise _Refused("must be a torch.nn.Module's class, or a function that a file of code_dir defines")


def _has(module_name: str, place: Path) -> bool:
    """Whether a module has a file below the place; nothing is imported."""
    places: Sequence[str] = [str(place)]
    spec = None
    for part in module_name.split("."):
        spec = PathFinder.find_spec(part, places)
        places = [] if spec is None else list(spec.submodule_search_locations or ())
        if spec is None:
            return False
    return spec is not None and spec.origin is not None


def _is_own(module: ModuleType | None, places: list[Path]) -> bool:
    found = [Path(each) for each in (getattr(module, "__file__", None), *getattr(module, "__path__", [])) if each]
    return any(
        path.absolute().is_relative_to(place) or path.resolve().is_relative_to(place.resolve())
        for path in found
        for place in places
    )


def _adapted(network: torch.nn.Module, adapter: dict[str, Any]) -> torch.nn.Module:
    try:
        peft = importlib.import_module("peft")
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "error", message="Found missing adapter keys|Adapter name"
            )  # it would go on with random numbers
            model: torch.nn.Module = peft.PeftModel.from_pretrained(network, str(adapter["directory"]))
    except Exception as error:
        raise NotBuilt(f"peft cannot put the adapter onto the network: {_one_line(error)}") from error
    return model


def _fill(network: torch.nn.Module, weights_name: str) -> None:
    """Load the weights strictly. They are mapped and not read, so that this takes the memory of the network alone."""
    state: OrderedDict[str, Any] = OrderedDict()
    kept_as: dict[str, str] = {}
    for part, tied in _parts(weights_name):
        state.update(part)
        kept_as |= tied
        if hasattr(part, "_metadata"):  # the versions of modules
            state._metadata = part._metadata  # type: ignore[attr-defined]
    own = {name: value for name, value in network.state_dict().items() if isinstance(value, torch.Tensor)}
    there = {_memory(own[name]): name for name in own.keys() & state.keys() if own[name].numel()}
    for name in own.keys() - state.keys():  # a tensor that has several names is in safetensors under one
        source = kept_as.get(name) or there.get(_memory(own[name]))
        if source is not None and source in state:
            state[name] = state[source]
    network.load_state_dict(state)


def _parts(weights_name: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    names = [weights_name]
    if weights_name.endswith(_INDEX):
        index = json.loads(Path(weights_name).read_bytes())
        names = sorted(str(Path(weights_name).parent / name) for name in set(index["weight_map"].values()))
    for name in names:
        if name.endswith(".safetensors"):
            with importlib.import_module("safetensors").safe_open(name, framework="pt") as file:
                tensors = file.keys()  # it is no mapping
                yield {tensor: file.get_tensor(tensor) for tensor in tensors}, dict(file.metadata() or {})
        else:
            yield torch.load(name, weights_only=True, map_location="cpu", mmap=_is_zip(name)), {}


def _is_zip(name: str) -> bool:
    with Path(name).open("rb") as file:
        return file.read(2) == b"PK"  # what torch before 1.6 wrote cannot be mapped


def _memory(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500].rstrip(".")


if __name__ == "__main__":
    directory, description = sys.argv[1:]
    try:
        build(Path(directory), json.loads(description))
    except NotBuilt as problem:
        sys.exit(str(problem))
