"""The command `tidegate`: `serve` and `check` of the server, `pack`, `export`, `publish` and more of training_hooks.

The working directory is not looked in for modules, and PYTHONPATH last: both may hold a user's modules.
"""

from __future__ import annotations

import os
import sys

_OF_TRAINING_HOOKS = ("pack", "export", "lineage", "publish", "retire", "label", "unlabel", "list")


def main() -> int:
    """Run the command; returns its exit status."""
    _look_in_pythonpath_last()
    if sys.argv[1:2] and sys.argv[1] in _OF_TRAINING_HOOKS:
        return _training_hooks()
    from tidegate.inference.__main__ import main as inference  # noqa: PLC0415 - what it imports is looked for from here

    return inference(program="tidegate", others=_OF_TRAINING_HOOKS)


def _training_hooks() -> int:
    try:
        from tidegate.training_hooks.__main__ import main as training_hooks  # noqa: PLC0415 - only where it is meant
    except ModuleNotFoundError as error:
        if error.name != "tqdm":
            raise
        print("tidegate: error: This command needs tqdm: pip install 'tidegate[training]'.", file=sys.stderr)  # noqa: T201
        return 1
    return training_hooks(sys.argv[1:], program="tidegate")


def _look_in_pythonpath_last() -> None:
    # Not dropped: where it is how packages are installed (Nix, Spack), torch comes from there.
    named = {os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}  # noqa: PTH100
    sys.path.sort(key=lambda place: place in named)


if __name__ == "__main__":
    sys.exit(main())
