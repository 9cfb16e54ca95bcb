"""What an `MLmodel` file says, as far as it decides whether and how the model may be loaded.

The file is YAML that a stranger may have written: it is read as plain data, every path in it must stay in the model
directory, and what would run code while it is read is only loaded where the deployer has said that he trusts it.
Files below `code/`, and a model that is itself a Python file, are code of the archive, as `code/inference.py` is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import CODE, MLMODEL

PYTHON_FUNCTION, PYTORCH = "python_function", "pytorch"
"""The flavours: how any library loads the model, and what there is of it for torch."""
TRUST_PICKLED, TRUST_COMPILED = "TIDEGATE_TRUST_PICKLED_MODEL", "TIDEGATE_TRUST_COMPILED_MODEL"

_MAX_BYTES = 16 * 1024 * 1024
_PYTORCH_LOADER, _PYTHON_LOADER = "mlflow.pytorch", "mlflow.pyfunc.model"
_CODE_LOADERS = "mlflow.pyfunc.loaders."
_DATA_ONLY = frozenset({"mlflow.onnx"})
"""Loaders of MLflow that read files without a pickle in them."""
_ZIP = b"PK\x03\x04"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True, slots=True, kw_only=True)
class MLmodel:
    """The flavour `python_function` of a model, whose paths have been found to stay in its directory."""

    root: Path
    flavour: Mapping[str, Any]

    @property
    def loader(self) -> str:
        """The module that loads the model, such as `mlflow.pytorch`."""
        return str(self.flavour.get("loader_module"))

    @property
    def data(self) -> Path:
        """What the loader is given."""
        name = self.flavour.get("data")
        return self.root if name is None else self.root / str(name)


def is_there(root: Path) -> bool:
    """Whether MLflow saved the model."""
    return (root / MLMODEL).is_file()


def read(root: Path) -> MLmodel:
    """The model in `root`. Raises `DeploymentError`."""
    path = root / MLMODEL
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DeploymentError(f"{path} has {path.stat().st_size} bytes; an MLmodel file is a short text.")
        said = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise DeploymentError(f"{path} cannot be read as YAML: {one_line(error)}.") from None
    flavours = said.get("flavors") if isinstance(said, dict) else None
    if not isinstance(flavours, dict) or not all(isinstance(each, dict) for each in flavours.values()):
        raise DeploymentError(f"{path} has no 'flavors', so that nothing says how the model is loaded.")
    if PYTHON_FUNCTION not in flavours:
        raise DeploymentError(
            f"{path} has the flavours {', '.join(map(str, flavours)) or 'none'}, and only {PYTHON_FUNCTION} can be "
            "served; add code/inference.py with a model_fn that loads the model."
        )
    for place, value in _paths(said, flavours):
        if not isinstance(value, str):
            raise DeploymentError(f"{path}: {place} must be a path; it is a {type(value).__name__}.")
        if "\0" in value or not _is_below(root, value):
            raise DeploymentError(f"{path}: {place} is {value!r}, which is outside the model directory.")
    found = MLmodel(root=root, flavour=flavours[PYTHON_FUNCTION])
    if not isinstance(found.flavour.get("loader_module"), str):
        raise DeploymentError(f"{path}: flavors.{PYTHON_FUNCTION} names no loader_module.")
    return found


def demand_trust(model: MLmodel, *, trust_pickle: bool, trust_compiled: bool) -> None:
    """Raise `DeploymentError` for a model that may run code while it is read and that nobody has said to trust."""
    wanted = needed_trust(model)
    if wanted is None or (trust_pickle if wanted == TRUST_PICKLED else trust_compiled):
        return
    instead = {
        _PYTORCH_LOADER: "save the network with training_hooks.save_model",
        _PYTHON_LOADER: "save the model as code (python_model='file.py')",
    }.get(model.loader, "add code/inference.py with a model_fn that reads it as data")
    what = "is a compiled program" if wanted == TRUST_COMPILED else f"is unpickled by {model.loader}"
    raise DeploymentError(
        f"The MLflow model in {model.root} {what}, which may run code while it is read: {instead}, or set {wanted}=on "
        "if you trust the archive."
    )


def needed_trust(model: MLmodel) -> str | None:
    """The variable that has to be on for this model, None where it is read as data or is code of the archive itself."""
    if model.loader == _PYTORCH_LOADER:
        if is_torch_script(model):
            return None
        return TRUST_PICKLED if _pytorch_file(model).is_file() else TRUST_COMPILED
    if model.loader == _PYTHON_LOADER or model.loader.startswith(_CODE_LOADERS):
        return None if model.flavour.get("model_code_path") else TRUST_PICKLED
    if model.loader in _DATA_ONLY or _is_code_of_the_archive(model):
        return None
    return TRUST_PICKLED  # scikit-learn and its like, and what a later version of MLflow may bring


def is_torch_script(model: MLmodel) -> bool:
    """Whether MLflow's loader for torch will find TorchScript, which is read without unpickling.

    It calls `torch.load`, so this asks what that asks: another reader of zips may see other members of a file that was
    made for it.
    """
    path = _pytorch_file(model)
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return False
        return "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records()
    except (OSError, RuntimeError):
        return False


def _pytorch_file(model: MLmodel) -> Path:
    return model.data / "model.pth" if model.data.is_dir() else model.data


def _is_code_of_the_archive(model: MLmodel) -> bool:
    name = model.loader.partition(".")[0]
    folders = (model.root / str(model.flavour.get("code") or CODE), model.root)
    return name != "mlflow" and any((folder / f"{name}.py").is_file() or (folder / name).is_dir() for folder in folders)


def _paths(said: Mapping[str, Any], flavours: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Everything that MLflow opens below the model directory, and where it says so."""
    for flavour, about in flavours.items():
        for key in ("data", "model_data", "code", "python_model", "model_path"):
            if about.get(key) is not None:
                yield f"flavors.{flavour}.{key}", about[key]
        if isinstance(about.get("model_code_path"), str):
            yield (
                f"flavors.{flavour}.model_code_path",
                Path(about["model_code_path"]).name,
            )  # MLflow takes the name alone
        environment = about.get("env")
        named = environment.items() if isinstance(environment, dict) else [("", environment)]
        for key, value in named:
            if value is not None:
                yield f"flavors.{flavour}.env.{key}".rstrip("."), value
        for key, value in _members(about.get("artifacts")):
            if isinstance(value, dict) and value.get("path") is not None:
                yield f"flavors.{flavour}.artifacts.{key}.path", value["path"]
        extra = about.get("extra_files")
        for at, value in enumerate(extra if isinstance(extra, list) else ()):
            if isinstance(value, dict) and value.get("path") is not None:
                yield f"flavors.{flavour}.extra_files[{at}].path", value["path"]
    for key, value in _members(said.get("saved_input_example_info")):
        if key.endswith("_path") and value is not None:
            yield f"saved_input_example_info.{key}", value


def _members(value: Any) -> list[tuple[str, Any]]:
    return [(str(key), each) for key, each in value.items()] if isinstance(value, dict) else []


def _is_below(root: Path, name: str) -> bool:
    if _ADDRESS.match(name):  # MLflow would fetch it
        return False
    return (root / name).resolve().is_relative_to(root.resolve())
