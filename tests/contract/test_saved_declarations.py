"""What save_model declares about pictures, records, tensors and classes is done alike at the save and by the server."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.inference.declarations import classes, table, tensors
from tidegate.inference.errors import BadRequest, DeploymentError, HandlerFailed, UnsupportedMediaType
from tidegate.inference.images import declaration
from tidegate.inference.worker.declared import class_names, tables
from tidegate.inference.worker.declared import tensors as declared_tensors
from tidegate.inference.worker.declared.one_of_several import one_of_several as the_servers_choice
from tidegate.training_hooks import ArtifactError, class_functions, table_functions
from tidegate.training_hooks.answer_example import HandlerProblem, one_of_several
from tidegate.training_hooks.declarations.classes import checked_classes
from tidegate.training_hooks.declarations.image import checked_image
from tidegate.training_hooks.declarations.table import checked_table
from tidegate.training_hooks.declarations.tensors import checked_tensors

CSV, JSON, JSON_LINES, NPY = "text/csv", "application/json", "application/jsonlines", "application/x-npy"
COLUMNS = ["age", {"name": "height", "missing": 1.75}, {"name": "income", "missing": "nan"}]
MIXED = {"columns": [{"name": "id", "dtype": "int64"}, "age", {"name": "smokes", "dtype": "bool"}], "as": "columns"}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(-99), other.nan_to_num(-99))


@pytest.mark.parametrize(
    ("said", "body", "content_type"),
    [
        ({"columns": COLUMNS}, "41,,9\n7,1.25,\n", CSV),
        ({"columns": COLUMNS}, "income,age,height\n9,41,1.5\n", CSV),
        ({"columns": COLUMNS, "others": "ignore"}, "x,income,age,height\n9,9,41,1.5\n1,2,3,4\n", CSV),
        ({"columns": ["0", "1"], "header": "required"}, "1,0\n5,6", CSV),
        ({"columns": COLUMNS}, '{"age": 1, "height": null, "income": 3}', JSON),
        ({"columns": COLUMNS}, '[{"age": 1, "height": null, "income": 3}]', JSON),
        ({"columns": COLUMNS}, "[1, null, 3]", JSON),
        ({"columns": COLUMNS}, "[[1, null, 3], [4, 5, 6]]", JSON),
        ({"columns": COLUMNS}, b'[1, 2, 3]\n{"age": 1, "height": null, "income": 3}\n', JSON_LINES),
        ({"columns": COLUMNS}, npy(np.array([[1, np.nan, 3.0]])), NPY),
        ({"columns": COLUMNS}, npy(np.array([[True, False, True]])), NPY),
        ({"columns": COLUMNS}, "16777217.0,16777216,\u00a04\n", CSV),
        ({"columns": COLUMNS}, "[16777217.0, 16777218, 1]", JSON),
        (MIXED, f"{2**53 + 1},3,true\n-1,2,0", CSV),
        (MIXED, f'[{{"id": {2**53 + 1}, "age": 2.5, "smokes": false}}]', JSON),
    ],
)
def test_both_sides_read_the_same_records(said: Any, body: Any, content_type: str) -> None:
    plain = json.loads(json.dumps(checked_table(said)))
    wanted = table.declared({"table": plain})
    assert wanted is not None
    ours, _, records, alone = table_functions.table(body, content_type, plain)
    theirs = tables.read(body, content_type, wanted, max_decoded_bytes=1 << 20)
    assert same(ours, theirs.data)
    assert (records, alone) == (theirs.records, theirs.one_alone)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("1,2\n", CSV),
        ("age,height\n1,2", CSV),
        ("ages,height,income\n1,2,3", CSV),
        (",1,2", CSV),
        ("x,1,2", CSV),
        ('{"age": 1, "height": 2}', JSON),
        ('{"age": "1", "height": 2, "income": 3}', JSON),
        (b"<a/>", "text/xml"),
        *((f"{cell},1,2", CSV) for cell in ("1_000", "\u0663", "true", "16777217", "1e39", "inf")),
        *((f"[{cell}, 1, 2]", JSON) for cell in ("true", "16777217", "1e39", "1e999")),
        (npy(np.array([[16777217, 1, 2]])), NPY),
    ],
)
def test_both_sides_refuse_the_same_records(body: Any, content_type: str) -> None:
    plain = checked_table({"columns": COLUMNS})
    with pytest.raises(table_functions.NotDone):
        table_functions.table(body, content_type, plain)
    wanted = table.declared({"table": plain})
    assert wanted is not None
    with pytest.raises((BadRequest, UnsupportedMediaType)):
        tables.read(body, content_type, wanted, max_decoded_bytes=1 << 20)


TWO = [{"name": "ids", "dtype": "int64", "shape": ["n", None]}, {"name": "mask", "dtype": "bool", "shape": ["n", 2]}]


@pytest.mark.parametrize(
    ("said", "body", "content_type", "fits"),
    [
        ([{"name": "x", "shape": ["batch", 2]}], "[[1, 2.5]]", JSON, True),
        ([{"name": "x", "shape": ["batch", 2]}], '{"x": [[1, 2.5], [3, 4]]}', JSON, True),
        ([{"name": "x", "shape": ["batch", 2]}], b"[1, 2]\n[3, 4]\n", JSON_LINES, True),
        ([{"name": "x", "shape": ["batch", 2]}], npy(np.ones((3, 2), np.int16)), NPY, True),
        ([{"name": "x", "shape": [1, 2]}], "[[1, 2]]", JSON, True),
        (TWO, '{"mask": [[1, 0]], "ids": [[3, 4, 5]]}', JSON, True),
        (TWO, '{"mask": [[1, 2]], "ids": [[3]]}', JSON, False),
        (TWO, '{"mask": [[1, 0]], "ids": [[3.5]]}', JSON, False),
        (TWO, '{"mask": [[1, 0]], "ids": [[3], [4]]}', JSON, False),
        (TWO, '{"mask": [[1, 0]]}', JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], "[1, 2]", JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], "[[true, 2]]", JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], "[[true, false]]", JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], "[[16777217, 2]]", JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], "[[1e39, 2]]", JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], npy(np.ones((3, 2), bool)), NPY, True),
        (TWO, '{"mask": [[true, 0]], "ids": [[3]]}', JSON, True),
        (TWO, '{"mask": [[1, 0]], "ids": [[3, true]]}', JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], "[[1, 2, 3]]", JSON, False),
        ([{"name": "x", "shape": ["batch", 2]}], '[["1", 2]]', JSON, False),
    ],
)
def test_both_sides_take_the_same_tensors(said: Any, body: Any, content_type: str, fits: bool) -> None:
    plain = json.loads(json.dumps(checked_tensors(said)))
    wanted = tensors.declared({"tensors": plain})
    assert wanted is not None
    if not fits:
        with pytest.raises(table_functions.NotDone):
            table_functions.tensors(body, content_type, plain)
        with pytest.raises(BadRequest):
            declared_tensors.read(body, content_type, wanted, max_decoded_bytes=1 << 20)
        return
    ours, _, records, alone = table_functions.tensors(body, content_type, plain)
    theirs = declared_tensors.read(body, content_type, wanted, max_decoded_bytes=1 << 20)
    assert same(ours, theirs.data)
    assert (records, alone) == (theirs.records, theirs.one_alone)


@pytest.mark.parametrize("accept", [JSON, JSON_LINES, CSV, NPY])
@pytest.mark.parametrize(
    ("said", "prediction", "records"),
    [
        ({}, torch.tensor([[1.0, 5.0, 3.0]]), 1),
        ({"top_k": 2, "threshold": 0.2}, torch.tensor([[-1.5, 0.5, 2.5], [1.75, 1.0, -2.0], [0.0, 0.25, 9.0]]), 3),
        ({"activation": "sigmoid", "threshold": 0.9}, torch.tensor([[-1.0, 5.0, -3.0], [-9.0, -9.0, -9.0]]), 2),
        ({"activation": "none"}, torch.tensor([[2, 2, 1]]), 0),
        ({"from": "logits"}, {"aux": torch.zeros(1), "logits": torch.tensor([[1.5, -2.0, 0.25]]).half()}, 1),
        ({"from": 1}, (torch.zeros(1), torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 1.5]])), 2),
        ({}, torch.tensor([0.5, 1.0, -0.5]), 1),
    ],
)
def test_both_sides_write_the_same_classes(said: Any, prediction: Any, records: int, accept: str) -> None:
    plain = json.loads(json.dumps(checked_classes(said, 3)))
    labels = ("a", "b, c", "d")
    wanted = classes.declared({"classes": plain}, labels)
    assert wanted is not None
    for alone in (True, False):
        meant = one_of_several(prediction, plain.get("from"), "classes.from")
        ours = class_functions.output_fn(meant, accept, plain, labels, records=records, alone=alone)
        theirs = class_names.write(prediction, accept, wanted, records=records, one_alone=alone)
        if accept == NPY:
            np.testing.assert_allclose(np.load(io.BytesIO(ours)), np.load(io.BytesIO(theirs)), rtol=1e-6)
        else:
            assert ours == theirs


@pytest.mark.parametrize(
    ("said", "prediction", "records"),
    [
        ({}, torch.zeros(1, 4), 1),
        ({}, torch.zeros(2, 3), 1),
        ({}, torch.zeros(1, 3, 1), 1),
        ({}, torch.full((1, 3), float("nan")), 1),
        ({"activation": "none"}, torch.full((1, 3), float("inf")), 1),
    ],
)
def test_both_sides_refuse_what_are_no_such_scores(said: Any, prediction: Any, records: int) -> None:
    wanted = classes.declared({"classes": said}, ("a", "b", "c"))
    assert wanted is not None
    with pytest.raises(class_functions.NotDone):
        class_functions.output_fn(prediction, JSON, said, ("a", "b", "c"), records=records, alone=True)
    with pytest.raises(HandlerFailed):
        class_names.write(prediction, JSON, wanted, records=records, one_alone=True)


@pytest.mark.parametrize("member", [None, "other", 2])
@pytest.mark.parametrize("prediction", [{"aux": 1, "logits": 2}, (1, 2), [1, 2], {}, ()], ids=repr)
def test_both_sides_refuse_to_choose_among_several_predictions(prediction: Any, member: Any) -> None:
    """Of one that has several, and of one that lacks what is named."""
    with pytest.raises(HandlerProblem, match=r"classes\.from must (name|number) one"):
        one_of_several(prediction, member, "classes.from")
    with pytest.raises(HandlerFailed, match=r"classes\.from of the manifest must (name|number) one"):
        the_servers_choice(prediction, member, "classes.from")


# --- every mistake that one side refuses, the other refuses

_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40_000),
    st.sampled_from(
        [2**31, 10**39, 10**400, 0.0, 0.5, 2.0, -1.5, 1e39, "", " ", "a", "nan", "refuse", "1", "true", [], {}]
    ),
)


def _either(*sound: Any) -> st.SearchStrategy[Any]:
    """A sound value, more often than an odd one."""
    return st.one_of(st.sampled_from(sound), st.sampled_from(sound), st.sampled_from(sound), _ODD)


def _object(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    misspelt = st.sampled_from([{}, {}, {}, {}, {}, {"colour": 1}])
    return st.builds(lambda found, odd: found | odd, st.fixed_dictionaries({}, optional=keys), misspelt)


_PALETTE = st.one_of(
    _object(
        colours=st.one_of(
            st.lists(_either("#000000", "#ffffff", [1, 2, 3], "white", "black", [0, 0, 256]), max_size=3), _ODD
        ),
        names=_either(["a", "b"], ["a"], ["a", "a"]),
        unknown=_either("error", "nearest"),
    ),
    st.just({"colours": ["#000000", "#010101"]}),
    st.just("input"),
    _ODD,
)
_SIZE = st.one_of(
    _object(
        height=_either(8, 224),
        width=_either(8, 224),
        policy=_either("exact", "limit", "resize", "crop"),
        shorter_side=_either(8, 256),
    ),
    st.just({"height": 8, "width": 8}),
    _ODD,
)
_NUMBERS = _either(0, 0.5, [0.1, 0.2, 0.3], [1, 1], [0, 1, 2], [1, 1, True])
_RANGE = _either([0, 1], [-1, 1], [1, 1], [0, 1, 2])
_IMAGE = _object(
    input=st.one_of(
        _object(
            **{"as": _either("pixels", "labels"), "key": _either("image"), "palette": _PALETTE, "size": _SIZE},
            **{
                "max_pixels": _either(9, 2**30, 2**30 + 1),
                "classes": _either(3, 65_536, 65_537),
                "interpolation": _either("nearest", "bicubic"),
            },
            **{"value_range": _RANGE, "mean": _NUMBERS, "std": _NUMBERS, "colour_order": _either("rgb", "bgr")},
            **{"background": _either("drop", "refuse", "#102030", [1, 2, 3]), "orientation": _either("obey", "ignore")},
        ),
        _ODD,
    ),
    output=st.one_of(
        _object(
            **{
                "as": _either("pixels", "labels"),
                "key": _either("image"),
                "palette": _PALETTE,
                "from": _either(0, "x"),
            },
            **{"value_range": _RANGE, "media_type": _either("image/png", "image/webp", "image/gif")},
            **{"colour_order": _either("rgb", "bgr"), "size": _either("model", "input")},
        ),
        _ODD,
    ),
)
_CLASSES = _object(
    **{"activation": _either("softmax", "sigmoid", "none"), "top_k": _either(1, 3, 4), "threshold": _either(0.5, 1, 7)},
    **{"from": _either(0, "logits")},
)
_COLUMN = st.one_of(
    _object(
        name=_either("a", "b", "c"),
        dtype=_either("float32", "int64", "int32", "bool"),
        missing=_either("refuse", "nan", 1, 0.5, True),
    ),
    st.sampled_from(["a", "b", "c"]),
    _ODD,
)
_TABLE = _object(
    **{"columns": st.one_of(st.lists(_COLUMN, max_size=3), _ODD), "as": _either("matrix", "columns")},
    **{"header": _either("auto", "required", "none"), "others": _either("refuse", "ignore")},
)
_TENSORS = st.one_of(
    st.lists(
        st.one_of(
            _object(
                name=_either("x", "y"),
                dtype=_either("float32", "int64"),
                shape=st.one_of(st.lists(_either(1, "n", None), max_size=3), _ODD),
            ),
            _ODD,
        ),
        max_size=2,
    ),
    _ODD,
)


def _server_takes(key: str, value: Any) -> bool:
    manifest = {key: value}
    try:
        if key == "image":
            declaration.declared(manifest)
        elif key == "classes":
            classes.declared(manifest, ("a", "b", "c"))
        elif key == "table":
            table.declared(manifest)
        else:
            tensors.declared(manifest)
    except DeploymentError:
        return False
    return True


def _saved(key: str, value: Any) -> Any:
    """What the save would write; None where it refuses."""
    checks: dict[str, Any] = {
        "image": checked_image,
        "classes": lambda said: checked_classes(said, 3),
        "table": checked_table,
        "tensors": checked_tensors,
    }
    try:
        return checks[key](value)
    except ArtifactError:
        return None


@settings(max_examples=1000, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("image"), _IMAGE),
        st.tuples(st.just("classes"), _CLASSES),
        st.tuples(st.just("table"), _TABLE),
        st.tuples(st.just("tensors"), _TENSORS),
    )
)
def test_a_declaration_is_taken_by_both_sides_or_by_none(said: Any) -> None:
    """And what the save writes of it, the server takes."""
    key, value = said
    written = _saved(key, value)
    assert (written is not None) == _server_takes(key, value), (key, value)
    assert written is None or _server_takes(key, json.loads(json.dumps(written)))
