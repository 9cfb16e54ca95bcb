"""What a manifest says of a model's call: read with every mistake in its place, and turned into calls."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.forms.toy_forms import SIGNATURE
from tidegate.inference.worker.forms.arguments import builder, flatten, gatherer
from tidegate.inference.worker.forms.signature import Mistake, Signature, read
from tidegate.inference.worker.misfit import InputRefused

TENSOR = {"name": "a", "dtype": "float32", "shape": ["batch", 2]}
TWO = [TENSOR, {**TENSOR, "name": "b"}]


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SIGNATURE), **changes}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "signature is None; it must be an object"),
        ([], "signature is []; it must be an object"),
        (changed(inputs=[]), "signature.inputs is []"),
        (changed(inputs=[TENSOR] * 2), "signature.inputs has two tensors of one name"),
        (changed(inputs=[{**TENSOR, "dtype": "float99"}]), "signature.inputs[0].dtype is 'float99'"),
        (changed(inputs=[{**TENSOR, "shape": [-1]}]), "signature.inputs[0].shape is [-1]"),
        (changed(inputs=[{**TENSOR, "shape": [True]}]), "signature.inputs[0].shape is [True]"),
        (changed(inputs=[{**TENSOR, "shape": [1] * 99}]), "signature.inputs[0].shape is [1"),
        (changed(inputs=[{**TENSOR, "name": 7}]), "signature.inputs[0].name is 7"),
        (changed(positional=["y"]), "signature.positional[0] is 'y'"),
        (changed(positional=[]), "signature: positional and keyword must name every input once"),
        (changed(positional=["x", "x"]), "signature: positional and keyword must name every input once"),
        (changed(keyword="x"), "signature.keyword is 'x'"),
        (changed(dimensions={"batch": {"min": 9, "max": 1}}), "signature.dimensions.batch is {"),
        (changed(dimensions={"batch": {"min": "1"}}), "signature.dimensions.batch is {"),
        (changed(structure="heap"), "signature.structure is 'heap' with 1 outputs"),
        (changed(structure={"dict": ["other"]}), "signature.structure.dict[0] is 'other'"),
        (changed(constants={"flag": [1]}), "signature.constants.flag is [1]"),
    ],
)
def test_a_mistake_is_said_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(Mistake, match="^" + said.replace("[", r"\[").replace("]", r"\]").replace("{", r"\{")):
        read(value, "signature")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["x", "batch", "dict"]),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*SIGNATURE, "name", "dtype"]), inner)
        ),
        max_leaves=20,
    ),
    st.sampled_from([*SIGNATURE]),
)
def test_no_json_makes_the_reader_fail_otherwise_than_by_a_mistake(value: Any, key: str) -> None:
    for whole in (value, changed(**{key: value})):
        with suppress(Mistake):
            assert isinstance(read(whole, "signature"), Signature)


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [
        ((["batch", 4], ["batch", 3]), "batch"),
        ((["batch", 4], [4, 3]), None),
        ((["batch", "batch"], ["batch", 3]), None),
        (([4], ["batch"]), None),
        (([], ["batch"]), None),
    ],
)
def test_records_are_counted_by_the_first_dimension_of_every_tensor_and_no_other(
    shapes: tuple[list[Any], list[Any]], batch: str | None
) -> None:
    inputs = [{"name": "x", "dtype": "float32", "shape": shapes[0]}]
    outputs = [{"name": "output", "dtype": "float32", "shape": shapes[1]}]
    assert read(changed(inputs=inputs, outputs=outputs), "signature").batch == batch


def test_inputs_are_found_where_the_model_takes_them() -> None:
    """One after the other, by name, in a dict or list, beside what is no tensor."""

    def gathered(positional: list[Any], keyword: list[str], *given: Any, **named: Any) -> list[Any]:
        signature = read(
            changed(inputs=TWO, positional=positional, keyword=keyword, constants={"flag": False}), "signature"
        )
        return list(gatherer(signature)(given, named))

    assert gathered(["a", "b"], [], 1, 2) == [1, 2]
    assert gathered(["a", "b"], [], 1, b=2) == [1, 2]
    assert gathered(["a"], ["b"], 1, b=2, flag=False, other=None) == [1, 2]
    assert gathered([], ["a", "b"], b=2, a=1) == [1, 2]
    assert gathered([{"dict": {"left": "a", "right": "b"}}], [], {"right": 2, "left": 1}) == [1, 2]
    assert gathered([{"dict": ["a", "b"]}], [], {"b": 2, "a": 1}) == [1, 2]
    assert gathered([{"list": ["b", "a"]}], [], [2, 1]) == [1, 2]
    assert gathered(["a", {"constant": 3}, "b"], [], 1, 3, 2) == [1, 2]


@pytest.mark.parametrize(
    ("positional", "given", "named", "said"),
    [
        (["a", "b"], (1, 2, 3), {}, "takes 2 positional inputs, and 3 were given"),
        (["a", "b"], (1,), {}, "the input 'b' is missing"),
        (["a", "b"], (1, 2), {"a": 1}, "the input 'a' is given twice"),
        (["a", "b"], (1, 2), {"c": 1}, "the model has the inputs a, b, not c"),
        (["a", {"constant": 3}, "b"], (1, 4, 2), {}, "made for 3 where it is given 4"),
        (["a", {"constant": True}, "b"], (1, 1, 2), {}, "made for True where it is given 1"),
        ([{"dict": ["a", "b"]}], (5,), {}, "takes its inputs by name"),
        ([{"dict": ["a", "b"]}], ({"a": 1},), {}, "the input 'b' is missing"),
        ([{"dict": ["a", "b"]}], ({"a": 1, "b": 1, "c": 1},), {}, "not c"),
        ([{"tuple": ["a", "b"]}], ((1,),), {}, "takes a tuple of 2 inputs"),
    ],
)
def test_a_call_of_another_shape_is_refused(
    positional: list[Any], given: tuple[Any, ...], named: dict[str, Any], said: str
) -> None:
    gather = gatherer(read(changed(inputs=TWO, positional=positional), "signature"))
    with pytest.raises(InputRefused, match=said):
        gather(given, named)


@pytest.mark.parametrize(
    ("structure", "built"),
    [
        ("list", [1, 2]),
        ("tuple", (1, 2)),
        ({"dict": ["a", "b"]}, {"a": 1, "b": 2}),
        ({"dict": {"all": {"list": ["b", "a"]}}}, {"all": [2, 1]}),
    ],
)
def test_an_answer_is_put_together_and_taken_apart_as_declared(structure: Any, built: Any) -> None:
    result = read(changed(outputs=TWO, structure=structure), "signature").result
    assert builder(result)([1, 2]) == built
    into: list[Any] = [None, None]
    flatten(result, built, into)
    assert into == [1, 2]
    assert torch.tensor(into).tolist() == [1, 2]
