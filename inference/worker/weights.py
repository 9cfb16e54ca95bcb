"""From weights on disk to a model, for archives that leave loading to the server.

TorchScript and ONNX files hold their network. A state dict, of torch.save or as safetensors, needs one: the manifest
names a class or function of the archive's own code, which is called with the arguments that stand there, too.

    "weights": {"file": "model.pth", "architecture": "digit_net:DigitNet", "arguments": {"hidden": 64}}

Files are read as data. A pickled module runs code while it is read, and is only loaded where the deployer trusts it.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pickle
import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import CODE, MANIFEST
from tidegate.inference.state_dicts import safetensors_file, tied_weights
from tidegate.inference.worker import artifact, onnx_model, pickled_module

log = logging.getLogger("tidegate.worker")

TORCH = (".pt", ".pth")
SAFETENSORS, ONNX = ".safetensors", ".onnx"
_NOTES = frozenset({".py", ".txt", ".md", ".json", ".yaml", ".yml", ".toml"})
TRUST = "TIDEGATE_TRUST_PICKLED_MODEL"
"""The variable by which the deployer says that the archive may run code while its model is read."""


def load(model_dir: Path, place: torch.device, *, trust_pickle: bool = False) -> Any:
    """The model of `model_dir`, on `place` and in evaluation mode.

    The file is the manifest's `weights.file` where that names an architecture; else `model.pt`; else the only .pt or
    .pth file, the only .safetensors or the only .onnx, in this order. Raises `DeploymentError`.
    """
    described = artifact.read_manifest(model_dir).get("weights")
    described = described if isinstance(described, dict) else {}
    path = _named(model_dir, described) or _found(model_dir)
    if path.suffix == ONNX:
        return onnx_model.load(path, place)
    if path.suffix != SAFETENSORS and _is_torch_script(path):
        return _torch_script(path, place)
    architecture = described.get("architecture")
    if architecture is None and not (trust_pickle and path.suffix in TORCH):
        raise DeploymentError(
            f"{path} is {_kind(path)}, which cannot be served without code: add code/inference.py with a model_fn that "
            "builds the network and loads it, or name the network's class as weights.architecture in manifest.json"
            f"{_or_trust(path)}.{artifact.disregarded(model_dir)}"
        )
    if path.suffix == SAFETENSORS:
        state, kept_as = safetensors_file.read(path, place, called=path, way_out="name it in code/requirements.txt")
    else:
        state, kept_as = _saved(path, place, trust_pickle=trust_pickle), {}
    if isinstance(state, torch.nn.Module):
        return state.to(place).eval()
    if architecture is None:
        raise DeploymentError(f"{path} holds a {type(state).__name__}, no module; name weights.architecture for it.")
    model = _built(model_dir, architecture, described.get("arguments", {}))
    try:
        tied_weights.fill(state, model, kept_as)
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise DeploymentError(f"{path} does not fit '{architecture}': {one_line(error)}.") from error
    for taken, other in tied_weights.contradictions(state, model):
        log.warning(
            "%s has other values for %s than for %s, which is the same tensor in the network: those of %s are taken",
            path,
            other,
            taken,
            taken,
        )
    return model.to(place).eval()


def is_missing(model_dir: Path) -> bool:
    """Whether a directory has nothing that could be a model: only code, notes, or nothing."""
    if "weights" in artifact.read_manifest(model_dir):
        return False
    others = (path for path in _visible(model_dir) if path.suffix not in _NOTES or not path.is_file())
    return not any(path.name not in (CODE, "example") for path in others)


def builds_with(module_name: str, manifest: dict[str, Any]) -> bool:
    """Whether the manifest's architecture is in the module of this name."""
    described = manifest.get("weights")
    return isinstance(described, dict) and str(described.get("architecture")).startswith(f"{module_name}:")


def damaged(model_dir: Path) -> list[str]:
    """The names of the model files here that neither torch.save, today's or that before torch 1.6, nor jit wrote."""
    found = [path for path in _visible(model_dir) if path.suffix in TORCH and path.is_file()]
    return [path.name for path in found if not zipfile.is_zipfile(path) and _first_byte(path) != b"\x80"]


def _visible(model_dir: Path) -> list[Path]:
    # The tar of macOS puts a `._model.pth` beside each model.pth.
    return sorted(path for path in model_dir.iterdir() if not path.name.startswith("."))


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _named(model_dir: Path, described: dict[str, Any]) -> Path | None:
    if "architecture" not in described:
        return None
    path = artifact.below(model_dir, described.get("file"))
    if not path.is_file():
        raise DeploymentError(f"{path} is missing, although the manifest names it as weights.file.")
    return path


def _found(model_dir: Path) -> Path:
    if (model_dir / "model.pt").is_file():
        return model_dir / "model.pt"
    files = [path for path in _visible(model_dir) if path.is_file()]
    for suffixes in (TORCH, (SAFETENSORS,), (ONNX,)):
        found = [path for path in files if path.suffix in suffixes]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise DeploymentError(
                f"{model_dir} holds several models ({names}); name one model.pt or define a model_fn."
            )
    names = ", ".join([path.name for path in _visible(model_dir)][:10])
    raise DeploymentError(
        f"{model_dir} holds neither code/inference.py with a model_fn nor a model that can be served without one "
        f"(a TorchScript .pt or .pth file, or an .onnx file); it holds: {names}."
    )


def _members(path: Path) -> list[str]:
    # By the members of the zip, because every kind of file bears every suffix.
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []


def _is_torch_script(path: Path) -> bool:
    return any(name.endswith("/constants.pkl") for name in _members(path))


def _kind(path: Path) -> str:
    if path.suffix == SAFETENSORS:
        return "a state dict"
    if pickled_module.is_torch_save(path):
        named = pickled_module.named_class(path)
        return f"a pickled module ({named})" if named else "a state dict"
    if _members(path):
        return "no kind of model that is known here"
    return "not a file that torch.save or torch.jit.save wrote (or it is damaged)"


def _or_trust(path: Path) -> str:
    if path.suffix not in TORCH or pickled_module.named_class(path) is None:
        return ""
    return f", or set {TRUST}=on if you trust the archive, because reading it runs code"


def _torch_script(path: Path, place: torch.device) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # archives in TorchScript exist, and loading them stays
            return torch.jit.load(path, map_location=place).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise DeploymentError(
            f"{path} cannot be loaded as TorchScript: {missing_operator(error) or one_line(error)}."
        ) from error


def missing_operator(error: BaseException) -> str | None:
    """What to do about an operator, or a class, that a TorchScript file uses and nothing here has registered."""
    found = re.search(r"Unknown builtin op: ([\w:.]*\w)|Unknown type name '(?:__torch__\.)?([\w.]+)'", str(error))
    if found is None:
        return None
    what = f"the operator {found[1]}" if found[1] else f"the class {found[2]}"
    return (
        f"it needs {what}, which nothing here has registered; import the package that does, such as torchvision, in "
        "code/inference.py, and name it in code/requirements.txt"
    )


def _saved(path: Path, place: torch.device, *, trust_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location=place, weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle or not _members(path):
            raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}.") from error
        raise DeploymentError(
            f"{path} holds more than weights, and reading it would run code: save its state_dict, or set {TRUST}=on if "
            "you trust the archive."
        ) from error
    except (ImportError, AttributeError) as error:
        raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}{pickled_module.WAY_OUT}.") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}.") from error


def _built(model_dir: Path, architecture: Any, arguments: Any) -> torch.nn.Module:
    place = model_dir / MANIFEST
    module_name, _, name = str(architecture).partition(":")
    if not (module_name and name.isidentifier() and isinstance(arguments, dict)):
        raise DeploymentError(
            f"{place}: weights.architecture is 'module:Class' of the archive's code, and weights.arguments an object; "
            f"they are {architecture!r} and {arguments!r}."
        )
    try:
        # What the script has imported already stays the one copy.
        module = sys.modules.get(module_name) or importlib.import_module(module_name)
        model = getattr(module, name)(**arguments)
    except Exception as error:
        raise DeploymentError(
            f"{place}: '{architecture}' cannot be built: {type(error).__name__}: {one_line(error)}."
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise DeploymentError(f"{place}: '{architecture}' makes a {type(model).__name__}, not a torch.nn.Module.")
    return model
