"""What to do about an operator that a saved model uses and nothing here has registered."""

from __future__ import annotations

import re

_TORCH_SCRIPT = re.compile(r"Unknown builtin op: ([\w:.]*\w)|Unknown type name '(?:__torch__\.)?([\w.]+)'")


def missing_operator(error: BaseException) -> str | None:
    """The operator, or class, and the way out, in words; None where the error is about something else."""
    found = _TORCH_SCRIPT.search(str(error))
    if found is None:
        return None
    what = f"the operator {found[1]}" if found[1] else f"the class {found[2]}"
    return (
        f"it needs {what}, which nothing here has registered; import the package that does, such as torchvision, in "
        "code/inference.py, and name it in code/requirements.txt"
    )
