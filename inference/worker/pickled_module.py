"""Files of `torch.save(model)`: which class they name, read as data, and the reading itself, where it is trusted.

A training script that is run as `python train.py` saves its classes under the name `__main__`. In a worker that is
another module, so such a class is looked for in the archive's own code.
"""

from __future__ import annotations

import pickle
import pickletools
import sys
import types
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

MAIN = "__main__"
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


def load(path: Path, place: torch.device, code: Path) -> Any:
    """What `path` holds. Runs code that the file chooses: only for files that the deployer trusts.

    A class of `__main__` is taken from the modules that were imported from below `code`.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module_name: str, name: str) -> Any:
            if module_name == MAIN:
                module_name = _home_of(name, code) or MAIN
            return super().find_class(module_name, name)

    reader = types.ModuleType("pickle")  # as far as torch.load asks for one; `load` reads files of before torch 1.6
    vars(reader).update(Unpickler=Unpickler, load=lambda file, **how: Unpickler(file, **how).load())
    return torch.load(path, map_location=place, weights_only=False, pickle_module=reader)


def _home_of(name: str, code: Path) -> str | None:
    """The module below `code` that has the class `name`, the one that defines it before those that import it."""
    modules = [(key, module) for key, module in list(sys.modules.items()) if _is_below(module, code)]
    found = [(vars(module)[name], key) for key, module in modules if name in vars(module)]
    return min((getattr(value, "__module__", None) != key, key) for value, key in found)[1] if found else None


def _is_below(module: types.ModuleType, code: Path) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ != MAIN and isinstance(file, str) and Path(file).is_relative_to(code)
