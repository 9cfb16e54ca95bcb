"""Where the class is found that a file of `torch.save(model)` names.

A training script that is run as `python train.py` saves its classes under the name `__main__`. In a worker that is
another module, so such a class is looked for in the archive's own code.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.inference.errors import text_of

MAIN = "__main__"
_REFUSED = "Weights only load failed"
_REFUSED_NAME = re.compile(r"Unsupported global: GLOBAL (?P<name>[\w.]*\w)")
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


def refused(error: BaseException) -> str | None:
    """What to do where a script's own `torch.load` refused to unpickle a file; None for any other error.

    torch's text is longer than a line of the log should be, and names neither the file nor, before its end, the class.
    """
    said = text_of(error)
    if not isinstance(error, pickle.UnpicklingError) or _REFUSED not in said:
        return None
    found = _REFUSED_NAME.search(said)
    holds = f"pickled objects ({found['name']})" if found else "pickled objects"
    call = _call_of_load(error)
    sentence = f"{_file_name(call.get('f'))} holds {holds}, and torch.load reads only tensors"
    ways = "pass weights_only=False to that torch.load"
    if call.get("weights_only_not_set"):  # the variable is without effect on a call that names weights_only
        sentence += " by default since PyTorch 2.6"
        ways += ", or leave the archive as it is and set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"
    return f"{sentence}; if you made the file, {ways} (the file can then run code), or save a state_dict instead"


def _call_of_load(error: BaseException) -> Mapping[str, object]:
    """The variables of the `torch.load` that raised; none where another function did."""
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_globals.get("__name__") == "torch.serialization" and frame.f_code.co_name == "load":
            return frame.f_locals
        trace = trace.tb_next
    return {}


def _file_name(file: object) -> str:
    """What a sentence calls the argument of `torch.load`: a path, or a file that may have one."""
    named = getattr(file, "name", file)
    return Path(os.fsdecode(named)).name if isinstance(named, str | bytes | os.PathLike) else "the file"


def _home_of(name: str, code: Path) -> str | None:
    """The module below `code` that has the class `name`, the one that defines it before those that import it."""
    modules = [(key, module) for key, module in list(sys.modules.items()) if _is_below(module, code)]
    found = [(vars(module)[name], key) for key, module in modules if name in vars(module)]
    return min((getattr(value, "__module__", None) != key, key) for value, key in found)[1] if found else None


def _is_below(module: types.ModuleType, code: Path) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ != MAIN and isinstance(file, str) and Path(file).is_relative_to(code)
