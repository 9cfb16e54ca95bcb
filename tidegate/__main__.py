"""The command `tidegate`: `tidegate serve [MODEL_DIR]`, `tidegate check MODEL_DIR`.

The working directory is not looked in for modules, and PYTHONPATH last: both may hold a user's modules.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command; returns its exit status."""
    _look_in_pythonpath_last()
    from tidegate.inference.__main__ import main as inference  # noqa: PLC0415 - what it imports is looked for from here

    return inference(program="tidegate")


def _look_in_pythonpath_last() -> None:
    # Not dropped: where it is how packages are installed (Nix, Spack), torch comes from there.
    named = {os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}  # noqa: PTH100
    sys.path.sort(key=lambda place: place in named)


if __name__ == "__main__":
    sys.exit(main())
