"""The open inference protocol in a worker: what the functions are given, and what becomes of a prediction."""

from __future__ import annotations

import io
import json
import math
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.toy_models import answered, computation, refused
from tidegate.inference.protocol import Answer, Form, Request
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.tensor_data import DATATYPES

NUMPY = {
    **{f"{kind}{bits}": f"{kind.lower()}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BOOL": "bool",
}
TORCH = {
    **{name: getattr(torch, kind) for name, kind in NUMPY.items()},
    "BF16": torch.bfloat16,
}


def asking(content: Any, tail: bytes = b"", number: int = 1, length: str | None = None) -> Request:
    """A request of this JSON, with bytes behind it where there are any."""
    head = content if isinstance(content, bytes) else json.dumps(content).encode()
    said = length if length is not None else str(len(head)) if tail else None
    headers = f"inference-header-content-length: {said}\r\n".encode() if said is not None else b""
    return Request(number, "application/json", "*/*", headers, memoryview(head + tail), Form.OPEN_INFERENCE)


def tensor(data: Any = None, datatype: str = "FP32", shape: Any = None, name: str = "x", **parameters: Any) -> Any:
    """An input."""
    entry = {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape}
    return {
        **entry,
        **({"data": data} if data is not None else {}),
        **({"parameters": parameters} if parameters else {}),
    }


def whole(*inputs: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), **more}


def outputs(answer: Answer) -> dict[str, Any]:
    """The outputs of an answer by name, the bytes of each as its `data`."""
    lines = dict(line.split(": ") for line in answer.headers.decode().split("\r\n") if line)
    length = lines.get("Inference-Header-Content-Length")
    at = int(length) if length is not None else len(answer.body)
    assert (answer.content_type == "application/octet-stream") == (length is not None)
    content = json.loads(answer.body[:at])
    for output in content["outputs"]:
        if (size := output.get("parameters", {}).get("binary_data_size")) is not None:
            output["data"], at = answer.body[at : at + size], at + size
    assert at == len(answer.body)
    return {output["name"]: output for output in content["outputs"]}


def echo(**functions: Any) -> Computation:
    """A model that answers what it was given."""
    return computation(predict_fn=lambda data, _: data, **functions)


def seen(*inputs: Any, tail: bytes = b"") -> Any:
    """What `predict_fn` is given."""
    found = []
    toy = computation(predict_fn=lambda data, _: found.append(data) or 1)
    answered(toy, asking(whole(*inputs), tail))
    return found[0]


# --- there and back


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, list[int], list[Any]]:
    """A datatype, a shape, and the elements."""
    datatype = draw(st.sampled_from([name for name in DATATYPES if name != "BF16"]))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    element: st.SearchStrategy[Any]
    if datatype == "BYTES":
        element = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    elif datatype == "BOOL":
        element = st.booleans()
    elif datatype.startswith("FP"):
        element = st.floats(width=int(datatype[2:]), allow_nan=False)  # type: ignore[arg-type]
    else:
        info = np.iinfo(NUMPY[datatype])
        element = st.integers(int(info.min), int(info.max))
    size = math.prod(shape)
    return datatype, shape, draw(st.lists(element, min_size=size, max_size=size))


def raw(datatype: str, elements: list[Any]) -> bytes:
    if datatype == "BYTES":
        encoded = [each.encode() if isinstance(each, str) else each for each in elements]
        return b"".join(struct.pack("<I", len(each)) + each for each in encoded)
    return np.array(elements, NUMPY[datatype]).tobytes()


@given(tensors(), st.booleans(), st.booleans())
def test_a_tensor_comes_back_as_it_went_whichever_way_it_travels(
    sent: tuple[str, list[int], list[Any]], binary_in: bool, binary_out: bool
) -> None:
    datatype, shape, elements = sent
    bytes_of = datatype == "BYTES"
    toy = computation(predict_fn=lambda data, _: {"y": np.array(data, object).reshape(shape) if bytes_of else data})
    data = raw(datatype, elements)
    parameters = {"binary_data_size": len(data)} if binary_in else {}
    entry = tensor(None if binary_in else elements, datatype, shape, **parameters)
    content = whole(entry, outputs=[{"name": "y", "parameters": {"binary_data": binary_out}}])
    length = None if not binary_in or data else str(len(json.dumps(content)))
    output = outputs(answered(toy, asking(content, data if binary_in else b"", length=length)))["y"]
    assert (output["datatype"], output["shape"]) == (datatype, shape)
    assert output["data"] == (data if binary_out else elements)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=6), st.booleans())
def test_bfloat16_travels_as_its_bits_and_as_numbers(bits: list[int], nested: bool) -> None:
    shape = [1, len(bits)] if nested else [len(bits)]
    data = np.array(bits, "<u2").tobytes()
    given_ = seen(tensor(None, "BF16", shape, binary_data_size=len(data)), tail=data)
    assert given_.dtype is torch.bfloat16
    toy = echo()
    entry = tensor(None, "BF16", shape, binary_data_size=len(data))
    both = answered(toy, asking(whole(entry, parameters={"binary_data_output": True}), data))
    assert outputs(both)["output_0"]["data"] == data
    in_json = outputs(answered(toy, asking(whole(entry), data)))["output_0"]
    assert in_json["datatype"] == "BF16"
    values = torch.tensor(in_json["data"], dtype=torch.bfloat16).reshape(shape)
    assert torch.equal(values, given_) or given_.isnan().any()


@given(st.binary(max_size=200), st.text("0123456789-", max_size=4) | st.none())
def test_no_body_is_anything_but_answered_or_refused(body: bytes, length: str | None) -> None:
    assert refused(echo(), asking(body, length=length)).status == 400


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "datatype", "shape", "data", "parameters"), JSONS)))
def test_no_input_is_anything_but_answered_or_refused(entry: Any) -> None:
    entry = {"name": "x", "datatype": "FP32", "shape": [1], **entry}
    (outcome,), _ = ask(echo(), [asking(whole(entry))])
    assert outcome.status in (200, 400, 413)


# --- what predict_fn is given


@pytest.mark.parametrize("datatype", TORCH)
def test_one_input_is_a_tensor_of_its_datatype(datatype: str) -> None:
    data = [[True, False]] if datatype == "BOOL" else [[1, 2]]
    found = seen(tensor(data, datatype, [1, 2]))
    assert torch.equal(found, torch.tensor(data, dtype=TORCH[datatype]))


def test_several_inputs_are_a_dict_by_name() -> None:
    found = seen(tensor([1], name="a"), tensor([True], "BOOL", name="b"))
    assert found["a"].dtype is torch.float32
    assert found["b"].dtype is torch.bool


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_data_is_flat_or_nested_as_the_shape_says(data: Any) -> None:
    assert seen(tensor(data, shape=[2, 2])).tolist() == [[1, 2], [3, 4]]


def test_elements_of_bytes_are_bytes_in_lists_whichever_way_they_come() -> None:
    words = ["a", "ü"], ["", "b"]
    in_json = seen(tensor([*words[0], *words[1]], "BYTES", [2, 2]))
    data = raw("BYTES", [*words[0], *words[1]])
    assert in_json == [[b"a", "ü".encode()], [b"", b"b"]]
    assert seen(tensor(None, "BYTES", [2, 2], binary_data_size=len(data)), tail=data) == in_json
    assert seen(tensor(["one"], "BYTES", [])) == b"one"


def test_floating_inputs_may_be_no_numbers() -> None:
    found = seen(tensor([math.nan, math.inf, -math.inf]))
    assert [math.isnan(found[0]), *found[1:].tolist()] == [True, math.inf, -math.inf]


def test_the_largest_number_of_a_datatype_may_be_written_as_short_as_other_languages_do() -> None:
    assert seen(tensor([3.4028235e38])).tolist() == [torch.finfo(torch.float32).max]


def test_inputs_in_json_and_in_bytes_go_together() -> None:
    data = np.array([1, 2], "<i4").tobytes()
    found = seen(
        tensor(None, "INT32", [2], name="a", binary_data_size=4 * 2),
        tensor([1.5], name="b"),
        tensor(None, "BOOL", [1], name="c", binary_data_size=1),
        tail=data + b"\1",
    )
    assert {name: value.tolist() for name, value in found.items()} == {"a": [1, 2], "b": [1.5], "c": [True]}


def test_what_predict_fn_changes_in_place_is_its_own() -> None:
    toy = computation(predict_fn=lambda data, _: data.mul_(2))
    data = np.array([1.5, 2], "<f4").tobytes()
    answer = answered(toy, asking(whole(tensor(None, shape=[2], binary_data_size=8)), data))
    assert outputs(answer)["output_0"]["data"] == [3, 4]


def test_the_default_predict_fn_asks_the_model() -> None:
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    answer = answered(computation(model=model), asking(whole(tensor([[1, 2]], shape=[1, 2]))))
    assert (outputs(answer)["output_0"]["datatype"], outputs(answer)["output_0"]["shape"]) == ("FP64", [1, 1])
    error = refused(computation(model=model), asking(whole(tensor([[1, 2, 3]], shape=[1, 3]))))
    assert (error.status, "does not take an input" in error.message) == (400, True)


# --- what is refused


def binary(size: Any, datatype: str = "FP32", shape: Any = (1,)) -> Any:
    return whole(tensor(None, datatype, list(shape), binary_data_size=size))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "must be a JSON object"),
        ({}, "'inputs' must be"),
        (whole(), "'inputs' must be"),
        ({"inputs": [1]}, "'inputs' must be a list of objects"),
        (whole({**tensor([1]), "name": ""}), "no 'name'"),
        (whole(tensor([1]), tensor([1])), "two inputs of the name 'x'"),
        (whole(tensor([1], "FLOAT")), "has the datatype 'FLOAT'"),
        (whole(tensor([1], shape=1)), "has the shape 1"),
        (whole(tensor([1], shape=[-1])), "has the shape [-1]"),
        (whole(tensor([1], shape=[True])), "has the shape [True]"),
        (whole(tensor([1], shape=[1.0])), "has the shape [1.0]"),
        (whole(tensor([1], shape=[1] * 33)), "33 dimensions"),
        (whole(tensor([1], shape=[2**62, 2**62])), "which no tensor has"),
        (whole(tensor([], shape=[0, 2**62, 2**62])), "which no tensor has"),
        (whole(tensor([1], shape=[2**63])), "has the shape"),
        (whole(tensor([1, 2], shape=[3])), "is of the shape [2], and the shape [3] is announced"),
        (whole(tensor([[1, 2, 3], [4, 5, 6]], shape=[3, 2])), "is of the shape [2, 3]"),
        (whole(tensor([[1], [2, 3]], shape=[3])), "rows of different lengths"),
        (whole(tensor([[1], 2], shape=[2])), "rows of different lengths"),
        (whole(tensor(None, shape=[1])), "must be a list"),
        (whole(tensor("ab", shape=[2])), "must be a list"),
        (whole(tensor([None])), "must be numbers"),
        (whole(tensor(["1"])), "must be numbers"),
        (whole(tensor([True])), "must be numbers"),
        (whole(tensor([1e39])), "that FP32 cannot hold"),
        (whole(tensor([70000], "FP16")), "that FP16 cannot hold"),
        (whole(tensor([10**400], "FP64")), "that FP64 cannot hold"),
        (whole(tensor([1.0], "INT32")), "must be whole numbers"),
        (whole(tensor([math.nan], "INT32")), "must be whole numbers"),
        (whole(tensor([256], "UINT8")), "that UINT8 cannot hold"),
        (whole(tensor([-1], "UINT64")), "that UINT64 cannot hold"),
        (whole(tensor([2**63], "INT64")), "that INT64 cannot hold"),
        (whole(tensor([1], "BOOL")), "must be true and false"),
        (whole(tensor([1], "BYTES")), "must be strings"),
        (b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["\\ud800"]}]}', "not Unicode text"),
        (b'{"inputs": %s' % (b"[" * 100_000), "nested too deeply"),
        (b'{"inputs": [%s]}' % (b"9" * 5000), "too long to be read"),
        (b"\xff", "not valid utf-8"),
        (whole(tensor([1]), parameters=1), "'parameters' that are no object"),
        (whole(tensor([1]), id=1), "'id' must be a string"),
        (whole(tensor([1]), outputs=1), "'outputs' must be a list of objects"),
        (whole(tensor([1]), outputs=[{"name": "y"}]), "has no output 'y'; it has output_0"),
        (whole(tensor([1]), parameters={"binary_data_output": 1}), "must be true or false"),
        (whole(tensor([1]), outputs=[{"name": "output_0", "parameters": {"classification": 3}}]), "'classification'"),
        (whole(tensor([1], shared_memory_region="r")), "'shared_memory_region'"),
        (whole(tensor([1], binary_data_size=4)), "no header Inference-Header-Content-Length"),
    ],
)
def test_a_request_that_says_something_else_than_it_holds_is_400(content: Any, said: str) -> None:
    error = refused(echo(), asking(content))
    assert error.status == 400
    assert said in error.message


@pytest.mark.parametrize(
    ("content", "tail", "said"),
    [
        (binary(4), b"\0" * 5, "1 bytes of the body belong to no input"),
        (binary(5), b"\0" * 4, "a 'binary_data_size' of 5, and 4 bytes are left"),
        (binary(3), b"\0" * 3, "has 3 bytes of data; FP32 of the shape [1] takes 4"),
        (binary(2**70), b"\0", "are left of the body"),
        (binary(-1), b"\0", "no whole number"),
        (binary(True), b"\0", "no whole number"),
        (binary("4"), b"\0" * 4, "no whole number"),
        (binary(4, shape=[2**40]), b"\0" * 4, "takes 4398046511104"),
        (binary(1, "BOOL"), b"\2", "other than 0 and 1"),
        (binary(3, "BYTES"), b"\0" * 3, "too short for 1 elements"),
        (binary(5, "BYTES"), struct.pack("<I", 2) + b"a", "ends within the element 0"),
        (binary(4, "BYTES"), b"\xff" * 4, "ends within the element 0"),
        (binary(6, "BYTES"), struct.pack("<I", 1) + b"ab", "holds not the 1 elements"),
        (binary(9, "BYTES", [2]), struct.pack("<I", 4) + b"abcde", "ends within the element 1"),
        (binary(8, "BYTES", [2**40]), b"\0" * 8, "limit is"),
        (whole({**tensor(None, shape=[1], binary_data_size=4), "data": [1]}), b"\0" * 4, "has both"),
    ],
)
def test_bytes_that_are_not_what_was_announced_are_refused(content: Any, tail: bytes, said: str) -> None:
    error = refused(echo(), asking(content, tail))
    assert (error.status, said in error.message) == (413 if "limit" in said else 400, True), error.message


@pytest.mark.parametrize("length", ["-1", "1e3", "²", "9" * 19, "1000000"])
def test_a_length_of_the_json_that_is_none_is_refused(length: str) -> None:
    error = refused(echo(), asking(whole(tensor([1])), length=length))
    assert (error.status, "Inference-Header-Content-Length" in error.message) == (400, True)


def test_inputs_that_would_take_more_memory_than_the_limit_are_413() -> None:
    toy = echo(limit=1000)
    assert refused(toy, asking(whole(tensor([1] * 126, "FP64")))).status == 413
    assert refused(toy, asking(whole(*(tensor([1] * 63, "FP64", name=name) for name in "ab")))).status == 413


# --- what becomes of a prediction


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (torch.tensor([[1, 2]]), {"output_0": ("INT64", [1, 2], [1, 2])}),
        (torch.tensor(0.5), {"output_0": ("FP32", [], [0.5])}),
        (torch.tensor(0.5, dtype=torch.bfloat16), {"output_0": ("BF16", [], [0.5])}),
        (torch.ones(2, 2).t(), {"output_0": ("FP32", [2, 2], [1, 1, 1, 1])}),
        (torch.ones(2, requires_grad=True), {"output_0": ("FP32", [2], [1, 1])}),
        (np.arange(4, dtype=">u2")[::2], {"output_0": ("UINT16", [2], [0, 2])}),
        (np.float32(2), {"output_0": ("FP32", [], [2])}),
        (np.array(["a", "ü"]), {"output_0": ("BYTES", [2], ["a", "ü"])}),
        (3, {"output_0": ("INT64", [1], [3])}),
        ([[1, 2.5], [3, 4]], {"output_0": ("FP64", [2, 2], [1, 2.5, 3, 4])}),
        ([True], {"output_0": ("BOOL", [1], [True])}),
        ("word", {"output_0": ("BYTES", [1], ["word"])}),
        ([["a"], [b"b"]], {"output_0": ("BYTES", [2, 1], ["a", "b"])}),
        ([torch.ones(2), torch.zeros(2)], {"output_0": ("FP32", [2, 2], [1, 1, 0, 0])}),
        ({"a": [1], 7: "b"}, {"a": ("INT64", [1], [1]), "7": ("BYTES", [1], ["b"])}),
        ((1, [2.0]), {"output_0": ("INT64", [1], [1]), "output_1": ("FP64", [1], [2])}),
        (Pair(1, 2), {"first": ("INT64", [1], [1]), "second": ("INT64", [1], [2])}),
        ([[1], [2, 3]], {"output_0": ("BYTES", [1], ["[[1], [2, 3]]"])}),
        ([{"label": "a"}], {"output_0": ("BYTES", [1], ['[{"label": "a"}]'])}),
        ({"a": None}, {"a": ("BYTES", [1], ["null"])}),
        ([2**70], {"output_0": ("BYTES", [1], [str([2**70])])}),
        ([], {"output_0": ("FP64", [0], [])}),
    ],
)
def test_a_prediction_has_outputs_by_name(prediction: Any, expected: Any) -> None:
    answer = answered(computation(predict_fn=lambda *_: prediction), asking(whole(tensor([1]))))
    found = {name: (each["datatype"], each["shape"], each["data"]) for name, each in outputs(answer).items()}
    assert found == expected


@pytest.mark.parametrize("prediction", [{1, 2}, torch.tensor([1j]), object(), [object()], {"a": {1}}])
def test_a_prediction_that_cannot_be_sent_is_500(prediction: Any) -> None:
    assert refused(computation(predict_fn=lambda *_: prediction), asking(whole(tensor([1])))).status == 500


def test_the_outputs_are_those_that_were_asked_for_in_that_order_and_each_as_it_was_asked_for() -> None:
    toy = computation(predict_fn=lambda *_: {"a": 1, "b": torch.tensor([2.0]), "c": "d"})
    wanted = [{"name": "c", "parameters": {"binary_data": False}}, {"name": "b"}]
    found = outputs(answered(toy, asking(whole(tensor([1]), outputs=wanted, parameters={"binary_data_output": True}))))
    assert list(found) == ["c", "b"]
    assert found["c"]["data"] == ["d"]
    assert found["b"]["data"] == struct.pack("<f", 2)


def test_the_answer_names_the_model_and_the_request() -> None:
    content = json.loads(answered(echo(), asking(whole(tensor([1]), id="seven"))).body)
    assert {key: content[key] for key in ("model_name", "model_version", "id")} == {
        "model_name": "model",
        "model_version": "1",
        "id": "seven",
    }


def test_bytes_that_are_no_text_have_to_be_asked_for_as_bytes() -> None:
    toy = computation(predict_fn=lambda *_: b"\xff")
    error = refused(toy, asking(whole(tensor([1]))))
    assert (error.status, '"binary_data": true' in error.message) == (400, True)
    found = outputs(answered(toy, asking(whole(tensor([1]), parameters={"binary_data_output": True}))))
    assert found["output_0"]["data"] == b"\1\0\0\0\xff"


@pytest.mark.parametrize("functions", [{}, {"output_fn": lambda prediction, _: prediction}])
def test_a_stream_is_no_answer_and_is_closed(functions: Any) -> None:
    closed = []

    def words() -> Any:
        closed.append("begun")
        yield 1

    error = refused(computation(predict_fn=lambda *_: words(), **functions), asking(whole(tensor([1]))))
    assert (error.status, "stream" in error.message, closed) == (400, True, [])


def test_an_answer_over_the_limit_is_500() -> None:
    assert refused(computation(predict_fn=lambda *_: [1] * 500, limit=500), asking(whole(tensor([1])))).status == 500


# --- scripts with functions of their own


def test_an_input_fn_of_the_script_reads_npy_and_an_output_fn_writes_json_as_ever() -> None:
    types = []

    def input_fn(body: Any, content_type: str) -> Any:
        types.append(content_type)
        return np.load(io.BytesIO(body))

    def output_fn(prediction: Any, accept: str) -> str:
        types.append(accept)
        return json.dumps({"twice": (2 * prediction).tolist()})

    toy = echo(input_fn=input_fn, output_fn=output_fn)
    answer = answered(toy, asking(whole(tensor([[1, 2]], "INT32", [1, 2]))))
    assert outputs(answer) == {"twice": {"name": "twice", "datatype": "INT64", "shape": [1, 2], "data": [2, 4]}}
    assert types == ["application/x-npy", "application/json"]


def test_several_inputs_are_npz_to_it() -> None:
    def input_fn(body: Any, content_type: str) -> Any:
        assert content_type == "application/x-npz"
        return {name: value.tolist() for name, value in np.load(io.BytesIO(body)).items()}

    found = outputs(
        answered(echo(input_fn=input_fn), asking(whole(tensor([1], name="a"), tensor([2], "BF16", name="b"))))
    )
    assert {name: each["data"] for name, each in found.items()} == {"a": [1], "b": [2]}


@pytest.mark.parametrize(
    ("parameters", "kind", "given_type"),
    [
        ({"content_type": "text/csv; charset=utf-8"}, str, "text/csv"),
        ({"content_type": "image/png"}, bytearray, "image/png"),
        ({"content_type": "str"}, bytearray, "application/octet-stream"),
        ({}, bytearray, "application/octet-stream"),
    ],
)
def test_one_element_of_bytes_is_the_body_itself(parameters: Any, kind: type, given_type: str) -> None:
    found = []

    def input_fn(body: Any, content_type: str) -> int:
        found.append((body, content_type))
        return 1

    toy = echo(input_fn=input_fn)
    answered(toy, asking(whole(tensor(["ü"], "BYTES", [1, 1], **parameters))))
    answered(toy, asking(whole(tensor(["ü"], "BYTES"), parameters=parameters)))
    assert found == [("ü" if kind is str else bytearray("ü".encode()), given_type)] * 2


@pytest.mark.parametrize("inputs", [[tensor(["a", "b"], "BYTES")], [tensor(["a"], "BYTES"), tensor([1], name="y")]])
def test_other_tensors_of_bytes_are_no_body(inputs: Any) -> None:
    error = refused(echo(input_fn=lambda *_: 1), asking(whole(*inputs)))
    assert (error.status, "The script of this model reads bodies" in error.message) == (400, True)


def test_a_script_that_reads_files_is_given_one() -> None:
    def input_fn(body: BinaryIO, _: Any) -> Any:
        return np.load(body)

    toy = echo(input_fn=input_fn, body_as_file=True)
    assert outputs(answered(toy, asking(whole(tensor([5])))))["output_0"]["data"] == [5]


def test_a_transform_fn_is_asked_for_everything() -> None:
    def transform_fn(_: Any, body: Any, content_type: str, accept: str) -> Any:
        return f"{content_type} {len(body) > 0} {accept}", "text/plain"

    answer = answered(computation(transform_fn=transform_fn), asking(whole(tensor([1]))))
    output = outputs(answer)["output_0"]
    assert output["data"] == ["application/x-npy True application/json"]
    assert output["parameters"] == {"content_type": "text/plain"}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("[[0.5, 1]]", {"output_0": ("FP64", [1, 2], [0.5, 1])}),
        ('{"label": ["cat"], "score": [0.5]}', {"label": ("BYTES", [1], ["cat"]), "score": ("FP64", [1], [0.5])}),
        ((npy(np.float32([1])), "application/x-npy"), {"output_0": ("FP32", [1], [1])}),
        ((npz(a=np.int8([1])), "application/x-npz"), {"a": ("INT8", [1], [1])}),
        ({"a": [1]}, {"a": ("INT64", [1], [1])}),
        (torch.ones(1), {"output_0": ("FP32", [1], [1])}),
        ("no JSON", {"output_0": ("BYTES", [1], ["no JSON"])}),
        ((b"1,2\n", "text/csv"), {"output_0": ("BYTES", [1], ["1,2\n"])}),
    ],
)
def test_an_output_fn_of_the_script_is_read_by_the_type_of_its_answer(returned: Any, expected: Any) -> None:
    answer = answered(echo(output_fn=lambda *_: returned), asking(whole(tensor([1]))))
    found = {name: (each["datatype"], each["shape"], each["data"]) for name, each in outputs(answer).items()}
    assert found == expected


# --- together


@pytest.mark.parametrize("own", [False, True])
def test_requests_are_joined_by_the_same_rules(own: bool) -> None:
    calls = []

    def predict_fn(data: Any, _: Any) -> Any:
        calls.append(len(data))
        return data * 2

    own_functions: dict[str, Any] = {
        "input_fn": lambda body, _: torch.from_numpy(np.load(io.BytesIO(body))),
        "output_fn": lambda prediction, _: json.dumps(prediction.tolist()),
    }
    toy = computation(predict_fn=predict_fn, joins=True, prove=False, **(own_functions if own else {}))
    wanted = [[[1, 2]], [[3, 4], [5, 6]]]
    requests = [asking(whole(tensor(rows, shape=[len(rows), 2])), number=number) for number, rows in enumerate(wanted)]
    plain = Request(2, "application/json", "", b"", memoryview(b"[[7, 8]]"))
    answers, account = ask(toy, [*requests] if own else [*requests, plain])
    assert calls == [3 if own else 4]
    assert account.joined == 1
    for rows, answer in zip(wanted, answers, strict=False):
        assert isinstance(answer, Answer)
        output = outputs(answer)["output_0"]
        assert output["shape"] == [len(rows), 2]
        assert output["data"] == [2 * value for row in rows for value in row]
    if not own:
        assert json.loads(answers[2].body) == [[14, 16]]  # type: ignore[union-attr]


def test_one_bad_request_of_a_batch_is_refused_by_itself() -> None:
    toy = computation(predict_fn=lambda data, _: data, joins=True)
    good, bad = asking(whole(tensor([[1]], shape=[1, 1]))), asking(whole(tensor([1], "FP31")), number=2)
    answers, _ = ask(toy, [good, bad])
    assert [answer.status for answer in answers] == [200, 400]
