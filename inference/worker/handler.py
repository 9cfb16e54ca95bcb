"""The user's functions, bound once at load.

A function that takes one argument more than the contract has gets the context as its last one; keyword defaults count,
as they did in the AWS toolkit. Signatures are read here and never again.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType, UnionType
from typing import IO, Any, BinaryIO, Union, get_args, get_origin

from tidegate.inference.errors import DeploymentError
from tidegate.inference.worker.accept import NOTHING, demand_some
from tidegate.inference.worker.context import Context

ARGUMENTS = {
    "pre_model_fn": ("model_dir",),
    "model_fn": ("model_dir",),
    "model_warmup_fn": ("model_dir", "model"),
    "input_fn": ("input_data", "content_type"),
    "predict_fn": ("data", "model"),
    "output_fn": ("prediction", "accept"),
    "transform_fn": ("model", "input_data", "content_type", "accept"),
    "collate_fn": ("inputs",),
    "split_fn": ("prediction", "count"),
    "chat_fn": ("request", "model"),
    "stream_fn": ("incoming", "context"),
}
"""Each function of the contract, and what it takes before the optional context, which `stream_fn` always takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The user's functions; None where the script leaves one to the server. None of them takes the context any more."""

    pre_model_fn: Callable[..., Any] | None = None
    model_fn: Callable[..., Any] | None = None
    model_warmup_fn: Callable[..., Any] | None = None
    input_fn: Callable[..., Any] | None = None
    predict_fn: Callable[..., Any] | None = None
    output_fn: Callable[..., Any] | None = None
    transform_fn: Callable[..., Any] | None = None
    collate_fn: Callable[..., Any] | None = None
    split_fn: Callable[..., Any] | None = None
    chat_fn: Callable[..., Any] | None = None
    stream_fn: Callable[..., Any] | None = None
    """As it is: each conversation gives it a context of its own."""
    body_as_file: bool = False
    """Whether the function that takes the body annotates it as `typing.BinaryIO`: it is given a file."""
    media_types: tuple[str, ...] | None = None
    """The types that output_fn says it writes; None where it does not say."""
    usual_types: tuple[str, ...] | None = None
    """Types that it prefers to what else an Accept header names; what it cannot write, it refuses itself."""
    takes_names: bool = False
    """Whether the model takes a dictionary, so that every array needs a name."""
    model_maker: str = "model_fn"
    """What sentences call the function that makes the model."""
    called: str = ""
    """And the model, where another function than one of the script's predicts."""
    passed_over: str = ""
    """A sentence on what might have made the model and is not called, for the error that there is none."""

    @property
    def found(self) -> list[str]:
        """The functions of the script that are called, by the names that it has for them."""
        if self.model_maker not in ARGUMENTS:
            return [self.model_maker]
        return [name for name in ARGUMENTS if getattr(self, name) is not None]

    @property
    def predictor(self) -> str:
        """What sentences call what predicts."""
        return self.called or ("transform_fn" if self.transform_fn is not None else "predict_fn")


def bind(module: ModuleType, context: Context) -> Functions:
    """Take the contract's functions from the user's module. Raises `DeploymentError` for one that cannot be called."""
    found: dict[str, Any] = {name: _bind(module, name, context) for name in ARGUMENTS if hasattr(module, name)}
    chain = [name for name in ("input_fn", "predict_fn", "output_fn") if name in found]
    if "transform_fn" in found and chain:
        raise DeploymentError(
            f"{module.__file__} defines transform_fn and also {', '.join(chain)}; it replaces them: keep one way."
        )
    for name, for_some_type in (("output_fn", _output_for_some_type), ("transform_fn", _transform_for_some_type)):
        if name in found:
            found[name] = for_some_type(found[name])
    return Functions(
        **found,
        body_as_file=_wants_file(module),
        media_types=_types(module, "media_types"),
        usual_types=_types(module, "usual_types"),
    )


def _types(module: ModuleType, attribute: str) -> tuple[str, ...] | None:
    """What the script's output_fn says that it writes. Raises `DeploymentError` where that is no list of types."""
    said = getattr(getattr(module, "output_fn", None), attribute, None)
    if said is None:
        return None
    if not isinstance(said, list | tuple) or not said or not all(isinstance(each, str) for each in said):
        raise DeploymentError(
            f"{module.__file__}: output_fn.{attribute} is {said!r}; it must be a tuple of types such as 'image/png'."
        )
    return tuple(each.lower() for each in said)


def _wants_file(module: ModuleType) -> bool:
    """Whether the function that takes the body says that it takes a file."""
    for name in ("input_fn", "transform_fn"):
        parameters = _parameters(getattr(module, name, None))[ARGUMENTS[name].index("input_data") :]
        if parameters and _is_file(parameters[0].annotation):
            return True
    return False


def _is_file(annotation: Any) -> bool:
    """Whether an annotation is a binary file, one of its classes, or that among other things (`BinaryIO | None`)."""
    if isinstance(annotation, str):  # of a name that only type checkers import
        return any(part.strip() in ("BinaryIO", "typing.BinaryIO") for part in annotation.split("|"))
    if get_origin(annotation) in (Union, UnionType):
        return any(map(_is_file, get_args(annotation)))
    return annotation in (BinaryIO, IO[bytes], io.BufferedReader, io.BufferedIOBase, io.IOBase)


def _parameters(function: Any) -> list[inspect.Parameter]:
    # Evaluated, because a script may defer its annotations (PEP 563); as they are written where one of them is of a
    # name that only type checkers import.
    for evaluated in (True, False):
        with suppress(Exception):
            return list(inspect.signature(function, eval_str=evaluated).parameters.values())
    return []


def _output_for_some_type(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, an output_fn, which is not asked where the client accepts nothing."""

    def guarded(prediction: Any, accept: str) -> Any:
        if accept == NOTHING:
            demand_some(accept)
        return function(prediction, accept)

    return guarded


def _transform_for_some_type(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a transform_fn."""

    def guarded(model: Any, body: Any, content_type: str | None, accept: str) -> Any:
        if accept == NOTHING:
            demand_some(accept)
        return function(model, body, content_type, accept)

    return guarded


def _bind(module: ModuleType, name: str, context: Context) -> Callable[..., Any]:
    function, wanted = getattr(module, name), ARGUMENTS[name]
    if not callable(function):
        raise DeploymentError(f"{module.__file__}: {name} is of the type {type(function).__name__}, not a function.")
    if inspect.iscoroutinefunction(function) and name != "stream_fn":
        raise DeploymentError(f"{module.__file__}: {name} is async; define it with plain 'def'.")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # a C function without a signature
        return function  # type: ignore[no-any-return]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    collects = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    demands = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    count = len(positional)
    if not demands:
        if count == len(wanted) or (collects and count < len(wanted)):
            return function  # type: ignore[no-any-return]
        if count == len(wanted) + 1 and "context" not in wanted:
            return lambda *arguments: function(*arguments, context)
    ways = [", ".join(wanted)] if "context" in wanted else [", ".join(wanted), f"{', '.join(wanted)}, context"]
    raise DeploymentError(
        f"{module.__file__}: {name}{inspect.signature(function)} cannot be called; "
        f"it must take {' or '.join(f'({way})' for way in ways)}."
    )
