"""A script whose functions would never be called: misspelt ones, or those of another server.

The AWS container served such a script by its defaults, without a word. Only what is called by nothing else is looked
at: a helper with a similar name beside the function itself, or `preprocess` beside an `input_fn`, is the script's own.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

from tidegate.inference.worker.create_model import CREATE_MODEL
from tidegate.inference.worker.handler import ARGUMENTS

CHAIN = ("input_fn", "predict_fn", "output_fn")
JOINING = ("collate_fn", "split_fn")
EXPECTED = (*(name for name in ARGUMENTS if name not in JOINING), CREATE_MODEL)

_SUFFIX = re.compile(r"(.+?)_?(?:fn|func|funct|function|fct|fcn|fun)s?")
_ENTRY_POINTS = {"handle": "TorchServe's", "handler": "TorchServe's", "lambda_handler": "AWS Lambda's"}
_METHODS = ("preprocess", "inference", "postprocess")
"""The steps of a handler of TorchServe; one of these names alone may be a helper of any script."""
_LIKE_A_LITAPI = "; docs/migration.md has, under From LitServe, which function each method becomes"
_ELSEWHERE = {
    "load_model": "model_fn",
    "preprocess": "input_fn",
    "predict": "predict_fn",
    "predict_batch": "predict_fn",
    "forward": "predict_fn",
    "postprocess": "output_fn",
    "handle": "transform_fn",
    "handler": "transform_fn",
}
"""What other servers, or other scripts, call a function, and the function that does the same here."""


_OR_BY_A_CLASS = (
    ", or have them made of a class with preprocess(one), forward(batch) and postprocess(one): "
    "model_fn, input_fn, predict_fn, output_fn = functions_of({}), after from tidegate_handler import functions_of"
)


def mistake(module: ModuleType, found: Collection[str], *, builds: bool = False) -> str | None:
    """What is wrong with a script that has the functions `found`, in one sentence; None where nothing is.

    `builds` says that the manifest names a network of the script: its class is used, whatever else it can do.
    """
    mine = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    functions = [name for name, value in mine.items() if inspect.isfunction(value)]
    for name in functions:
        near = _meant(name, mine[name], found) or _meant_for_joining(name, mine[name], found)
        if near and not _mentions(module, name):
            return f"{module.__file__}: nothing calls {name}; did you mean {near}?"
    if any(name in found for name in EXPECTED):
        return None
    own = [name for name in functions if _is_the_archives(mine[name], module)]
    what = next((f"{name} is {_ENTRY_POINTS[name]}" for name in own if name in _ENTRY_POINTS), None)
    steps = [name for name in _METHODS if name in own]
    if what is None and len(steps) > 1:
        what = f"{', '.join(steps)} are the steps of another server"
    classes = [value for value in mine.values() if inspect.isclass(value) and value.__module__ == module.__name__]
    way_out = "write model_fn, input_fn, predict_fn and output_fn as functions of the module"
    for kind in classes:
        if what is not None:
            break
        what = _handler_class(kind)
        if what is None and not builds and (what := _of_litserve(kind, module)) is not None:
            way_out += _LIKE_A_LITAPI
            break
        if what is None and not builds:
            what = _of_cog(kind, module) or _packaged_model(kind, module)
        if what is not None:
            way_out += _OR_BY_A_CLASS.format(kind.__name__)
    return f"{module.__file__}: {what}, and nothing here calls it; {way_out}." if what is not None else None


def doubt(module: ModuleType, found: Collection[str], *, builds: bool = False) -> str | None:
    """What may be wrong with a script that is no `mistake`, in one sentence; None where nothing is.

    A function such as `predict` beside a `model_fn` may be a helper, of a notebook or of the training. It is doubted
    where the script itself does not use it, and a default runs in place of the function that does the same.
    """
    if CREATE_MODEL in found:
        return None
    missing = set(EXPECTED) - set(found)
    if "transform_fn" in found:
        missing -= set(CHAIN)
    elif any(each in found for each in CHAIN):
        missing -= {"transform_fn"}
    # `load_model` is called, for the models that a script asks for: beside.py.
    if builds or _mentions(module, "get_model", ast.Attribute):
        missing -= {"model_fn"}
    names = [
        name
        for name, value in vars(module).items()
        if _ELSEWHERE.get(name) in missing
        and inspect.isfunction(value)
        and _is_the_archives(inspect.unwrap(value), module)
        and not _mentions(module, name)
    ]
    if not names:
        return None
    meant = " and ".join(dict.fromkeys(_ELSEWHERE[name] for name in names))
    them = "it" if len(names) == 1 else "them"
    return f"{module.__file__} defines {' and '.join(names)}, and nothing calls {them}; did you mean {meant}?"


def _meant(name: str, function: Any, found: Collection[str]) -> str | None:
    """The function that `name` was meant to be; None where that one is there, or has no place beside `found`."""
    # A create_model that is not served is a helper: of a library, or of the class that the manifest names.
    if name in found or name == CREATE_MODEL:
        return None
    wanted = set(EXPECTED) - set(found)
    if "transform_fn" in found:
        wanted -= set(CHAIN)
    elif any(each in found for each in CHAIN):
        wanted -= {"transform_fn"}
    # It is alone where it is anything, and takes a directory: others make networks of numbers of layers.
    if found or not _takes(function, ("modeldir",)):
        wanted -= {CREATE_MODEL}
    return _nearest(name, wanted)


def _meant_for_joining(name: str, function: Any, found: Collection[str]) -> str | None:
    """Likewise for the functions of joined requests, whose names loaders of training data bear, too."""
    near = None if name in found else _nearest(name, set(JOINING) - set(found))
    # One word more, as in pad_collate_fn, says that it is another function.
    if near is None or name.count("_") > near.count("_"):
        return None
    return near if _takes(function, ARGUMENTS[near]) else None


def _takes(function: Any, arguments: tuple[str, ...]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def _nearest(name: str, wanted: Collection[str]) -> str | None:
    suffixed = _SUFFIX.fullmatch(name.lower())
    if suffixed is not None:
        called = {each.removesuffix("_fn"): each for each in wanted}
        near = difflib.get_close_matches(suffixed[1], called, n=1, cutoff=0.8)
        return called[near[0]] if near else None
    # Above the likeness of transform and transform_fn: a helper may well be called so.
    return next(iter(difflib.get_close_matches(name.lower(), wanted, n=1, cutoff=0.87)), None)


def _mentions(module: ModuleType, name: str, how: type[ast.Name | ast.Attribute] = ast.Name) -> bool:
    """Whether the script itself uses what is called `name`, in what runs when it is imported and not started.

    `ast.Name` is a function, `ast.Attribute` a method.
    """
    try:
        statements = ast.parse(Path(str(module.__file__)).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return False
    run = [each for each in statements if not (isinstance(each, ast.If) and _names(each.test, "__name__"))]
    return any(_names(each, name, how) for each in run)


def _names(tree: ast.AST, name: str, how: type[ast.Name | ast.Attribute] = ast.Name) -> bool:
    said = "id" if how is ast.Name else "attr"
    # What is assigned to is not used yet: functions are also named by `model_fn, predict_fn = made()`.
    return any(
        isinstance(node, how) and getattr(node, said) == name and not isinstance(node.ctx, ast.Store)
        for node in ast.walk(tree)
    )


def _is_the_archives(function: Any, module: ModuleType) -> bool:
    return Path(function.__code__.co_filename).is_relative_to(Path(str(module.__file__)).parent)


def _handler_class(kind: type) -> str | None:
    name = kind.__qualname__
    if any(base.__name__ == "BaseHandler" for base in kind.__mro__) or _handles(kind):
        return f"the class {name} is a handler of TorchServe"
    if name == "TritonPythonModel":
        return f"the class {name} is Triton's"
    methods = [each for each in EXPECTED if each in vars(kind)]
    return f"{', '.join(methods)} of the class {name} are no functions of the module" if methods else None


def _of_cog(kind: type, module: ModuleType) -> str | None:
    """Cog's predictor, told by its base, or by its name and a `setup` beside a `predict` that the script never calls.

    Source: https://github.com/replicate/cog/blob/main/docs/python.md.
    """
    if not inspect.isfunction(getattr(kind, "predict", None)) or _mentions(module, "predict", ast.Attribute):
        return None
    of_cog = any(base.__name__ == "BasePredictor" for base in kind.__mro__)
    alike = kind.__name__ == "Predictor" and inspect.isfunction(getattr(kind, "setup", None))
    return f"the class {kind.__qualname__} is a predictor of Cog" if of_cog or alike else None


def _of_litserve(kind: type, module: ModuleType) -> str | None:
    """LitServe's API, told by its base, or by its methods around a `predict` that the script never calls.

    Source: https://lightning.ai/docs/litserve/api-reference/litapi.
    """
    based = any(base.__name__ == "LitAPI" for base in kind.__mro__[1:])
    has = [
        name for name in ("setup", "decode_request", "predict", "encode_response") if callable(getattr(kind, name, 0))
    ]
    alike = {"setup", "predict"} < set(has) and not _mentions(module, "predict", ast.Attribute)
    return f"the class {kind.__qualname__} is a LitAPI of LitServe" if based or alike else None


def _packaged_model(kind: type, module: ModuleType) -> str | None:
    """A model that brings the way to its input and from its output as methods, which its own script never calls."""
    steps = [name for name in ("preprocess", "postprocess") if inspect.isfunction(getattr(kind, name, None))]
    if len(steps) < 2 or any(_mentions(module, name, ast.Attribute) for name in steps):
        return None
    return f"{', '.join(steps)} of the class {kind.__qualname__} are no functions of the module"


def _handles(kind: type) -> bool:
    """Whether the class has TorchServe's `handle`: of the data and the context, or beside an `initialize`."""
    handle = getattr(kind, "handle", None)
    if not inspect.isfunction(handle):
        return False
    kinds = [each.kind for each in inspect.signature(handle).parameters.values()]
    return hasattr(kind, "initialize") or kinds == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 3
