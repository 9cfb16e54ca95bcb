"""Files of `torch.save(model)`: which class they name, read as data, and where that class is found.

A training script that is run as `python train.py` saves its classes under the name `__main__`. In a worker that is
another module, so such a class is looked for in the archive's own code.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import sys
import types
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

MAIN = "__main__"
WAY_OUT = "; have code/inference.py define or import the class under that name, or save the state_dict instead"
_OF_STATE_DICTS = ("collections.OrderedDict", "torch._", "torch.storage", "numpy.", "builtins.", "__builtin__.")

_OLD_MAGIC = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
_BEFORE_THE_OBJECT = 3
"""Pickles of a file of before torch 1.6: a magic number, the protocol, facts about the machine."""


def is_torch_save(path: Path) -> bool:
    """Whether torch.save wrote `path`, today's or that of before torch 1.6."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    with path.open("rb") as file:
        return file.read(len(_OLD_MAGIC)) == _OLD_MAGIC


def named_class(path: Path) -> str | None:
    """`module.Class` of the object that torch.save pickled into `path`; None where it is none, or cannot be read."""
    try:
        first = next(str(argument) for operation, argument, _ in _operations(path) if operation.name == "GLOBAL")
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile):
        return None
    found = first.replace(" ", ".")
    return None if found.startswith(_OF_STATE_DICTS) or found.endswith("Storage") else found


def _operations(path: Path) -> Iterator[tuple[pickletools.OpcodeInfo, object, int | None]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            yield from pickletools.genops(archive.read(name))
        return
    with path.open("rb") as file:
        for _ in range(_BEFORE_THE_OBJECT):
            deque(pickletools.genops(file), maxlen=0)
        yield from pickletools.genops(file)


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
    return WAY_OUT if re.match(rf"Can't get attribute '.*' on <module '{MAIN}'", str(error)) else ""


def _home_of(name: str, code: Path) -> str | None:
    """The module below `code` that has the class `name`, the one that defines it before those that import it."""
    modules = [(key, module) for key, module in list(sys.modules.items()) if _is_below(module, code)]
    found = [(vars(module)[name], key) for key, module in modules if name in vars(module)]
    return min((getattr(value, "__module__", None) != key, key) for value, key in found)[1] if found else None


def _is_below(module: types.ModuleType, code: Path) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ != MAIN and isinstance(file, str) and Path(file).is_relative_to(code)
