"""Our package `inference` bears the name that every user's script has; what is imported here is ours all the same.

Python looks in the working directory (`python -m inference`) and in PYTHONPATH before it looks where we are installed.
Why this is mended at the start of the interpreter: docs/decisions/0008-a-name-that-users-have-too.md.
"""

from __future__ import annotations

import sys
from pathlib import Path


def at_start() -> None:
    """Let `python -m inference serve` and `… check` mean ours, whatever lies in the working directory or PYTHONPATH.

    `tidegate.pth` calls this while the interpreter starts, for exactly these two words after `-m` and the module's
    name: a user's own script is still started by any other.
    """
    # A checkout of Tidegate, or a package of the user's that can be run, is meant; a single module is not.
    if _is_inference(sys.orig_argv[-len(sys.argv)]) and not Path("inference", "__main__.py").is_file():
        import_inference()


def import_inference() -> None:
    """Import the `inference` beside this package; from then on the name is taken."""
    root = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, root)
    try:
        import tidegate.inference  # noqa: PLC0415 - found in `root`

        sys.modules["inference"] = tidegate.inference
    finally:
        sys.path.remove(root)


def _is_inference(word: str) -> bool:
    # `-m inference`, `-minference`, `-um inference`: Python takes short options in one word.
    return word == "inference" or (word.startswith("-") and word.endswith("minference"))
