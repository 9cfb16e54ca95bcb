"""Pickling a running cloud: what is alive in it (locks, threads) is written as fresh, what is shared as a name.

The C pickler calls no Python code for any other object, so it holds the interpreter from the first to the last of them:
a picture is of one moment, without a lock around every request.
"""

from __future__ import annotations

import copyreg
import importlib
import io
import marshal
import pickle
import threading
import types
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PROTOCOL = pickle.HIGHEST_PROTOCOL

Reducer = Callable[[Any], Any]


def pickled(value: Any, reducers: Mapping[type, Reducer]) -> bytes:
    """The bytes of ``value``. Raises what the pickler raises for what it cannot write."""
    target = io.BytesIO()
    pickler = pickle.Pickler(target, protocol=PROTOCOL)
    dictionaries = dict.fromkeys(_and_below(defaultdict), _reduced_defaultdict)
    pickler.dispatch_table = {**copyreg.dispatch_table, **_ALIVE, **dictionaries, **reducers}
    pickler.dump(value)
    return target.getvalue()


def read(payload: bytes) -> Any:
    """What :func:`pickled` wrote; only for bytes that this project wrote itself, because reading them runs code."""
    return pickle.loads(payload)  # noqa: S301 - from a folder that is ours alone (kept_directory)


def nothing() -> None:
    """What stands in the place of what is alive."""


def _fresh(kind: Callable[[], Any]) -> Reducer:
    return lambda _: (kind, ())


def _event(is_set: bool) -> threading.Event:
    event = threading.Event()
    if is_set:
        event.set()
    return event


def _reduced_defaultdict(value: defaultdict[Any, Any]) -> Any:
    """With the arguments of no constructor: those of subclasses have others."""
    factory = value.default_factory
    made = _code_of(factory) if isinstance(factory, types.FunctionType) and "<" in factory.__qualname__ else factory
    return (
        _made_defaultdict,
        (type(value), made),
        getattr(value, "__dict__", None) or None,
        None,
        iter(list(value.items())),
    )


@dataclass(frozen=True, slots=True)
class _Lambda:
    """A function without a name, as its module and its code, which the same Python can read (snapshot_file.py)."""

    module: str
    code: bytes

    def function(self) -> types.FunctionType:
        surroundings = vars(importlib.import_module(self.module))
        return types.FunctionType(marshal.loads(self.code), surroundings)  # noqa: S302 - as in read()


def _code_of(factory: types.FunctionType) -> _Lambda:
    if factory.__closure__:
        raise pickle.PicklingError(f"{factory.__qualname__} of {factory.__module__} refers to its surroundings")
    return _Lambda(factory.__module__, marshal.dumps(factory.__code__))


def _made_defaultdict(kind: type[defaultdict[Any, Any]], factory: Any) -> defaultdict[Any, Any]:
    value = kind.__new__(kind)
    value.default_factory = factory.function() if isinstance(factory, _Lambda) else factory
    return value


def _and_below(kind: type) -> Iterator[type]:
    yield kind
    below: type
    for below in kind.__subclasses__():
        yield from _and_below(below)


_ALIVE: Mapping[type, Reducer] = {
    type(threading.Lock()): _fresh(threading.Lock),
    type(threading.RLock()): _fresh(threading.RLock),
    threading.Condition: _fresh(threading.Condition),
    threading.Event: lambda event: (_event, (event.is_set(),)),
    threading.Thread: _fresh(nothing),
    weakref.WeakValueDictionary: lambda value: (weakref.WeakValueDictionary, (dict(value),)),
}
