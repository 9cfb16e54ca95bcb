"""Where the class is found that a file of `torch.save(model)` names.

A training script that is run as `python train.py` saves its classes under the name `__main__`. In a worker that is
another module, so such a class is looked for in the archive's own code.
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

from tidegate.inference.errors import text_of

MAIN = "__main__"
WAY_OUT = "; have code/inference.py define or import the class under that name, or save the state_dict instead"


def lend_classes_to_main(code: Path) -> None:
    """Let pickles find a class of `__main__`, where that has none of its name, in the modules from below `code`."""

    def __getattr__(name: str) -> Any:  # noqa: N807 - what Python calls for a name that the module lacks
        home = None if name.startswith("_") else _home_of(name, code)
        if home is None:
            raise AttributeError(f"module {MAIN!r} has no attribute {name!r}")
        return vars(sys.modules[home])[name]

    vars(sys.modules[MAIN])["__getattr__"] = __getattr__


def missing_class(error: BaseException) -> str:
    """What to do where a pickle names a class of `__main__` that nothing here has; empty for any other error."""
    return WAY_OUT if re.match(rf"Can't get attribute '.*' on <module '{MAIN}'", text_of(error)) else ""


def _home_of(name: str, code: Path) -> str | None:
    """The module below `code` that has the class `name`, the one that defines it before those that import it."""
    modules = [(key, module) for key, module in list(sys.modules.items()) if _is_below(module, code)]
    found = [(vars(module)[name], key) for key, module in modules if name in vars(module)]
    return min((getattr(value, "__module__", None) != key, key) for value, key in found)[1] if found else None


def _is_below(module: types.ModuleType, code: Path) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ != MAIN and isinstance(file, str) and Path(file).is_relative_to(code)
