"""Scripts of Studio.ML: which function is taken for theirs, and what is made of what it returns."""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections import UserDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.toy_models import computation, outcomes, request
from tidegate.inference.errors import DeploymentError
from tidegate.inference.protocol import Answer
from tidegate.inference.worker import create_model, dictionaries, user_code
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.dictionaries import PickledArrays, read
from tidegate.inference.worker.handler import Functions
from tidegate.pipeline import Pipeline, Stage

LIMIT = 1 << 24
PLAIN = Reading(max_decoded_bytes=LIMIT)
LEGACY = Reading(max_decoded_bytes=LIMIT, legacy_pickle=True)
NPZ, JSON_LINES = "application/x-npz", "application/jsonlines"

INCREMENT = """
def create_model(modeldir):
    def model(data):
        retval = {}
        for k, v in data.items():
            retval[k] = v + 1
        return retval
    return model
"""
"""The wrapper of Studio.ML's documentation, without six."""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Import a script, and find out what is taken from it."""

    def bound(source: str, manifest: dict[str, Any] | None = None, reading: Reading = PLAIN) -> Functions | None:
        path = tmp_path / "toy_wrapper.py"
        path.write_text(source)
        monkeypatch.delitem(sys.modules, "toy_wrapper", raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
        context = Context(model_name="model", manifest=manifest or {}, system_properties={})
        return create_model.bind(user_code.import_script(path), context, reading)

    return bound


def increment(data: Any) -> Any:
    return {key: value + 1 for key, value in data.items()}


def toy(model: Any, reading: Reading = PLAIN, **changes: Any) -> Computation:
    """A computation around what `create_model` has returned."""
    return computation(
        model=model,
        input_fn=partial(read, reading=reading),
        predict_fn=create_model.predict,
        takes_names=True,
        called="The function that create_model returned",
        **changes,
    )


def answered(made: Computation, body: Any, **sent: Any) -> Answer:
    ((outcome,), _) = ask(made, [request(body, 0, **sent)])
    assert isinstance(outcome, Answer), outcome
    return outcome


def npz(**named: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **named)
    return file.getvalue()


# --- which function


def test_a_wrapper_is_served_by_its_create_model(script):
    """The function is called with the model's directory, once, and returns what is called with each request."""
    functions = script(INCREMENT)
    model = functions.model_fn("/some/where")
    assert model({"a": 1}) == {"a": 2}
    assert functions.found == [functions.model_maker] == ["create_model"]
    given = (functions.model_fn, functions.input_fn, functions.predict_fn, functions.output_fn, functions.transform_fn)
    assert [function is None for function in given] == [False, False, False, True, True]


@pytest.mark.parametrize(
    "arguments",
    ["modeldir", "modeldir, batch_size=32", "modeldir, *, device='cpu'", "modeldir=None", "*args", "*args, **kw"],
)
def test_defaults_of_create_model_are_its_own(script, arguments):
    """It is called as Studio.ML called it, with the directory alone."""
    first = "args[0]" if arguments.startswith("*") else "modeldir"
    functions = script(f"def create_model({arguments}):\n    return lambda data: {{'dir': {first}, **data}}")
    assert functions.model_fn("here")({"a": 1}) == {"dir": "here", "a": 1}


def test_create_model_may_take_the_context(script):
    """As a second argument that has no default."""
    functions = script("def create_model(modeldir, context):\n    return lambda data: {'name': context.model_name}")
    assert functions.model_fn("here")({}) == {"name": "model"}


@pytest.mark.parametrize(
    "source",
    [
        "create_model = 3",
        "def create_models(modeldir): ...",
        "from collections import namedtuple as create_model",
        "from torch.nn import Linear as create_model",
        "from torch.jit import load as create_model",
    ],
)
def test_what_is_no_create_model_of_the_script_is_left_alone(script, source):
    """A library may have a function of this name, as timm has."""
    assert script(source) is None


def test_a_create_model_of_a_module_beside_the_script_is_the_scripts(script, tmp_path):
    """Scripts import what they share."""
    name = "toy_wrapper_parts"
    (tmp_path / f"{name}.py").write_text(INCREMENT)
    assert script(f"from {name} import create_model").model_fn("here")({"a": 1}) == {"a": 2}


def test_a_create_model_beside_the_manifests_architecture_is_a_helper(script):
    """The manifest says how the model is made."""
    assert script(INCREMENT, {"weights": {"architecture": "toy_wrapper:Net"}}) is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def create_model(): ...", "create_model() cannot be called; it must take (modeldir) or (modeldir, context)."),
        ("def create_model(a, b, c): ...", "create_model(a, b, c) cannot be called"),
        ("def create_model(modeldir, *, device): ...", "create_model(modeldir, *, device) cannot be called"),
        ("async def create_model(modeldir): ...", "create_model is async; define it with plain 'def'."),
    ],
)
def test_a_create_model_that_cannot_be_called_is_one_sentence(script, source, said):
    """At start, with its signature."""
    with pytest.raises(DeploymentError) as refusal:
        script(source)
    assert said in str(refusal.value)
    assert "toy_wrapper.py: " in str(refusal.value)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("None", "create_model returned None; it must return a function that takes a dictionary and returns one."),
        ("{'a': 1}", "create_model returned a dict, which cannot be called;"),
        ("'model'", "create_model returned a str, which cannot be called;"),
        ("dict", "create_model returned the class dict and no instance of it;"),
        ("later", "create_model returned a function that is async, or yields;"),
        ("some", "create_model returned a function that is async, or yields;"),
        ("Later()", "create_model returned a function that is async, or yields;"),
        ("functools.partial(later, a=1)", "create_model returned a function that is async, or yields;"),
        ("lambda: 1", "create_model returned <lambda>(), which cannot be called with one dictionary alone; it must"),
        ("lambda a, b: 1", "create_model returned <lambda>(a, b), which cannot be called with one dictionary alone;"),
        ("lambda **named: 1", "create_model returned <lambda>(**named), which cannot be called with one"),
        ("lambda data, *, n: 1", "create_model returned <lambda>(data, *, n), which cannot be called with one"),
        ("Pair()", "create_model returned Pair(one, two), which cannot be called with one dictionary alone;"),
        ("Pair().__call__", "create_model returned __call__(one, two), which cannot be called with one"),
        ("functools.partial(lambda a, b, c: 1, 1)", "create_model returned partial(b, c), which cannot be called"),
    ],
)
def test_a_create_model_that_returns_no_function_is_one_sentence(script, returned, said):
    """At start, and not at the first request."""
    source = (
        "import functools\nasync def later(data, a=0): ...\ndef some(data):\n    yield data\n"
        "class Later:\n    async def __call__(self, data): ...\n"
        "class Pair:\n    def __call__(self, one, two): ...\n"
    )
    functions = script(f"{source}def create_model(modeldir):\n    return {returned}")
    with pytest.raises(DeploymentError) as refusal:
        functions.model_fn("here")
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "returned",
    [
        *("lambda *args: {}", "lambda data=None: {}", "lambda data, n=1, *, m=2, **more: {}", "lambda data, /: {}"),
        *("Model()", "Model().__call__", "dict(a=1).get", "max", "functools.partial(lambda a, b: {}, 1)"),
        *("torch.nn.Identity()", "torch.nn.Identity().forward", "Pipeline(dict)", "{}.update"),
    ],
)
def test_whatever_can_be_called_with_one_dictionary_is_a_model(script, returned):
    """Defaults, stars, objects, networks, and what Python does not know the signature of."""
    functions = script(
        "import functools\nimport torch\nfrom tidegate.pipeline import Pipeline\n"
        "class Model:\n    def __call__(self, data, n=1): return {}\n"
        f"def create_model(modeldir):\n    return {returned}"
    )
    assert callable(functions.model_fn("here"))


@pytest.mark.parametrize(
    ("source", "manifest", "found", "said"),
    [
        ("create_model = 5", {}, [], " is not called: it is of the type int, not a function."),
        (
            "from torch.jit import load as create_model",
            *({}, []),
            " is not called: it is the one of torch.jit._serialization, and only a script's own is.",
        ),
        (
            INCREMENT,
            *({}, ["predict_fn", "output_fn"]),
            " is not called: beside predict_fn, output_fn it is a helper of the script; remove those, or define a "
            "model_fn that calls it.",
        ),
        (INCREMENT, {"weights": {"architecture": "toy_wrapper:Net"}}, [], ""),
        (INCREMENT, {}, [], ""),
        ("", {}, ["predict_fn"], ""),
    ],
)
def test_a_create_model_that_is_passed_over_has_a_reason(tmp_path, monkeypatch, source, manifest, found, said):
    """For the error that there is no model."""
    path = tmp_path / "toy_wrapper.py"
    path.write_text(source)
    monkeypatch.delitem(sys.modules, "toy_wrapper", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    context = Context(model_name="model", manifest=manifest, system_properties={})
    told = create_model.passed_over(user_code.import_script(path), context, found)
    assert told == (f" create_model of {path}{said}" if said else "")


# --- what it is asked and answers


def test_the_example_of_the_documentation_works_on_numbers_and_lists():
    """v + 1, whatever v is."""
    answer = answered(toy(increment), {"a": 1, "b": [1, 2], "c": [[1.5]]})
    assert json.loads(answer.body) == {"a": 2, "b": [2, 3], "c": [[2.5]]}


def test_npz_in_and_out_and_json_by_accept():
    """The Accept header decides, as for every model."""
    made = toy(increment)
    body = npz(a=np.arange(3, dtype=np.float32))
    answer = answered(made, body, content_type=NPZ, accept=NPZ)
    assert np.load(io.BytesIO(answer.body))["a"].tolist() == [1, 2, 3]
    assert json.loads(answered(made, body, content_type=NPZ).body) == {"a": [1, 2, 3]}
    assert json.loads(answered(made, {"a": [1]}, accept="text/html, */*;q=0.1").body) == {"a": [2]}


def test_json_lines_are_asked_one_by_one_and_answered_line_by_line():
    """A batch transform job may send many records in one request."""
    asked: list[Any] = []

    def model(data: Any) -> Any:
        asked.append(data)
        return {"n": data["n"] * 2, "name": data["name"]}

    body = b'{"n": 1, "name": "a"}\n{"n": [2], "name": "b"}\n'
    answer = answered(toy(model), body, content_type=JSON_LINES, accept=JSON_LINES)
    assert [json.loads(line) for line in answer.body.splitlines()] == [
        {"n": 2, "name": "a"},
        {"n": [4], "name": "b"},
    ]
    assert len(asked) == 2
    one = answered(toy(model), b'{"n": 1, "name": "a"}\n', content_type=JSON_LINES, accept=JSON_LINES)
    assert one.body == b'{"n": 2, "name": "a"}\n'


def test_a_model_may_change_what_it_is_given():
    """Arrays in place, and the dictionary itself, which many return."""

    def model(data: Any) -> Any:
        data["a"] += 1
        data["more"] = torch.ones(1)
        return data

    for reading in (PLAIN, LEGACY):
        answer = answered(toy(model, reading), {"a": [1, 2]})
        assert json.loads(answer.body) == {"a": [2, 3], "more": [1.0]}


@pytest.mark.parametrize("returned", [None, [1], "text", np.ones(2), 5])
def test_a_model_that_returns_no_dictionary_is_500_with_the_reason(returned):
    """Of this request; the next is asked all the same."""
    (outcome,) = outcomes(toy(lambda _: returned), {"a": 1})
    assert (outcome.status, outcome.code) == (500, "handler_failed")
    kind = type(returned).__name__
    assert outcome.message == (
        f"The function that create_model returned must return a dictionary; it returned a {kind}."
    )


@pytest.mark.parametrize(
    ("value", "kind", "instead"),
    [
        ({1}, "set", "a list"),
        (b"a", "bytes", "a str"),
        (1j, "complex", "a number, str, list or dict"),
        (UserDict(a=1), "UserDict", "a list"),
    ],
)
def test_a_value_that_cannot_be_sent_is_told_without_functions_that_the_script_may_not_have(value, kind, instead):
    """A predict_fn or an output_fn beside create_model would end the start."""
    (outcome,) = outcomes(toy(lambda _: {"a": [value]}), {"a": 1})
    assert (outcome.status, outcome.message) == (
        500,
        f"The prediction holds a value of the type {kind}, which cannot be sent; the function that create_model "
        f"returned must return {instead} instead.",
    )


def test_a_model_that_raises_is_named_as_what_it_is():
    """The script has no predict_fn to look for."""
    (outcome,) = outcomes(toy(lambda _: 1 / 0), {"a": 1})
    assert outcome.message.startswith("The function that create_model returned raised ZeroDivisionError;")


@pytest.mark.parametrize("sent", [5, "pickled"])
def test_a_pipeline_is_a_function_from_a_dictionary_to_a_dictionary(sent):
    """What create_model returns may be one of ours."""
    pipeline = Pipeline(Stage(lambda value: value + 1, workers=2), Stage(lambda batch: batch, batch_size=4))
    body = {"a": 1, "b": pickled(np.ones(1)) if sent == "pickled" else sent}
    found = json.loads(answered(toy(pipeline, LEGACY), body).body)
    assert found["a"] == 2
    assert found["b"] == 6 or pickle.loads(found["b"].encode("latin-1")).tolist() == [2.0]


def test_requests_share_no_call_unless_the_archive_declares_it():
    """What a function makes of a dictionary may be about all of it."""
    calls: list[int] = []

    def model(data: Any) -> Any:
        calls.append(len(data["x"]))
        return {"x": data["x"] * 2}

    bodies = [{"x": [[1.0, number]]} for number in range(4)]
    assert not toy(model).may_join
    assert toy(model, joins=True).may_join
    # Once, what is cut out of a call is compared with what a request gets by itself.
    for joins, expected in ((None, [1, 1, 1, 1]), (True, [4, 1])):
        calls.clear()
        found = outcomes(toy(model, joins=joins), *bodies)
        assert [json.loads(each.body)["x"] for each in found] == [[[2.0, 2.0 * number]] for number in range(4)]
        assert calls == expected


# --- pickled arrays


def pickled(value: Any, protocol: int = 2) -> str:
    return pickle.dumps(value, protocol).decode("latin-1")


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays_are_answered_as_they_came(protocol):
    """An old client sends v.encode("latin-1") of what it pickled, and unpickles what it gets."""
    answer = answered(toy(increment, LEGACY), {"a": pickled(np.arange(3.0), protocol), "b": 5, "c": [1, 2]})
    found = json.loads(answer.body)
    assert pickle.loads(found["a"].encode("latin-1")).tolist() == [1, 2, 3]
    assert pickle.loads(found["c"].encode("latin-1")).tolist() == [2, 3]
    assert found["b"] == 6


def test_what_is_no_array_of_numbers_is_answered_as_json():
    """Texts, lists, arrays of objects; tensors and numpy's numbers are arrays."""
    answer = answered(
        toy(lambda data: {**data, "n": np.float64(2), "t": torch.ones(2), "o": np.array([None]), "l": [1]}, LEGACY),
        {"a": pickled(np.zeros(1)), "url": "https://bucket/key"},
    )
    found = json.loads(answer.body)
    assert (found["url"], found["o"], found["l"]) == ("https://bucket/key", [None], [1])
    assert pickle.loads(found["n"].encode("latin-1")) == 2.0
    assert pickle.loads(found["t"].encode("latin-1")).tolist() == [1.0, 1.0]


def test_a_pickled_request_may_ask_for_npz():
    """The Accept header says how the arrays go back."""
    answer = answered(toy(increment, LEGACY), {"a": pickled(np.arange(3.0))}, accept=NPZ)
    assert np.load(io.BytesIO(answer.body))["a"].tolist() == [1, 2, 3]


def test_json_lines_may_hold_pickles():
    """Each line is answered as it came."""
    body = (json.dumps({"a": pickled(np.ones(1))}) + "\n" + json.dumps({"a": [5]}) + "\n").encode()
    answer = answered(toy(increment, LEGACY), body, content_type=JSON_LINES, accept=JSON_LINES)
    old, new = map(json.loads, answer.body.splitlines())
    assert pickle.loads(old["a"].encode("latin-1")).tolist() == [2.0]
    assert new == {"a": [6]}


def test_a_request_without_pickles_is_answered_without():
    """Clients of today see no difference."""
    assert json.loads(answered(toy(increment, LEGACY), {"a": [1]}).body) == {"a": [2]}


def test_a_pickle_is_a_text_unless_the_deployer_said_otherwise():
    """It is handed over as it came."""
    text = pickled(np.arange(3.0))
    answer = answered(toy(lambda data: {"type": type(data["a"]).__name__, **data}), {"a": text})
    assert json.loads(answer.body) == {"type": "str", "a": text}


def test_what_looks_like_a_pickle_is_told_once_in_the_log(caplog):
    """With the switch that would read it; nothing in the answer, nothing of ordinary texts."""
    dictionaries._tell_of_pickles.cache_clear()
    made = toy(lambda data: {"kind": type(data["a"]).__name__})
    for text in ("an ordinary text", *(2 * [pickled(np.arange(3.0))])):
        assert json.loads(answered(made, {"a": text}).body) == {"kind": "str"}
    (told,) = [record for record in caplog.records if "TIDEGATE_LEGACY_PICKLE=on" in record.message]
    assert told.levelname == "WARNING"


def test_a_pickled_number_of_python_is_answered_as_it_came():
    """As numpy's are."""
    found = json.loads(answered(toy(increment, LEGACY), {"a": pickled(1), "b": pickled(1.5)}).body)
    assert {key: pickle.loads(value.encode("latin-1")) for key, value in found.items()} == {"a": 2, "b": 2.5}


def test_a_masked_array_is_no_pickle_that_forgets_its_mask():
    """It is JSON, with null for what is masked."""
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    answer = answered(toy(lambda _: {"m": masked}, LEGACY), {"a": pickled(np.zeros(1))})
    assert json.loads(answer.body) == {"m": [1.0, None]}


@pytest.mark.parametrize("protocol", range(6))
def test_a_gadget_is_400_and_names_the_key(protocol, tmp_path):
    """One sentence, and nothing ran."""

    class Gadget:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "made",)

    (outcome,) = outcomes(toy(increment, LEGACY), {"good": 1, "bad": pickled(Gadget(), protocol)})
    assert (outcome.status, outcome.code) == (400, "bad_request")
    assert outcome.message.startswith("'bad' of the JSON object is a pickle that is not read: it ")
    assert not (tmp_path / "made").exists()


def test_pickled_requests_share_a_declared_call_with_pickled_ones():
    """And get pickles back, each its own."""
    calls: list[int] = []

    def model(data: Any) -> Any:
        calls.append(len(data["x"]))
        return {"x": data["x"] * 2}

    bodies: list[Any] = [{"x": pickled(np.full((1, 2), float(number)))} for number in range(3)]
    *old, new = outcomes(toy(model, LEGACY, joins=True), *bodies, {"x": [[9.0, 9.0]]})
    got = [pickle.loads(json.loads(each.body)["x"].encode("latin-1")).tolist() for each in old]
    assert got == [[[2.0 * number] * 2] for number in range(3)]
    assert json.loads(new.body) == {"x": [[18.0, 18.0]]}
    assert max(calls) == 3


def test_a_dictionary_of_pickles_is_known_by_its_type():
    """Which survives being joined and cut."""
    found = read(json.dumps({"a": pickled(np.zeros(1))}), "application/json", reading=LEGACY)
    assert type(found) is PickledArrays
