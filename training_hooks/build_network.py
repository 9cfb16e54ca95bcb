"""Build the network that an artifact names and load its weights. Run as a script, in its own process.

    python -P build_network.py MODEL_DIR WEIGHTS_FILE DESCRIPTION      the last line on standard error says why not

`code/` and the model directory are importable and the working directory is the model directory, as in the server.
DESCRIPTION is the JSON object of the manifest's `weights`.
"""

import importlib
import json
import os
import sys
from pathlib import Path

import torch


class NotBuilt(Exception):
    """The network cannot be built or loaded; the text is one line that says why."""


def build(model_dir: Path, weights_name: str, architecture: str, arguments: dict[str, object]) -> torch.nn.Module:
    """Return the network that `architecture` names, with its weights. Raises `NotBuilt`."""
    os.chdir(model_dir)
    sys.path[:0] = [str(model_dir / "code"), str(model_dir)]
    module, _, name = architecture.partition(":")
    try:
        network = getattr(importlib.import_module(module), name)(**arguments)
    except Exception as error:
        raise NotBuilt(
            f"{architecture!r} cannot be built from code_dir: {type(error).__name__}: {_one_line(error)}"
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise NotBuilt(f"{architecture!r} makes a {type(network).__name__}, not a torch.nn.Module")
    try:
        network.load_state_dict(_state(weights_name))
    except Exception as error:
        raise NotBuilt(f"the weights do not fit {architecture!r}: {_one_line(error)}") from error
    return network


def _state(weights_name: str) -> dict[str, torch.Tensor]:
    if weights_name.endswith(".safetensors"):
        state: dict[str, torch.Tensor] = importlib.import_module("safetensors.torch").load_file(weights_name)
    else:
        state = torch.load(weights_name, weights_only=True, map_location="cpu")
    return state


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500].rstrip(".")


if __name__ == "__main__":
    directory, file, description = sys.argv[1:]
    described = json.loads(description)
    try:
        build(Path(directory), file, described["architecture"], described["arguments"])
    except NotBuilt as problem:
        sys.exit(str(problem))
