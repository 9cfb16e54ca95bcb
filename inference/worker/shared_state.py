"""What the script's functions have in common besides their arguments: a look at their source, at load.

A global that input_fn sets and output_fn reads holds the last request's value when several have been decoded, whatever
was proved while it was the same for all. So a name counts that one of the three functions changes and another one uses.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

MAX_FUNCTIONS = 1000
"""Functions that are looked at for one of the script's."""
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "put"}
    | {"put_nowait", "remove", "reverse", "set", "setdefault", "sort", "update", "__setitem__"}
)

Key = tuple[int, str]
"""A name with the namespace that it is in."""


def shared_name(functions: dict[str, Callable[..., Any] | None]) -> str | None:
    """A sentence about a name by which one of `functions` tells another one something; None where there is none."""
    found = {name: _reach(function) for name, function in functions.items() if function is not None}
    for writer, written in found.items():
        for reader, read in found.items():
            common = written.changed & read.used if writer != reader else None
            if common:
                return f"{writer} sets {min(name for _, name in common)!r}, which {reader} uses too"
    return None


@dataclass(slots=True)
class _Names:
    used: set[Key] = field(default_factory=set)
    changed: set[Key] = field(default_factory=set)


def _reach(function: Callable[..., Any]) -> _Names:
    """The names outside of it that `function` and the user's functions that it calls use and change."""
    seen: set[FunctionType] = set()
    names, waiting = _Names(), [function]
    while waiting and len(seen) < MAX_FUNCTIONS:
        current: Any = waiting.pop()
        if not isinstance(current, FunctionType | MethodType):
            current = vars(type(current)).get("__call__")  # an object that is called
        plain = current.__func__ if isinstance(current, MethodType) else current
        if isinstance(plain, FunctionType) and plain not in seen:
            seen.add(plain)
            waiting.extend(_look(plain, names))
    return names


def _look(function: FunctionType, names: _Names) -> Iterator[FunctionType | MethodType]:
    """Note the names of one function; yields the functions of the same folder that it mentions."""
    code = function.__code__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    local = set(_locals(code)) - set(cells)

    def key(name: str) -> Key | None:
        if name in cells:
            return id(cells[name]), name
        return None if name in local else (id(function.__globals__), name)

    nodes = list(_nodes(function))
    mentioned = {node.id for node in nodes if isinstance(node, ast.Name)} - local
    names.used |= {found for name in mentioned if (found := key(name))}
    home = Path(code.co_filename).parent
    changed = {name for name in _changed_by(nodes) if not _is_library(function.__globals__.get(name), home)}
    names.changed |= {found for name in changed if (found := key(name))}
    for cell in cells.values():
        try:
            value = cell.cell_contents
        except ValueError:  # nothing yet
            continue
        if isinstance(value, FunctionType | MethodType):
            yield value
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    for name in mentioned:
        value = function.__globals__.get(name)
        reached = [vars(value).get(each) for each in attributes] if isinstance(value, ModuleType) else [value]
        for each in reached:
            if isinstance(each, FunctionType) and Path(each.__code__.co_filename).is_relative_to(home):
                yield each


def _locals(code: CodeType) -> Iterator[str]:
    yield from (*code.co_varnames, *code.co_cellvars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _locals(constant)


def _is_library(value: Any, home: Path) -> bool:
    """Whether `value` is a module that is not the user's, such as torch: `torch.sort(x)` changes nothing there."""
    return isinstance(value, ModuleType) and not Path(getattr(value, "__file__", None) or "/").is_relative_to(home)


def _changed_by(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """The names that are set, or whose object is changed: an item, an attribute, or by a method that changes it."""
    for node in nodes:
        inner: ast.AST | None = None
        if isinstance(node, ast.Call):
            changes = isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING
            sets = isinstance(node.func, ast.Name) and node.func.id in {"setattr", "delattr"} and node.args
            inner = node.func if changes else node.args[0] if sets else None
        elif isinstance(node, ast.Subscript | ast.Attribute | ast.Name) and not isinstance(node.ctx, ast.Load):
            inner = node
        while isinstance(inner, ast.Subscript | ast.Attribute):
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield inner.id


def _nodes(function: FunctionType) -> Iterator[ast.AST]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except Exception:  # no source, or a lambda in the middle of something
        return
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    wanted = [node for node in scopes if getattr(node, "name", "<lambda>") == function.__name__]
    yield from (node for scope in wanted for node in ast.walk(scope))
