"""Scripts of Studio.ML: `create_model(modeldir)` returns a function from a dictionary to a dictionary.

It is the only function of such a script that is called. One that stands beside `model_fn` or another function of the
contract is a helper of the script, and so is one that it imports from a library, and one in a script whose classes the
manifest names as its architecture.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tidegate.inference.errors import DeploymentError, HandlerFailed
from tidegate.inference.worker import dictionaries, weights
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.dictionaries import PickledArrays
from tidegate.inference.worker.handler import Functions

CREATE_MODEL = "create_model"


def bind(module: ModuleType, context: Context, reading: Reading) -> Functions | None:
    """The functions of a script whose only one is `create_model`; None where it has none of its own.

    Raises `DeploymentError` for one that cannot be called.
    """
    function = getattr(module, CREATE_MODEL, None)
    if (
        not callable(function)
        or not _is_own(function, module)
        or weights.builds_with(module.__name__, context.manifest)
    ):
        return None
    return Functions(
        model_fn=partial(_model, _bound(function, module, context), str(module.__file__)),
        input_fn=partial(dictionaries.read, reading=reading),
        predict_fn=predict,
        takes_names=True,
        model_maker=CREATE_MODEL,
        called="The function that create_model returned",
    )


def passed_over(module: ModuleType, context: Context, found: Sequence[str]) -> str:
    """Why the `create_model` of a script that has the functions `found` is not called, as a sentence; else empty."""
    function = getattr(module, CREATE_MODEL, None)
    if function is None or weights.builds_with(module.__name__, context.manifest):
        return ""
    if not callable(function):
        why = f"it is of the type {type(function).__name__}, not a function"
    elif not _is_own(function, module):
        why = f"it is the one of {function.__module__}, and only a script's own is"
    elif found:
        why = (
            f"beside {', '.join(found)} it is a helper of the script; remove those, or define a model_fn that calls it"
        )
    else:
        return ""
    return f" {CREATE_MODEL} of {module.__file__} is not called: {why}."


def predict(data: Any, model: Callable[[Any], Any]) -> Any:
    """The dictionary that the model makes of one; a list where JSON Lines held several. Raises `HandlerFailed`."""
    if isinstance(data, list):
        return [predict(each, model) for each in data]
    made = model(dict(data))
    if not isinstance(made, Mapping):
        raise HandlerFailed(
            f"The function that create_model returned must return a dictionary; it returned a {type(made).__name__}."
        )
    return PickledArrays(made) if isinstance(data, PickledArrays) else made


def _model(create_model: Callable[[str], Any], file: str, model_dir: str) -> Any:
    model = create_model(model_dir)
    if inspect.isclass(model):
        what = f"the class {model.__name__} and no instance of it"
    elif not callable(model):
        what = f"a {type(model).__name__}, which cannot be called" if model is not None else "None"
    elif any(_returns_later(each) for each in (model, type(model).__call__)):
        what = "a function that is async, or yields"
    elif (signature := _signature(model)) is not None and not _takes(signature, 1):
        name = getattr(model, "__name__", type(model).__name__)
        what = f"{name}{signature}, which cannot be called with one dictionary alone"
    else:
        return model
    raise DeploymentError(
        f"{file}: {CREATE_MODEL} returned {what}; it must return a function that takes a dictionary and returns one."
    )


def _returns_later(function: Any) -> bool:
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(function) for is_kind in kinds)


def _is_own(function: Any, module: ModuleType) -> bool:
    """Whether a function is the script's or of a module beside it: timm, for one, has a `create_model` too."""
    home = sys.modules.get(str(getattr(function, "__module__", None)))
    file = getattr(home, "__file__", None)
    return file is None or Path(file).is_relative_to(Path(str(module.__file__)).parent)


def _bound(function: Callable[..., Any], module: ModuleType, context: Context) -> Callable[[str], Any]:
    if inspect.iscoroutinefunction(function):
        raise DeploymentError(f"{module.__file__}: {CREATE_MODEL} is async; define it with plain 'def'.")
    signature = _signature(function)
    if signature is None or _takes(signature, 1):
        return function
    if _takes(signature, 2):
        return lambda model_dir: function(model_dir, context)
    raise DeploymentError(
        f"{module.__file__}: {CREATE_MODEL}{signature} cannot be called; "
        "it must take (modeldir) or (modeldir, context)."
    )


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):  # a C function without a signature
        return None


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
