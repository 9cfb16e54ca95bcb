"""Records of declared columns reach the model in the declared order and types, and what is wrong is named."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.toy_models import answered, computation, refused, request
from tidegate.inference.declarations import table
from tidegate.inference.errors import BadRequest, DeploymentError
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.declared import tables
from tidegate.inference.worker.declared.sides import declared

COLUMNS = ["age", {"name": "height", "missing": 1.75}, "income"]
MIXED = [
    {"name": "id", "dtype": "int64"},
    {"name": "height", "missing": "nan"},
    {"name": "smokes", "dtype": "bool", "missing": False},
]
CSV, JSON, JSON_LINES, NPY = "text/csv", "application/json", "application/jsonlines", "application/x-npy"
ROWS = [[41.0, 1.5, 9.0], [7.0, 1.25, 0.5]]


def taken(body: Any, content_type: str = CSV, limit: int = 1 << 20, **said: Any) -> Any:
    """What the model is given."""
    wanted = table.declared({"table": {"columns": COLUMNS} | said})
    assert wanted is not None
    data = json.dumps(body) if content_type == JSON and not isinstance(body, bytes) else body
    return tables.read(data, content_type, wanted, max_decoded_bytes=limit)


def refusal(body: Any, content_type: str = CSV, **said: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        taken(body, content_type, **said)
    return caught.value.message


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("41,1.5,9\n7,1.25,0.5\n", CSV),
        ("age,height,income\n41,1.5,9\n7,1.25,0.5", CSV),
        ("\ufeffincome, age ,height\r\n9,41,1.5\r\n\r\n0.5,7,1.25\r\n".encode(), CSV),
        (ROWS, JSON),
        ([{"income": 9, "age": 41, "height": 1.5}, {"age": 7, "height": 1.25, "income": 0.5}], JSON),
        ('[41, 1.5, 9]\n{"age": 7, "height": 1.25, "income": 0.5}\n', JSON_LINES),
        (npy(np.array(ROWS)), NPY),
        (npy(np.array(ROWS)), "application/octet-stream"),
    ],
)
def test_every_form_gives_the_same_rows_in_the_declared_order(body: Any, content_type: str) -> None:
    found = taken(body, content_type)
    assert (found.data.dtype, found.data.tolist()) == (torch.float32, ROWS)
    assert (found.records, found.one_alone) == (2, False)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("41,,9\n", CSV),
        ("41, ,9\n", CSV),
        ("41,NaN,9", CSV),
        ({"age": 41, "height": None, "income": 9}, JSON),
        (b'{"age": 41, "height": NaN, "income": 9}', JSON),
        ([41, None, 9], JSON),
        (npy(np.array([[41, math.nan, 9]])), NPY),
    ],
)
def test_a_missing_value_is_what_the_column_says(body: Any, content_type: str) -> None:
    assert taken(body, content_type).data.tolist() == [[41.0, 1.75, 9.0]]


def test_one_record_by_itself_is_no_list() -> None:
    assert taken({"age": 1, "height": 2, "income": 3}, JSON).one_alone
    assert taken([1, 2, 3], JSON).one_alone
    assert taken("1,2,3").one_alone
    assert not taken([[1, 2, 3]], JSON).one_alone


def test_columns_of_several_types_are_given_by_name() -> None:
    said = {"columns": MIXED, "as": "columns"}
    found = taken(f"{2**53 + 1},,true\n-3,1.5,\n4.0,2,0\n", **said).data
    assert {name: values.dtype for name, values in found.items()} == {
        "id": torch.int64,
        "height": torch.float32,
        "smokes": torch.bool,
    }
    assert found["id"].tolist() == [[2**53 + 1], [-3], [4]], "exactly, although no float holds the first"
    assert found["height"].isnan().tolist() == [[True], [False], [False]]
    assert found["smokes"].tolist() == [[True], [False], [False]]
    by_json = taken([{"id": 2**53 + 1, "height": 2, "smokes": True}], JSON, **said).data
    assert (by_json["id"].tolist(), by_json["smokes"].tolist()) == ([[2**53 + 1]], [[True]])


def test_the_header_is_as_it_is_declared() -> None:
    by_numbers = [{"name": "0"}, {"name": "1"}]
    assert taken("1,0\n5,6", columns=by_numbers, header="required").data.tolist() == [[6.0, 5.0]]
    assert taken("1,0\n5,6", columns=by_numbers, header="none").data.tolist() == [[1.0, 0.0], [5.0, 6.0]]
    assert "which names the columns, has the column '41'" in refusal("41,1.5,9", header="required")


def test_other_columns_are_passed_over_where_that_is_declared() -> None:
    assert taken("id,age,height,income\nx7,41,1.5,9", others="ignore").data.tolist() == [[41.0, 1.5, 9.0]]
    record = {"id": "x7", "age": 41, "height": 1.5, "income": 9}
    assert taken(record, JSON, others="ignore").data.tolist() == [[41.0, 1.5, 9.0]]
    assert "Line 1 of the CSV body has 4 cells instead of 3" in refusal("7,41,1.5,9", others="ignore")


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        ("", CSV, "The CSV body is empty."),
        ("age,height,income\n", CSV, "The CSV body has a line with the names of the columns, and no record."),
        (
            "age,heigt,income\n1,2,3",
            CSV,
            "'heigt', which this model does not know; did you mean 'height'?",
        ),
        ("age,height\n1,2", CSV, "Line 1, which names the columns, lacks the column 'income'; this model takes 'age',"),
        ("age,age,height,income\n1,1,2,3", CSV, "Line 1, which names the columns, has the column 'age' twice."),
        ("1,2\n", CSV, "Line 1 of the CSV body has 2 cells instead of 3; this model takes 'age', 'height', 'income'."),
        ("age,height,income\n1,2,3\n1,2,3,4", CSV, "Line 3 of the CSV body has 4 cells instead of 3; the header has"),
        ("1,2,3\n\n1,x,3", CSV, "Line 3 has 'x' for 'height', which is not a number."),
        ("1,2,3\n,2,3", CSV, "Line 2 has no value for 'age', which this model requires."),
        ("1,2,1e39", CSV, "Line 1 has '1e39' for 'income', which float32 cannot hold."),
        ("1,2,16777217", CSV, "Line 1 has '16777217' for 'income', which float32 cannot hold."),
        ("1,2,3\n1,2,-16777217", CSV, "Line 2 has '-16777217' for 'income', which float32 cannot hold."),
        ([1, 2, 16777217], JSON, "The body has 16777217 for 'income', which float32 cannot hold."),
        ("1,2,1_000", CSV, "Line 1 has '1_000' for 'income', which is not a number."),
        ("1,2,\u0663", CSV, "Line 1 has '\u0663' for 'income', which is not a number."),
        ("1,2,true", CSV, "Line 1 has 'true' for 'income', which is not a number."),
        ([1, 2, True], JSON, "The body has True for 'income', which is not a number."),
        ("1,2,inf", CSV, "Line 1 has 'inf' for 'income'"),
        (f"1,2,{'9' * 5000}", CSV, "Line 1 has '999999999999999999999999999999999999999…' for 'income'"),
        (
            {"age": 1, "height": 2},
            JSON,
            "The body lacks the column 'income'; this model takes 'age', 'height',",
        ),
        ({"age": 1, "height": 2, "incom": 3}, JSON, "The body has the column 'incom', which this model does not know;"),
        (
            [{"age": 1, "height": 2, "income": "3"}],
            JSON,
            "Entry 0 of the list has '3' for 'income', which is not",
        ),
        ([[1, 2, 3], [1, 2]], JSON, "Entry 1 of the list has 2 values instead of 3; this model takes 'age', 'height',"),
        ([[1, 2, 3], 4], JSON, "Entry 1 of the list is no record; send an object with 'age', 'height', 'income', or a"),
        ([[1, [2], 3]], JSON, "Entry 0 of the list has a list for 'height', which is not a number."),
        ([], JSON, "The body is an empty list"),
        (7, JSON, "The body is no record;"),
        (b"[" * 100_000, JSON, "The body is not readable JSON: it is nested too deeply."),
        (b"[1,2," + b"9" * 9999 + b"]", JSON, "The body holds a whole number that is too long to be read."),
        ([[1, 2, 10**400]], JSON, "Entry 0 of the list has"),
        ('[1,2,3]\n{"age": 1}', JSON_LINES, "Line 2 lacks the column 'height'"),
        (npy(np.zeros((2, 4))), NPY, "The array has the shape (2, 4); this model takes (records, 3), with the columns"),
        (npy(np.zeros((0, 3))), NPY, "The array has the shape (0, 3)"),
        (npy(np.array([["a", "b", "c"]])), NPY, "Arrays of the dtype <U1 cannot be read; send numbers."),
        (npy(np.array([[math.nan, 1, 1]])), NPY, "Row 0 has no value for 'age'"),
        (npy(np.array([[1, 1, 1], [1, 1, 1e39]])), NPY, "Row 1 has 1e+39 for 'income'"),
        (npy(np.zeros((2, 3)))[:-8], NPY, "The npy body cannot be read: EOF"),
        (b"\x93NUMPY\x01\x00", NPY, "The npy body cannot be read"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(body: Any, content_type: str, sentence: str) -> None:
    assert sentence in refusal(body, content_type)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("1.5,1,0", "Line 1 has '1.5' for 'id', which is not a whole number of 64 bits."),
        (f"{2**63},1,0", f"Line 1 has '{2**63}' for 'id'"),
        ("inf,1,0", "Line 1 has 'inf' for 'id'"),
        ("1,1,2", "Line 1 has '2' for 'smokes', which is not true or false."),
        ("1,1,yes", "Line 1 has 'yes' for 'smokes', which is not true or false."),
        (",1,0", "Line 1 has no value for 'id'"),
    ],
)
def test_whole_numbers_and_switches_are_taken_exactly_or_refused(row: str, sentence: str) -> None:
    assert sentence in refusal(row, columns=MIXED, **{"as": "columns"})


def test_records_are_held_to_the_limit_before_they_are_turned_into_numbers() -> None:
    assert taken("1,2,3\n", limit=12).records == 1
    assert refusal("1,2,3\n" * 2, limit=12) == "The 2 records take 24 bytes as numbers; the limit is 12."


def test_bodies_of_other_types_are_415_and_a_script_wins() -> None:
    server = toy()
    error = refused(server, request(b"\x89PNG", content_type="image/png"))
    assert error.status == 415
    assert "this model takes records of 3 columns as text/csv, application/json" in error.message
    own = toy(input_fn=lambda *_: torch.zeros(1, 1))
    assert json.loads(answered(own, request(b"zz", content_type="text/plain")).body) == [0.0]


def toy(**functions: Any) -> Computation:
    said = declared({"table": {"columns": COLUMNS}}, Reading(max_decoded_bytes=1 << 20))
    return computation(model=lambda data: data.sum(1), declared=said, **functions)


def test_records_are_answered_by_as_many_lines_without_counting_the_header() -> None:
    sent = request(b"income,age,height\n1,2,3\n4,5,6\n", content_type=CSV, accept=CSV)
    assert answered(toy(), sent).body == b"6.0\n15.0\n"


_CELL = st.one_of(st.none(), st.floats(-(2.0**60), 2.0**60, width=32))


@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8), st.permutations(["a", "b"]), st.booleans())
def test_a_table_that_is_written_is_read_back(rows: list[Any], order: list[str], by_name: bool) -> None:
    """Through the csv module and through JSON, whatever the order of the columns."""
    said = {"columns": [{"name": "a", "missing": -1}, {"name": "b", "missing": "nan"}]}
    text = io.StringIO()
    writer = csv.writer(text)
    records = [dict(zip(("a", "b"), row, strict=True)) for row in rows]
    if by_name:
        writer.writerow(order)
    writer.writerows([[record[name] for name in (order if by_name else ("a", "b"))] for record in records])
    wanted = np.array([[-1 if a is None else a, math.nan if b is None else b] for a, b in rows], np.float32)
    for body, content_type in ((text.getvalue(), CSV), (records, JSON)):
        np.testing.assert_array_equal(taken(body, content_type, **said).data.numpy(), wanted)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ([], "table is []; it must be an object."),
        ({}, "table.columns must be a list of 1 to 65536 columns."),
        ({"columns": []}, "table.columns must be a list of 1 to 65536 columns."),
        ({"columns": [7]}, "table.columns[0] is 7; it must be an object."),
        ({"columns": [""]}, "table.columns[0].name is ''; it must be a text without blanks around it."),
        ({"columns": [" a"]}, "table.columns[0].name is ' a'"),
        ({"columns": ["a", "b", "a"]}, "table.columns[2] has the name 'a' of table.columns[0]."),
        ({"columns": [{"name": "a", "type": "int64"}]}, "table.columns[0] has the key 'type', which is unknown;"),
        ({"columns": [{"name": "a", "dtype": "float"}]}, "table.columns[0].dtype is 'float'; it must be 'float32' or"),
        (
            {"columns": [{"name": "a", "missing": "mean"}]},
            'table.columns[0].missing is \'mean\'; it must be "refuse", "n',
        ),
        ({"columns": [{"name": "a", "missing": None}]}, "table.columns[0].missing is None"),
        ({"columns": [{"name": "a", "dtype": "int64", "missing": 0.5}]}, "table.columns[0].missing is 0.5; it must be"),
        ({"columns": [{"name": "a", "dtype": "int32", "missing": 2**31}]}, "table.columns[0].missing is 2147483648;"),
        ({"columns": [{"name": "a", "dtype": "int64", "missing": "nan"}]}, "table.columns[0].missing is 'nan'"),
        ({"columns": [{"name": "a", "dtype": "bool", "missing": 1}]}, "table.columns[0].missing is 1; it must be"),
        ({"columns": ["a"], "as": "rows"}, "table.as is 'rows'; it must be 'matrix' or 'columns'."),
        (
            {"columns": ["a", {"name": "b", "dtype": "bool"}]},
            'table.as is "matrix", which has one dtype, and the',
        ),
        ({"columns": ["a"], "header": True}, "table.header is True; it must be 'auto' or 'required' or 'none'."),
        ({"columns": ["a", "1"]}, 'table.header must be "required" or "none": the name \'1\' could be a value.'),
        ({"columns": ["a"], "others": 1}, "table.others is 1; it must be 'refuse' or 'ignore'."),
    ],
)
def test_each_mistake_of_the_declaration_is_said_with_its_place(said: Any, sentence: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        table.declared({"table": said})
    assert str(caught.value).removeprefix("manifest.json: ").startswith(sentence)
