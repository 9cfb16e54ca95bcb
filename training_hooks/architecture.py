"""The network's class, named in the manifest, so that the server can build it without a `model_fn`."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .arguments import kind_of, shown
from .errors import ArtifactError
from .plain_values import to_plain

CHECK_TIMEOUT_S = 300.0

_BUILDER = Path(__file__).with_name("build_network.py")


def describe_architecture(architecture: object, arguments: object, code_dir: object) -> dict[str, Any]:
    """Return the manifest's `weights.architecture` and `weights.arguments`; nothing where no class is named.

    Raises:
        ArtifactError: a name that is not `module:Class`, or arguments that JSON cannot hold or nobody takes.
    """
    if architecture is None:
        if arguments is not None:
            raise ArtifactError("arguments are given without an architecture that takes them")
        return {}
    if code_dir is None:
        raise ArtifactError(f"the architecture {shown(architecture)} needs code_dir, the folder with its module")
    module, _, name = architecture.partition(":") if isinstance(architecture, str) else ("", "", "")
    if not (all(part.isidentifier() for part in module.split(".")) and name.isidentifier()):
        raise ArtifactError(
            f"architecture is {shown(architecture)}; name it as 'module:Class', such as 'digit_net:DigitNet'"
        )
    if arguments is not None and not isinstance(arguments, Mapping):
        raise ArtifactError(f"arguments is {kind_of(arguments)}; give a mapping of keywords")
    return {"architecture": architecture, "arguments": to_plain(arguments or {}, "arguments")}


def check_architecture(model_dir: Path, weights: Mapping[str, Any]) -> None:
    """Build the network of a staged artifact in a fresh process, as the server will, and load its weights into it.

    Raises:
        ArtifactError: the class is not in `code/`, takes other arguments, or does not fit the weights.
    """
    # -P keeps this package's own directory off the path; -B keeps __pycache__ out of the artifact.
    command = [sys.executable, "-P", "-B", str(_BUILDER), str(model_dir), json.dumps(weights)]
    architecture = weights["architecture"]
    try:
        done = subprocess.run(
            command,
            check=False,
            timeout=CHECK_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"{architecture!r} was not built within {CHECK_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise ArtifactError(said[-1] if said else f"{architecture!r} ended its process (status {done.returncode})")
