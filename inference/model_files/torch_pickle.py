"""Files of torch.save, today's and those of before torch 1.6: which class they name, read as data."""

from __future__ import annotations

import pickle
import pickletools
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tidegate.inference.model_files import zip_members

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
_OLD = tuple(pickle.dumps(_MAGIC_NUMBER, protocol=protocol) for protocol in range(6))
_BEFORE_THE_OBJECT = 3
"""Pickles of a file of before torch 1.6: a magic number, the protocol, facts about the machine."""
_OF_STATE_DICTS = ("collections.OrderedDict", "torch._", "torch.storage", "numpy.", "builtins.", "__builtin__.")
_HARMLESS_BUILTINS = frozenset({"set", "frozenset", "list", "dict", "tuple", "bytearray", "complex", "object", "slice"})

Operation = tuple[pickletools.OpcodeInfo, object, int | None]


def is_old(path: Path) -> bool:
    """Whether the file is torch.save's of before torch 1.6."""
    with path.open("rb") as file:
        return file.read(max(map(len, _OLD))).startswith(_OLD)


def is_torch_save(path: Path) -> bool:
    """Whether torch.save wrote the file."""
    return is_old(path) or any(name.endswith("/data.pkl") for name in zip_members.names(path))


def named_class(path: Path) -> str | None:
    """`module.Class` of the object that torch.save pickled into `path`; None where it is none, or cannot be read."""
    try:
        first = next(_globals(_operations(path)))
    except (OSError, ValueError, StopIteration, IndexError):
        return None
    return None if _is_of_state_dicts(first) else first


def _is_of_state_dicts(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if module in ("builtins", "__builtin__"):
        return last in _HARMLESS_BUILTINS
    return name.startswith(_OF_STATE_DICTS) or name.endswith("Storage")


def _globals(operations: Iterable[Operation]) -> Iterator[str]:
    strings: deque[str] = deque(maxlen=2)
    for operation, argument, _ in operations:
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif operation.name == "STACK_GLOBAL":
            yield ".".join(strings)  # as a pickler writes it: the module and the name are pushed just before
        elif isinstance(argument, str):
            strings.append(argument)


def _operations(path: Path) -> Iterator[Operation]:
    if is_old(path):
        with path.open("rb") as file:
            yield from _after_the_facts(file)
        return
    data = zip_members.member(path, "/data.pkl")
    if data is not None:
        yield from pickletools.genops(data)


def _after_the_facts(file: BinaryIO) -> Iterator[Operation]:
    for _ in range(_BEFORE_THE_OBJECT):
        deque(pickletools.genops(file), maxlen=0)
    yield from pickletools.genops(file)
