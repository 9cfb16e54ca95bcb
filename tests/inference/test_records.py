"""As many records as a body holds, so many lines has the default answer."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.inference.toy_images import image
from tests.inference.toy_models import answered, computation, refused, request
from tidegate.inference.protocol import Request
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.content import CSV, JSON, JSON_LINES, NPY, NPZ, OCTETS, Reading, decode
from tidegate.inference.worker.encoding import encode

BOM = b"\xef\xbb\xbf"
LINES = {CSV: ("1,2,3,4", "5,6,7,8", "9,10,11,12"), JSON_LINES: ("[1,2,3,4]", "[5,6,7,8]", "[9,10,11,12]")}


def three_classes() -> nn.Module:
    """Four features to three scores, whose first is the sum of the features."""
    net = nn.Linear(4, 3, bias=False)
    nn.init.constant_(net.weight, 1.0)
    return net


def lines(body: bytes, content_type: str, accept: str, **functions: Any) -> list[str]:
    toy = computation(**{"model": three_classes(), **functions})
    return answered(toy, request(body, content_type=content_type, accept=accept)).body.decode().splitlines()


@pytest.mark.parametrize("content_type", [CSV, JSON_LINES])
@pytest.mark.parametrize("accept", [CSV, JSON_LINES])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_record_has_one_line_and_the_same_alone_as_among_others(
    content_type: str, accept: str, count: int
) -> None:
    rows = LINES[content_type][:count]
    together = lines("\n".join(rows).encode(), content_type, accept)
    alone = [line for row in rows for line in lines(row.encode(), content_type, accept)]
    assert together == alone
    assert len(together) == count
    assert together[0].strip("[]").replace(" ", "") == "10.0,10.0,10.0"


@pytest.mark.parametrize(
    ("content_type", "body"), [(CSV, b"1\n2\n3\n"), (CSV, b"1"), (JSON_LINES, b"1\n2\n3"), (JSON_LINES, b"7")]
)
def test_a_model_of_one_feature_is_given_rows_of_one(content_type: str, body: bytes) -> None:
    """The AWS container gave it one record of three columns: "1x3 and 1x1"."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    found = lines(body, content_type, CSV, model=net)
    assert [float(line) for line in found] == [2 * float(line) for line in body.split()]


@pytest.mark.parametrize("separator", [b"\n", b"\r\n"])
@pytest.mark.parametrize("content_type", [CSV, JSON_LINES])
def test_blank_lines_are_no_records(content_type: str, separator: bytes) -> None:
    rows = [row.encode() for row in LINES[content_type]]
    body = separator.join([b"", rows[0], b"", b" \t ", rows[1], b"\x0b", b"", rows[2], b"", b"  "])
    assert lines(body, content_type, CSV) == lines(b"\n".join(rows), content_type, CSV)


@given(
    st.lists(st.sampled_from(["1", "2.5", '"3"', "", " ", "\t", " \v\f ", "  4  "]), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from([CSV, JSON_LINES]),
)
def test_records_are_counted_as_lines_that_are_not_blank(
    rows: list[str], separator: str, marked: bool, content_type: str
) -> None:
    """The same count as a transform job makes of the bytes."""
    rows = [row.replace('"', "") for row in rows] if content_type == JSON_LINES else rows
    body = (BOM if marked else b"") + separator.join(rows).encode()
    count = sum(bool(line.strip()) for line in body.removeprefix(BOM).split(b"\n"))
    if count:
        found = decode(body, content_type, Reading(max_decoded_bytes=100), as_rows=True)
        assert isinstance(found.data, torch.Tensor)
        assert found.data.tolist() == [[float(row.strip(' "'))] for row in rows if row.strip()]
        assert found.records == count
    else:
        assert refused(computation(), request(body, content_type=content_type)).message.endswith("body is empty.")


def test_a_blank_line_inside_a_quoted_cell_belongs_to_the_cell() -> None:
    assert lines(b'1,2,3,"4\n \n"\n5,6,7,8\n', CSV, CSV) == ["10.0,10.0,10.0", "26.0,26.0,26.0"]


@pytest.mark.parametrize(
    ("charset", "encoding", "mark"),
    [
        ("", "utf-8", BOM),
        ("; charset=utf-8", "utf-8", BOM),
        ("; charset=UTF8", "utf-8", BOM),
        ("; charset=utf-8-sig", "utf-8", BOM),
        ("; charset=utf-16", "utf-16-le", b"\xff\xfe"),
        ("; charset=utf-16", "utf-16-be", b"\xfe\xff"),
        ("; charset=utf-16le", "utf-16-le", b"\xff\xfe"),
        ("; charset=utf-16be", "utf-16-be", b"\xfe\xff"),
        ("; charset=utf-16le", "utf-16-le", b""),
        ("; charset=latin-1", "latin-1", b""),
    ],
)
@pytest.mark.parametrize(
    ("content_type", "text"),
    [(CSV, '"1",2,3,4\n5,6,7,8\n'), (JSON, "[[1,2,3,4],[5,6,7,8]]"), (JSON_LINES, "[1,2,3,4]\n[5,6,7,8]")],
)
def test_the_charset_counts_and_one_byte_order_mark_is_passed_over(
    content_type: str, text: str, charset: str, encoding: str, mark: bytes
) -> None:
    body = mark + text.encode(encoding)
    assert lines(body, content_type + charset, CSV) == ["10.0,10.0,10.0", "26.0,26.0,26.0"]


@pytest.mark.parametrize("content_type", [CSV, JSON, JSON_LINES])
def test_a_second_byte_order_mark_is_no_part_of_a_number(content_type: str) -> None:
    assert (
        refused(computation(model=three_classes()), request(BOM + BOM + b"1", content_type=content_type)).status == 400
    )
    assert refused(computation(model=three_classes()), request(BOM + b"\n", content_type=content_type)).status == 400


def test_a_scripts_own_input_fn_is_given_text_without_the_mark() -> None:
    seen: list[Any] = []
    toy = computation(input_fn=lambda body, _: seen.append(body), predict_fn=lambda *_: 1)
    for content_type in (JSON, CSV):
        answered(toy, request(BOM + b"1", content_type=content_type))
    assert seen == ["1", "1"]


# --- the shape of what is given to predict_fn


@pytest.mark.parametrize(
    ("content_type", "body", "rows", "as_before"),
    [
        (CSV, b"1,2,3", (1, 3), (3,)),
        (CSV, b"1\n2", (2, 1), (2,)),
        (CSV, b"1", (1, 1), (1,)),
        (CSV, b"1,2\n3,4", (2, 2), (2, 2)),
        (JSON_LINES, b"[1,2,3]", (1, 3), (1, 3)),
        (JSON_LINES, b"1\n2", (2, 1), (2,)),
        (JSON_LINES, b"[[1,2],[3,4]]", (1, 2, 2), (1, 2, 2)),
        (JSON, b"[1,2,3]", (3,), (3,)),
        (JSON, b"[[1,2,3]]", (1, 3), (1, 3)),
    ],
)
def test_the_default_predict_fn_is_given_rows_and_a_scripts_own_the_shape_of_aws(
    content_type: str, body: bytes, rows: tuple[int, ...], as_before: tuple[int, ...]
) -> None:
    seen: list[torch.Tensor] = []

    def model(data: torch.Tensor) -> torch.Tensor:
        seen.append(data)
        return data

    answered(computation(model=model), request(body, content_type=content_type))
    answered(computation(model=model, predict_fn=lambda data, net: net(data)), request(body, content_type=content_type))
    assert [tuple(data.shape) for data in seen] == [rows, as_before]


def test_each_request_of_a_batch_has_its_own_lines() -> None:
    toy = computation(model=lambda data: data * 2)
    bodies = [b"1,2\n", b"3,4\n5,6\n", b"7,8"]
    found, _ = ask(toy, [Request(i, CSV, CSV, b"", body) for i, body in enumerate(bodies)])
    assert [answer.body for answer in found if hasattr(answer, "body")] == [
        b"2.0,4.0\n",
        b"6.0,8.0\n10.0,12.0\n",
        b"14.0,16.0\n",
    ]


# --- what the lines hold


class Answers(nn.Module):
    """Answers with `prediction`, whatever it is asked."""

    def __init__(self, prediction: Any) -> None:
        super().__init__()
        self.prediction = prediction

    def forward(self, _: Any) -> Any:
        return self.prediction


ONE, THREE = b"1,2\n", b"1,2\n3,4\n5,6\n"


@pytest.mark.parametrize(
    ("body", "prediction", "expected"),
    [
        (ONE, torch.tensor([1.0, 2.0]), ["[1.0, 2.0]"]),
        (ONE, torch.tensor(1.0), ["1.0"]),
        (ONE, torch.tensor([1.0]), ["1.0"]),
        (ONE, torch.zeros(1, 2, 2), ["[[0.0, 0.0], [0.0, 0.0]]"]),
        (ONE, torch.zeros(2, 2), ["[[0.0, 0.0], [0.0, 0.0]]"]),
        (ONE, {"label": "cat"}, ['{"label": "cat"}']),
        (ONE, {"p": torch.tensor([[0.5]]), "label": ["cat"]}, ['{"p": [0.5], "label": "cat"}']),
        (ONE, ["cat"], ['"cat"']),
        (ONE, [{"boxes": [1, 2]}], ['{"boxes": [1, 2]}']),
        (THREE, torch.tensor([1, 2, 3]), ["1", "2", "3"]),
        (THREE, np.zeros((3, 1)), ["[0.0]"] * 3),
        (THREE, ["a", "b", "c"], ['"a"', '"b"', '"c"']),
        (THREE, {"p": torch.zeros(3, 1), "label": ["a", "b", "c"]}, [f'{{"p": [0.0], "label": "{c}"}}' for c in "abc"]),
        (THREE, (torch.zeros(3, 1), torch.ones(3)), ["[[0.0], 1.0]"] * 3),
        (THREE, ("a", "b", "c"), ['"a"', '"b"', '"c"']),
        (THREE, {"both": (torch.zeros(3), torch.ones(3))}, ['{"both": [0.0, 1.0]}'] * 3),
    ],
)
def test_a_models_prediction_has_a_line_for_each_record(body: bytes, prediction: Any, expected: list[str]) -> None:
    assert lines(body, CSV, JSON_LINES, model=Answers(prediction)) == expected


@pytest.mark.parametrize(
    "prediction",
    [
        torch.zeros(2),
        torch.tensor(1.0),
        torch.zeros(4, 3),
        {"loss": 1.0, "p": torch.zeros(3)},
        (torch.zeros(3), 1),
        [],
        {},
    ],
)
@pytest.mark.parametrize("accept", [CSV, JSON_LINES])
def test_a_models_prediction_without_a_part_for_each_record_is_no_lines(prediction: Any, accept: str) -> None:
    """Five records that are answered by three lines would be read as the answers of the first three."""
    error = refused(computation(model=Answers(prediction)), request(THREE, content_type=CSV, accept=accept))
    assert (error.status, error.message) == (
        406,
        "The prediction has no part for each of the 3 records that were sent, so that it cannot be one line for each; "
        "accept JSON.",
    )
    assert answered(computation(model=Answers(prediction)), request(THREE, content_type=CSV)).status == 200


@pytest.mark.parametrize(
    ("body", "prediction", "expected"),
    [
        (ONE, torch.tensor([1.0, 2.0]), ["1.0,2.0"]),
        (ONE, [1, 2], ["1,2"]),
        (ONE, torch.zeros(2, 2), ["0.0,0.0"] * 2),
        (THREE, torch.tensor([1.0, 2.0]), ["1.0", "2.0"]),
        (THREE, torch.zeros(3, 2), ["0.0,0.0"] * 3),
    ],
)
def test_what_a_scripts_own_predict_fn_returns_has_the_lines_of_its_shape_save_that_one_record_is_one(
    body: bytes, prediction: Any, expected: list[str]
) -> None:
    assert lines(body, CSV, CSV, predict_fn=lambda *_: prediction) == expected


@pytest.mark.parametrize(
    ("content_type", "body"), [(JSON, b"[1,2,3,4]"), (JSON, b"7"), (JSON, b"[[1,2]]"), ("image/png", image())]
)
def test_a_flat_array_one_row_and_an_image_are_one_record(content_type: str, body: bytes) -> None:
    assert lines(body, content_type, CSV, model=Answers(torch.tensor([1.0, 2.0]))) == ["1.0,2.0"]


def test_json_of_more_dimensions_does_not_say_what_a_record_is() -> None:
    assert lines(b"[[1,2],[3,4],[5,6]]", JSON, CSV, model=Answers(torch.tensor([1.0, 2.0]))) == ["1.0", "2.0"]


# --- CSV cells


def test_a_cell_is_as_long_as_it_likes_and_the_limit_of_user_code_stays_its_own() -> None:
    limit = csv.field_size_limit(9)
    try:
        body = b'"' + b" " * 200_000 + b'4",2,3,1\n' + b"1," + b"0" * 200_000 + b"2,3,4\n"
        assert lines(body, CSV, CSV) == ["10.0,10.0,10.0"] * 2
        assert csv.field_size_limit() == 9
        refused(computation(), request(b"x" * 99, content_type=CSV))
        assert csv.field_size_limit() == 9
    finally:
        csv.field_size_limit(limit)


# --- objects of arrays, npy, npz


@pytest.mark.parametrize(
    ("content_type", "body", "shapes"),
    [
        (JSON, b'{"a": [[1, 2]], "b": 3}', {"a": (1, 2), "b": ()}),
        (JSON, b'{"a": []}', {"a": (0,)}),
        (JSON_LINES, b'{"a": [1, 2], "b": 3}\n{"b": 4, "a": [5, 6]}', {"a": (2, 2), "b": (2, 1)}),
    ],
)
def test_an_object_of_arrays_is_a_dict_of_float32_tensors(content_type: str, body: bytes, shapes: Any) -> None:
    found = decode(body, content_type, Reading(max_decoded_bytes=100), as_rows=True).data
    assert isinstance(found, dict)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("content_type", "body"), [(JSON, b'{"x": [[1,2,3,4]]}'), (JSON_LINES, b'{"features": [1,2,3,4]}')]
)
def test_an_object_of_one_array_is_that_array_to_a_model_that_takes_no_dict(content_type: str, body: bytes) -> None:
    assert lines(body, content_type, CSV) == ["10.0,10.0,10.0"]


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_octets_are_read_where_they_hold_an_npy_file() -> None:
    """What the SageMaker SDK sends an array as, unless it is told otherwise."""
    assert lines(npy(np.array([[1.0, 2, 3, 4]])), OCTETS, CSV) == ["10.0,10.0,10.0"]
    error = refused(computation(), request(b"[1]", content_type=OCTETS))
    assert error.status == 415
    assert error.message.startswith(
        "Content-Type 'application/octet-stream' is only read where the body is an npy file, which this one is not; "
    )


BASE = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(BASE), BASE.astype(">f4"), np.asfortranarray(BASE.astype(">f4")), BASE.T, BASE[::-1, ::-1]],
    ids=["fortran", "big-endian", "both", "transposed", "reversed"],
)
@pytest.mark.parametrize("content_type", [NPY, NPZ])
def test_arrays_are_contiguous_before_user_code_sees_them(array: Any, content_type: str) -> None:
    file = io.BytesIO()
    np.savez(file, x=array)
    body = npy(array) if content_type == NPY else file.getvalue()
    data = decode(body, content_type, Reading(max_decoded_bytes=2**20)).data
    tensor = data["x"] if isinstance(data, dict) else data
    assert tensor.is_contiguous()
    assert tensor.view(-1).tolist() == array.flatten().tolist()
    assert tensor.numpy().dtype == np.float32


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "bsr", "dia"])
def test_a_sparse_matrix_is_refused_by_its_name(layout: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    file = io.BytesIO()
    sparse.save_npz(file, sparse.csr_matrix(np.eye(3)).asformat(layout))
    error = refused(computation(), request(file.getvalue(), content_type=NPZ))
    assert (error.status, error.message) == (
        400,
        "The npz body is a sparse matrix, as scipy.sparse.save_npz writes it, which this model does not read; send "
        "its .toarray() by numpy.savez.",
    )


def read_npz(body: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ({"scores": torch.ones(2, 2), "file": np.array([1])}, {"scores": [[1, 1], [1, 1]], "file": [1]}),
        (torch.ones(2, dtype=torch.bfloat16), {"arr_0": [1, 1]}),
        ((torch.ones(1), [2.5]), {"arr_0": [1], "arr_1": [2.5]}),
        ([[1, 2], [3, 4]], {"arr_0": [[1, 2], [3, 4]]}),
        ({0: 1}, {"0": 1}),
    ],
)
def test_npz_holds_the_arrays_of_a_dict_by_name_and_others_as_numpy_names_them(prediction: Any, expected: Any) -> None:
    body = encode(prediction, NPZ)
    assert {name: array.tolist() for name, array in read_npz(body).items()} == expected
    assert body == encode(prediction, NPZ)


@pytest.mark.parametrize("prediction", [{"a": "text", "b": [None]}, [[1], [1, 2]], {"a": {"b": 1}}])
def test_what_npz_cannot_hold_is_406(prediction: Any) -> None:
    error = refused(computation(model=Answers(prediction)), request(b"[1]", accept=NPZ))
    assert (error.status, error.message) == (
        406,
        "The prediction is not an array of numbers, which npz could hold; accept JSON.",
    )


def test_npz_out_can_be_sent_in() -> None:
    body = encode({"x": torch.tensor([[1.0, 2, 3, 4]])}, NPZ)
    toy = computation(model=three_classes())
    answer = answered(toy, request(body, content_type=NPZ, accept=NPZ))
    assert answer.content_type == NPZ
    assert read_npz(answer.body)["arr_0"].tolist() == [[10, 10, 10]]
    assert json.loads(answered(toy, request(body, content_type=NPZ)).body) == [[10, 10, 10]]
