"""The user's functions are bound once: with the context where they have room for it, refused where they cannot work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from tidegate.inference.errors import DeploymentError, NotAcceptable
from tidegate.inference.worker.accept import NOTHING
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.handler import ARGUMENTS, Functions, bind

CONTEXT = Context(model_name="model", manifest={}, system_properties={})


def module(**functions: Any) -> ModuleType:
    found = ModuleType("inference")
    found.__file__ = "code/inference.py"
    vars(found).update(functions)
    return found


def bound(**functions: Any) -> Functions:
    return bind(module(**functions), CONTEXT)


def call(function: Callable[..., Any] | None, *arguments: Any) -> Any:
    assert function is not None
    return function(*arguments)


class CallableObject:
    def __call__(self, data: Any, model: Any) -> Any:
        return ("object", data, model)


class Methods:
    def predict(self, data: Any, model: Any, context: Any) -> Any:
        return ("method", data, model, context)


def with_model(prefix: str, data: Any, model: Any) -> Any:
    return (prefix, data, model)


PREDICTS: list[tuple[str, Any, Any]] = [
    ("plain", lambda data, model: (data, model), ("d", "m")),
    ("context", lambda data, model, context: (data, model, context), ("d", "m", CONTEXT)),
    ("keyword default", lambda data, model, extra=None: (data, model, extra), ("d", "m", CONTEXT)),
    ("default within", lambda data, model=None: (data, model), ("d", "m")),
    ("star", lambda *args: args, ("d", "m")),
    ("one and star", lambda data, *args: (data, args), ("d", ("m",))),
    ("two and star", lambda data, model, *args: (data, model, args), ("d", "m", ())),
    ("three and star", lambda data, model, context, *args: (data, model, context, args), ("d", "m", CONTEXT, ())),
    ("keywords", lambda data, model, **kw: (data, model, kw), ("d", "m", {})),
    ("optional keyword-only", lambda data, model, *, top=5: (data, model, top), ("d", "m", 5)),
    ("object", CallableObject(), ("object", "d", "m")),
    ("bound method", Methods().predict, ("method", "d", "m", CONTEXT)),
    ("partial", functools.partial(with_model, "p"), ("p", "d", "m")),
    ("positional only", eval("lambda data, model, /: (data, model)"), ("d", "m")),  # noqa: S307 - ruff would drop the /
]


@pytest.mark.parametrize(("kind", "function", "result"), PREDICTS, ids=[kind for kind, _, _ in PREDICTS])
def test_a_function_is_called_as_its_signature_allows(kind: str, function: Any, result: Any) -> None:
    assert call(bound(predict_fn=function).predict_fn, "d", "m") == result


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name != "stream_fn"])
def test_every_function_may_take_the_context_as_its_last_argument(name: str) -> None:
    wanted = ARGUMENTS[name]
    source = f"def {name}({', '.join(wanted)}, context): return ({', '.join(wanted)}, context)"
    found: dict[str, Any] = {}
    exec(source, found)  # noqa: S102 - a function of every arity
    arguments = [f"<{argument}>" for argument in wanted]
    assert call(getattr(bound(**{name: found[name]}), name), *arguments) == (*arguments, CONTEXT)


def listens(incoming: Any, context: Any) -> None: ...
def takes_all(*both: Any) -> None: ...
async def converses(incoming: Any, context: Any) -> Any: ...
async def answers(incoming: Any, context: Any) -> Any:
    yield incoming


@pytest.mark.parametrize("function", [listens, takes_all, converses, answers])
def test_a_stream_fn_may_be_asynchronous_and_is_given_its_context_when_it_is_called(function: Any) -> None:
    assert bound(stream_fn=function).stream_fn is function


def without_context(incoming: Any) -> None: ...
def with_more(incoming: Any, context: Any, more: Any) -> None: ...


@pytest.mark.parametrize("function", [without_context, with_more])
def test_a_stream_fn_takes_the_messages_and_the_context(function: Any) -> None:
    with pytest.raises(DeploymentError, match=r"stream_fn\(.* cannot be called; it must take \(incoming, context\)\.$"):
        bound(stream_fn=function)


def test_a_class_may_be_a_model_fn() -> None:
    class Model:
        def __init__(self, model_dir: str) -> None:
            self.model_dir = model_dir

    assert call(bound(model_fn=Model).model_fn, "/m").model_dir == "/m"


def test_a_builtin_without_a_signature_is_taken_as_it_is() -> None:
    assert bound(collate_fn=dict).collate_fn is dict


def two_too_many(data: Any, model: Any, one: Any, two: Any) -> None: ...
def too_few(data: Any) -> None: ...
def none_at_all() -> None: ...
def pair(first: Any, second: Any) -> None: ...
def demanding(data: Any, model: Any, *, top: int) -> None: ...


SIGNATURES = [
    (two_too_many, "(data: 'Any', model: 'Any', one: 'Any', two: 'Any') -> 'None'"),
    (too_few, "(data: 'Any') -> 'None'"),
    (none_at_all, "() -> 'None'"),
    (demanding, "(data: 'Any', model: 'Any', *, top: 'int') -> 'None'"),
]


@pytest.mark.parametrize(("function", "signature"), SIGNATURES)
def test_a_function_that_cannot_be_called_is_refused_with_its_signature(function: Any, signature: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        bound(predict_fn=function)
    assert str(caught.value) == (
        f"code/inference.py: predict_fn{signature} cannot be called; it must take (data, model) or "
        "(data, model, context)."
    )


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(DeploymentError, match=r"^code/inference\.py: model_fn is of the type str, not a function\.$"):
        bound(model_fn="model.pth")


def test_an_async_function_is_refused() -> None:
    """Nobody would await it: the coroutine itself would be taken for the prediction."""

    async def predict_fn(data: Any, model: Any) -> None: ...

    with pytest.raises(DeploymentError, match="predict_fn is async; define it with plain 'def'"):
        bound(predict_fn=predict_fn)


def test_output_fn_may_say_which_types_it_writes() -> None:
    def output_fn(prediction: Any, accept: str) -> Any: ...

    assert bound(output_fn=output_fn).media_types is None
    vars(output_fn)["media_types"] = ["application/json", "Image/PNG"]
    assert bound(output_fn=output_fn).media_types == ("application/json", "image/png")
    for wrong in ("image/png", (), [7]):
        vars(output_fn)["media_types"] = wrong
        with pytest.raises(DeploymentError, match=r"output_fn\.media_types is .*; it must be a tuple of types such as"):
            bound(output_fn=output_fn)


def transform(model: Any, input_data: Any, content_type: Any, accept: Any) -> Any:
    return model, input_data, content_type, accept


@pytest.mark.parametrize("other", ["input_fn", "predict_fn", "output_fn"])
def test_transform_fn_beside_a_function_that_it_replaces_is_refused(other: str) -> None:
    with pytest.raises(DeploymentError, match=f"defines transform_fn and also {other}; it replaces them: keep one way"):
        bound(transform_fn=transform, **{other: pair})


def test_transform_fn_goes_with_model_fn() -> None:
    found = bound(transform_fn=transform, model_fn=str)
    assert call(found.transform_fn, "m", "x", "text/csv", "text/html") == ("m", "x", "text/csv", "text/html")
    assert found.predict_fn is None


def test_a_function_that_answers_is_not_asked_where_the_client_accepts_nothing() -> None:
    """Every type of the Accept header has q=0, which is 406 whatever the script writes."""
    with pytest.raises(NotAcceptable):
        call(bound(transform_fn=transform).transform_fn, "m", "x", "text/csv", NOTHING)
    with pytest.raises(NotAcceptable):
        call(bound(output_fn=pair).output_fn, "p", NOTHING)


def test_a_script_may_leave_everything_to_the_server() -> None:
    assert bound(helper=1) == Functions()
