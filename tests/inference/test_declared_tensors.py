"""Plain tensors of declared names, types and shapes: what differs is named before the model sees it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.inference.test_open_inference import asking, outputs, tensor, whole
from tests.inference.toy_models import answered, computation, refused, request
from tidegate.inference.declarations import tensors
from tidegate.inference.errors import BadRequest, DeploymentError, UnsupportedMediaType
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.declared import tensors as declared_tensors
from tidegate.inference.worker.declared.casting import in_type
from tidegate.inference.worker.declared.sides import declared

CSV, JSON, JSON_LINES = "text/csv", "application/json", "application/jsonlines"
NPY, NPZ = "application/x-npy", "application/x-npz"
ONE = [{"name": "x", "shape": ["batch", 3]}]
TWO = [
    {"name": "ids", "dtype": "int64", "shape": ["batch", "sequence"]},
    {"name": "mask", "dtype": "bool", "shape": ["batch", "sequence"]},
]


def taken(body: Any, content_type: str = JSON, said: Any = ONE, limit: int = 1 << 20) -> Any:
    wanted = tensors.declared({"tensors": said})
    assert wanted is not None
    data = json.dumps(body) if content_type == JSON and not isinstance(body, bytes) else body
    return declared_tensors.read(data, content_type, wanted, max_decoded_bytes=limit)


def refusal(body: Any, content_type: str = JSON, said: Any = ONE, **how: Any) -> str:
    with pytest.raises((BadRequest, UnsupportedMediaType)) as caught:
        taken(body, content_type, said, **how)
    return caught.value.message


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**named: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **named)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ([[1, 2, 3], [4, 5, 6]], JSON),
        ({"x": [[1, 2, 3], [4, 5, 6.0]]}, JSON),
        ('[1, 2, 3]\n{"x": [4, 5, 6]}\n', JSON_LINES),
        ("1,2,3\n4,5,6\n", CSV),
        (npy(np.array([[1, 2, 3], [4, 5, 6]], ">i2")), NPY),
        (npy(np.array([[1, 2, 3], [4, 5, 6]])), "application/octet-stream"),
        (npz(x=np.array([[1, 2, 3], [4, 5, 6]], np.float64)), NPZ),
    ],
)
def test_every_form_gives_the_same_tensor(body: Any, content_type: str) -> None:
    found = taken(body, content_type)
    assert (found.data.dtype, found.data.tolist()) == (torch.float32, [[1, 2, 3], [4, 5, 6]])
    assert found.records == 2


def test_several_tensors_are_given_by_name_and_ids_stay_exact() -> None:
    body = {"mask": [[True, False]], "ids": [[2**60 + 1, 5]]}
    for form, content_type in ((body, JSON), (json.dumps({k: v[0] for k, v in body.items()}), JSON_LINES)):
        found = taken(form, content_type, TWO).data
        assert list(found) == ["ids", "mask"]
        assert (found["ids"].tolist(), found["mask"].tolist()) == ([[2**60 + 1, 5]], [[True, False]])


@pytest.mark.parametrize(
    ("body", "content_type", "said", "sentence"),
    [
        ([1, 2, 3], JSON, ONE, "The tensor 'x' has the shape (3,), of 1 dimensions; this model takes (batch, 3)."),
        ([[1, 2]], JSON, ONE, "The tensor 'x' has the shape (1, 2); this model takes (batch, 3), so the length of dim"),
        ([], JSON, ONE, "The tensor 'x' has the shape (0,), of 1 dimensions"),
        ([[], []], JSON, ONE, "The tensor 'x' has the shape (2, 0), which holds nothing"),
        ([[1, 2, 3], [1]], JSON, ONE, "The body, 'x', is not an array of numbers whose rows all have the same length."),
        ([["1", 2, 3]], JSON, ONE, "The body, 'x', is not an array of numbers"),
        ([[None, 2, 3]], JSON, ONE, "The body, 'x', is not an array of numbers"),
        ([[10**30, 2, 3]], JSON, ONE, "The body, 'x', is not an array of numbers"),
        ([[1e39, 2, 3]], JSON, ONE, "The tensor 'x' holds 1e+39 at [0, 0], which float32 cannot hold."),
        ([[1, True, 3]], JSON, ONE, "The body, 'x', holds true or false, and this model takes float32; send 1 or 0."),
        ([[0.5, 2, False]], JSON, ONE, "The body, 'x', holds true or false"),
        ({"ids": [[True]], "mask": [[1]]}, JSON, TWO, "The body, 'ids', holds true or false"),
        ("1,2,1_000", CSV, ONE, "Line 1 of the CSV body holds '1_000', which is not a number."),
        ("1,2,\u0663", CSV, ONE, "Line 1 of the CSV body holds '\u0663', which is not a number."),
        ([[2**24 + 1, 2, 3]], JSON, ONE, "The tensor 'x' holds 16777217 at [0, 0], which float32 cannot hold."),
        ({"y": [[1, 2, 3]]}, JSON, ONE, "This model takes no tensor 'y'; there are 'x'."),
        ({}, JSON, ONE, "The tensor 'x' is missing; this model takes 'x'."),
        ({"ids": [[1.5]], "mask": [[1]]}, JSON, TWO, "The tensor 'ids' holds 1.5 at [0, 0], which int64 cannot hold."),
        ({"ids": [[1]], "mask": [[2]]}, JSON, TWO, "The tensor 'mask' holds 2 at [0, 0], which bool cannot hold."),
        ({"ids": [[1]], "mask": [[1, 1]]}, JSON, TWO, "'ids' another length of 'sequence': 1, not 2."),
        ({"id": [[1]], "mask": [[1]]}, JSON, TWO, "This model takes no tensor 'id'; did you mean 'ids'?"),
        ([[1]], JSON, TWO, "The body must be an object of 'ids', 'mask'."),
        (npy(np.zeros((1, 3))), NPY, TWO, "has one array, and this model takes 'ids', 'mask'; send application/x-npz"),
        ("1,2,3\n1,2", CSV, ONE, "Line 2 of the CSV body has 2 cells, and the first has 3."),
        ("1,2,3\n1,2,x", CSV, ONE, "Line 2 of the CSV body holds 'x', which is not a number."),
        ("", CSV, ONE, "The CSV body is empty."),
        (
            '[1,2,3]\n{"y": 1}',
            JSON_LINES,
            ONE,
            "Record 1 of the JSON Lines body does not have the same tensors as",
        ),
        ("[1,2,3]\n[1,2]", JSON_LINES, ONE, "Record 1 of the JSON Lines body has 'x' of the shape (2,), and the first"),
        (npz(x=np.array([["a", "b", "c"]])), NPZ, ONE, "The tensor 'x' holds <U1; send float32."),
        (npy(np.zeros((1, 3), complex)), NPY, ONE, "The tensor 'x' holds complex128; send float32."),
        (b"[" * 100_000, JSON, ONE, "The body is not readable JSON: it is nested too deeply."),
        (b"[" * 60 + b"1" + b"]" * 60, JSON, ONE, "The tensor 'x' has the shape"),
        (b"[" * 90 + b"1" + b"]" * 90, JSON, ONE, "is not an array of numbers"),
        (npy(np.zeros((1, 3)))[:-8], NPY, ONE, "The npy body cannot be read: EOF"),
        (b"PK", NPZ, ONE, "The npz body cannot be read"),
        (b"\x89PNG", "image/png", ONE, "Content-Type 'image/png' cannot be read; this model takes tensors as"),
    ],
)
def test_what_is_wrong_is_named(body: Any, content_type: str, said: Any, sentence: str) -> None:
    assert sentence in refusal(body, content_type, said)


def test_tensors_are_held_to_the_limit() -> None:
    assert refusal([[1, 2, 3]], limit=11) == "The tensors take 12 bytes; the limit is 11."
    bomb = io.BytesIO()
    np.savez_compressed(bomb, x=np.zeros((100_000, 3)))
    assert "unpacks to" in refusal(bomb.getvalue(), NPZ)


def test_a_free_dimension_may_have_any_length_and_counts_no_records_beside_a_fixed_one() -> None:
    found = taken(np_list := [[[1.0] * 5] * 2], JSON, [{"name": "x", "shape": [1, None, "width"]}])
    assert (found.data.tolist(), found.records) == (np_list, 0)


def test_the_memory_of_a_tensor_is_the_scripts_own(recwarn: pytest.WarningsRecorder) -> None:
    """torch warns of memory that it may not write to."""
    body = npy(np.zeros((1, 3), np.float32))
    found = taken(memoryview(body), NPY).data
    found += 1
    assert body == npy(np.zeros((1, 3), np.float32))
    assert not recwarn.list


def test_the_answer_is_as_by_default_and_a_script_wins() -> None:
    said = declared({"tensors": ONE}, Reading(max_decoded_bytes=1 << 20))
    server = computation(model=lambda data: data.sum(1), declared=said)
    assert answered(server, request([[1, 2, 3], [4, 5, 6]], accept="text/csv")).body == b"6.0\n15.0\n"
    assert refused(server, request([[1, 2]])).status == 400
    own = computation(model=lambda data: data, declared=said, input_fn=lambda body, _: json.loads(body))
    assert json.loads(answered(own, request([1, 2])).body) == [1, 2]


_DTYPES = st.sampled_from(["bool", "int8", "int16", "int32", "int64", "uint8", "uint64", "float32", "float64"])


@given(_DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, 5)), st.sampled_from(tensors.DTYPES))
def test_a_number_is_kept_or_said_to_be_lost(numbers: Any, dtype: str) -> None:
    """Whole numbers and switches exactly; between floating types to the nearest, and not to infinity."""
    found, odd = in_type(numbers, dtype)
    assert (found.dtype, found.shape, odd.dtype) == (np.dtype(dtype), numbers.shape, np.dtype(bool))
    for before, after, lost in zip(numbers.tolist(), found.tolist(), odd.tolist(), strict=True):
        rounded = numbers.dtype.kind == "f" and found.dtype.kind == "f"
        same = before == after or (np.isnan(before) and np.isnan(after))
        if not rounded:
            assert lost or same
            exact = np.array(before).astype(object)
            with np.errstate(all="ignore"):
                holds = not np.isnan(before) and not np.isinf(before) and exact == int(before)
                limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
            if limits is not None:
                assert lost is not (holds and limits.min <= int(before) <= limits.max)
        else:
            assert lost is (bool(np.isinf(after)) and not np.isinf(before))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, "tensors is {}; it must be a list of 1 to 1000."),
        ([], "tensors is []; it must be a list of 1 to 1000."),
        (["x"], "tensors[0] is 'x'; it must be an object."),
        ([{"shape": [1]}], "tensors[0].name is missing."),
        ([{"name": 1, "shape": [1]}], "tensors[0].name is 1; it must be a key of a JSON object."),
        ([{"name": "x"}], "tensors[0].shape must be a list of 1 to 16 lengths"),
        ([{"name": "x", "shape": []}], "tensors[0].shape must be a list of 1 to 16 lengths"),
        (
            [{"name": "x", "shape": [0]}],
            "tensors[0].shape[0] is 0; it must be a whole number from 1 on, a name",
        ),
        ([{"name": "x", "shape": ["n", -1]}], "tensors[0].shape[1] is -1; it must be"),
        ([{"name": "x", "shape": [True]}], "tensors[0].shape[0] is True; it must be"),
        ([{"name": "x", "shape": [""]}], "tensors[0].shape[0] is ''; it must be"),
        ([{"name": "x", "dtype": "double", "shape": [1]}], "tensors[0].dtype is 'double'; it must be 'float32' or"),
        ([*ONE, *ONE], "tensors[1] has the name 'x' of tensors[0]."),
        (
            [{"name": "x", "shape": [1], "type": 1}],
            "tensors[0] has the key 'type', which is unknown; did you",
        ),
    ],
)
def test_each_mistake_of_the_declaration_is_said_with_its_place(said: Any, sentence: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        tensors.declared({"tensors": said})
    assert str(caught.value).removeprefix("manifest.json: ").startswith(sentence)


def test_tensors_by_name_of_the_open_inference_protocol_are_held_to_the_declaration() -> None:
    """Names, shapes and types, before the model is asked."""
    said = declared({"tensors": TWO}, Reading(max_decoded_bytes=1 << 20))
    server = computation(model=lambda named: named["ids"] * named["mask"], declared=said)
    ids = tensor([7, 8], "INT32", [1, 2], "ids")
    reply = answered(server, asking(whole(ids, tensor([1, 0], "UINT8", [1, 2], "mask"))))
    assert outputs(reply)["output_0"]["data"] == [7, 0]
    assert (
        refused(server, asking(whole(ids))).message == "The tensor 'mask' is missing; this model takes 'ids', 'mask'."
    )
    odd = refused(server, asking(whole(ids, tensor([3, 0], "UINT8", [1, 2], "mask")))).message
    assert odd == "The tensor 'mask' holds 3 at [0, 0], which bool cannot hold."
