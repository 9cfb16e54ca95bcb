"""The command `tidegate`: `serve` and `check` of the server, `pack`, `export`, `publish` and more of training_hooks,
`cloud` (the local cloud), `doctor` (of an AWS account), `init` (a project to begin with) and `completion`.

The working directory is not looked in for modules, and PYTHONPATH last: both may hold a user's modules.
"""

from __future__ import annotations

import importlib.util
import os
import sys

from tidegate import command_line

_SERVER = ("torch", "numpy", "PIL", "uvloop", "httptools")
_OF_TRAINING_HOOKS = ("pack", "export", "lineage", "publish", "retire", "label", "unlabel", "list")


def main() -> int:
    """Run the command; returns its exit status."""
    _look_in_pythonpath_last()
    if sys.argv[1:2] == ["serve"]:
        return _run()  # its output is a log, for as long as it serves
    return command_line.run(_run, program="tidegate cloud" if sys.argv[1:2] == ["cloud"] else "tidegate")


def _run() -> int:
    command = sys.argv[1] if sys.argv[1:] else ""
    if command in _OF_TRAINING_HOOKS:
        return _training_hooks()
    if command == "cloud":
        return _cloud()
    if command == "doctor":
        return _doctor()
    if command == "init":
        return _init()
    if command == "completion":
        from tidegate.completion import main as completion  # noqa: PLC0415 - only where it is meant

        return completion(sys.argv[2:], program="tidegate completion", run=_run)
    if command in ("serve", "check") and "--help" not in sys.argv and "-h" not in sys.argv:
        missing = [name for name in _SERVER if importlib.util.find_spec(name) is None]
        if missing:
            return _lacks(missing[0], "serve")
    from tidegate.inference.__main__ import main as inference  # noqa: PLC0415 - what it imports is looked for from here

    return inference(program="tidegate", others=(*_OF_TRAINING_HOOKS, "cloud", "doctor", "init", "completion"))


def _training_hooks() -> int:
    try:
        from tidegate.training_hooks.__main__ import main as training_hooks  # noqa: PLC0415 - only where it is meant
    except ModuleNotFoundError as error:
        if error.name not in ("tqdm", *_SERVER):
            raise
        return _lacks(error.name, "training" if error.name == "tqdm" else "serve")
    return training_hooks(sys.argv[1:], program="tidegate")


def _cloud() -> int:
    try:
        from tidegate.local_cloud.__main__ import main as cloud  # noqa: PLC0415 - only where it is meant
    except ModuleNotFoundError as error:
        return _lacks(error.name, "local")
    return cloud(sys.argv[2:], program="tidegate cloud")


def _doctor() -> int:
    try:
        from tidegate.infra.doctor.command import main as doctor  # noqa: PLC0415 - only where it is meant
    except ModuleNotFoundError as error:
        return _lacks(error.name, "infra")
    return doctor(sys.argv[2:], program="tidegate doctor")


def _init() -> int:
    try:
        from tidegate.starter.command import main as init  # noqa: PLC0415 - only where it is meant
    except ModuleNotFoundError:
        print("tidegate: error: The image has no project to begin with: pip install tidegate.", file=sys.stderr)  # noqa: T201
        return 1
    return init(sys.argv[2:], program="tidegate init")


def _lacks(module: str | None, extra: str) -> int:
    print(f"tidegate: error: This command needs {module}: pip install 'tidegate[{extra}]'.", file=sys.stderr)  # noqa: T201
    return 1


def _look_in_pythonpath_last() -> None:
    # Not dropped: where it is how packages are installed (Nix, Spack), torch comes from there.
    named = {os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}  # noqa: PTH100
    sys.path.sort(key=lambda place: place in named)


if __name__ == "__main__":
    sys.exit(main())
