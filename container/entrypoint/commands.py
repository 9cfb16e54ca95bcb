"""`docker run IMAGE serve`, `docker run IMAGE train`; anything else is run as a command.

SageMaker replaces CMD with `serve` or `train` and sends SIGTERM to this very process, so nothing may stand between:
the server runs in it, a command takes its place, and a training script gets the signal passed on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from container.entrypoint import cuda_compatibility, health, unknown_user

COMMAND_NOT_FOUND = 127  # as a shell says it


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask; returns the exit status of the container."""
    unknown_user.settle(os.environ)
    match list(arguments) or [_what_is_there_to_do()]:
        case ["serve"]:
            cuda_compatibility.apply(os.environ)
            return _serve()
        case ["train"]:
            cuda_compatibility.apply(os.environ)
            from container.entrypoint import training  # noqa: PLC0415 - the server starts without it

            return training.run(os.environ)
        case ["--health"]:
            return health.check(without_argument=_what_is_there_to_do())
        case ["serve" | "train" as command, *rest]:
            print(f"tidegate: error: '{command}' takes no arguments, and got: {' '.join(rest)}", file=sys.stderr)  # noqa: T201
            return 2
        case [command, *rest]:
            return _replace_by(command, rest)
    raise AssertionError("unreachable")


def _what_is_there_to_do() -> str:
    # The SDK's local mode starts a training job without an argument where there is no source code; a job has its
    # configuration on disk, an endpoint has none.
    config = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml") / "input/config/hyperparameters.json"
    return "train" if config.is_file() else "serve"


def _serve() -> int:
    sys.argv = ["tidegate", "serve"]
    from tidegate.inference.__main__ import main as inference  # noqa: PLC0415 - what it imports is needed only here

    return inference()


def _replace_by(command: str, rest: Sequence[str]) -> int:
    try:
        os.execvp(command, [command, *rest])  # noqa: S606 - no shell, and the words are the deployer's own
    except (OSError, ValueError) as error:  # ValueError: the empty word
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"tidegate: error: cannot run '{command}': {reason}", file=sys.stderr)  # noqa: T201
        return COMMAND_NOT_FOUND
