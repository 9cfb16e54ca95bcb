"""From a model on disk to a model that can be called, for archives that leave loading to the server.

Most kinds of files hold their network. A state dict, of torch.save or as safetensors, needs one: the manifest names a
class or function of the archive's own code, which is called with the arguments that stand there, too.

    "weights": {"file": "model.pth", "architecture": "digit_net:DigitNet", "arguments": {"hidden": 64}}

Files are read as data. What runs code while it is read is only loaded where the deployer trusts it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError
from tidegate.inference.model_files import damage, torch_pickle
from tidegate.inference.model_files.choice import Choice, choose, untrusted
from tidegate.inference.model_files.found import ModelFile, is_missing_below, model_files, visible
from tidegate.inference.model_files.kinds import COMPILED, TORCH_SUFFIXES, Kind, kind_of
from tidegate.inference.state_dicts import safetensors_file
from tidegate.inference.worker import artifact
from tidegate.inference.worker.formats import (
    aot_inductor,
    network,
    onnx_model,
    peft_adapter,
    saved_model,
    shards,
    state_dict,
    torch_script,
)

log = logging.getLogger("tidegate.worker")

_CPU = torch.device("cpu")


def _exported_program(path: Path, place: torch.device) -> Any:
    from tidegate.inference.worker.formats import exported_program  # noqa: PLC0415 - imports torch.export: 100 ms

    return exported_program.load(path, place)


LOADERS: dict[Kind, Callable[[Path, torch.device], Any]] = {
    Kind.TORCH_SCRIPT: torch_script.load,
    Kind.EXPORTED_PROGRAM: _exported_program,
    Kind.SAVED_MODEL: saved_model.load,
    Kind.ONNX: onnx_model.load,
}
"""Of the kinds that hold their network: from the path of the file to what can be called, on a device."""


def load(model_dir: Path, place: torch.device, *, trust_pickle: bool = False, trust_compiled: bool = False) -> Any:
    """The model of `model_dir`, on `place` and in evaluation mode; `choice` says which file it is.

    Raises `DeploymentError`.
    """
    described = artifact.read_manifest(model_dir).get("weights")
    described = described if isinstance(described, dict) else {}
    chosen = choice_of(model_dir, described, trust_compiled=trust_compiled)
    for each in chosen.passed_over:
        log.warning("%s is not served: it %s", model_dir / each.file.name, each.why)
    if chosen.problem:
        raise DeploymentError(f"{model_dir} {chosen.problem}")
    if chosen.file is None:
        held = [path.name for path in visible(model_dir)]
        names = ", ".join(held[:10])
        several = held and all(name.endswith((".tar.gz", ".tgz")) for name in held)
        whole = f"; to serve a folder of archives, set TIDEGATE_MODEL_REPOSITORY={model_dir} and name no MODEL"
        raise DeploymentError(
            f"{model_dir} holds neither code/inference.py with a model_fn nor a model that can be served without one "
            "(TorchScript, ONNX, an exported program, an AOTInductor package, a SavedModel of TensorFlow, or weights "
            f"whose network's class manifest.json names); it holds: {names}{whole if several else ''}."
        )
    path, kind = model_dir / chosen.file.name, chosen.file.kind
    if kind is Kind.AOT_INDUCTOR:
        return aot_inductor.load(path, place, described.get("signature"))
    if kind in LOADERS:
        return LOADERS[kind](path, place)
    architecture = described.get("architecture")
    pickled = kind in (Kind.STATE_DICT, Kind.PICKLED_MODULE, Kind.UNKNOWN)
    if architecture is None and kind is Kind.SAFETENSORS and (what := damage.of_safetensors(path)):
        raise DeploymentError(f"{path} cannot be loaded as safetensors: it is {what}.")
    if architecture is None and not (trust_pickle and pickled):
        raise DeploymentError(
            f"{path} is {_called(path, kind)}, which cannot be served without code: add code/inference.py with a "
            "model_fn that builds the network and loads it, or name the network's class as weights.architecture in "
            f"manifest.json{_or_trust(kind)}.{artifact.disregarded(model_dir)}"
        )
    state, kept_as = _weights(path, kind, trust_pickle=trust_pickle)
    if isinstance(state, torch.nn.Module):
        return state.to(place).eval()
    if architecture is None:
        raise DeploymentError(f"{path} holds a {type(state).__name__}, no module; name weights.architecture for it.")
    model = network.filled(path, state, kept_as, model_dir=model_dir, described=described)
    if "adapter" in described:
        model = peft_adapter.applied(model, described["adapter"], model_dir=model_dir)
    return model.to(place).eval()


def choice_of(model_dir: Path, described: Mapping[str, Any], *, trust_compiled: bool) -> Choice:
    """Which file is the model, where `described` is the manifest's `weights`. Raises `DeploymentError`."""
    if "architecture" not in described:
        return choose(model_files(model_dir), described, trust_compiled=trust_compiled)
    path = artifact.below(model_dir, described.get("file"))
    if not path.is_file():
        raise DeploymentError(f"{path} is missing, although the manifest names it as weights.file.")
    named = ModelFile(name=str(path.relative_to(model_dir)), kind=kind_of(path))
    if named.kind in COMPILED and not trust_compiled:
        raise DeploymentError(f"{path} {untrusted(named)}.")
    return Choice(file=named, why="the manifest names it")


def is_missing(model_dir: Path) -> bool:
    """Whether a directory has nothing that could be a model: only code, notes, or nothing."""
    return "weights" not in artifact.read_manifest(model_dir) and is_missing_below(model_dir)


def builds_with(module_name: str, manifest: dict[str, Any]) -> bool:
    """Whether the manifest's architecture is in the module of this name."""
    described = manifest.get("weights")
    return isinstance(described, dict) and str(described.get("architecture")).startswith(f"{module_name}:")


def damaged(model_dir: Path) -> list[str]:
    """The names of the model files here that neither torch.save, today's or that before torch 1.6, nor jit wrote."""
    found = [path for path in visible(model_dir) if path.suffix in TORCH_SUFFIXES and path.is_file()]
    return [path.name for path in found if kind_of(path) is Kind.UNKNOWN]


def _weights(path: Path, kind: Kind, *, trust_pickle: bool) -> tuple[Any, Mapping[str, str]]:
    """What a file of numbers holds, on the CPU, where the network is built."""
    if kind in (Kind.SAFETENSORS_INDEX, Kind.PICKLE_INDEX):
        return shards.read(path, lambda part: _weights(part, kind_of(part), trust_pickle=False))
    if kind is Kind.SAFETENSORS:
        return safetensors_file.read(path, _CPU, called=path, way_out="name it in code/requirements.txt")
    return state_dict.read(path, _CPU, trust_pickle=trust_pickle), {}


def _called(path: Path, kind: Kind) -> str:
    if kind is Kind.PICKLED_MODULE:
        return f"a pickled module ({torch_pickle.named_class(path)})"
    if kind is not Kind.UNKNOWN:
        return "a state dict"
    what = damage.seen(path)
    return (
        f"{what}, no file that torch.save or torch.jit.save wrote"
        if what
        else ("not a file that torch.save or torch.jit.save wrote (or it is damaged)")
    )


def _or_trust(kind: Kind) -> str:
    if kind is not Kind.PICKLED_MODULE:
        return ""
    return f", or set {state_dict.TRUST}=on if you trust the archive, because reading it runs code"
