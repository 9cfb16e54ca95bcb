"""What a value says is in the table or refused by file and line: nothing is cut, rounded away or dropped unsaid."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.client.table.conftest import BUCKET, Account
from tests.client.table.test_refusals import JSON, TO, refused
from tidegate.client import BatchFailed, BatchJob

IDS = b'{"id": 7}\n{"id": 8}\n'


def json_job(account: Account, answers: bytes, *, source: bytes = IDS, **asked: Any) -> BatchJob:
    return account.job({"a.jsonl": source}, {"a.jsonl": answers}, content_type=JSON, **asked)


@pytest.mark.parametrize(
    ("answers", "columns", "sentence"),
    [
        (b'{"y": {}}\n{}\n', None, "out/a.jsonl.out, line 1: column 'y': no type can be read off an empty object"),
        (b'{"y": {"z": {}}}\n{}\n', None, "line 1: column 'y': no type can be read off an empty object"),
        (b'{"y": [{}]}\n{"y": []}\n', None, "line 1: column 'y': no type can be read off an empty object"),
        (b'{"y": 1}\n{"y": 1e39}\n', "id,y:float", "line 2: column 'y': '1e+39' is not a float"),
        (b'{"y": [1]}\n{"y": [-1e39]}\n', "id,y:array<float>", "line 2: column 'y': '[-1e+39]' is not a array<float>"),
        (b'{"y": {"z": 1e39}}\n{}\n', "id,y:struct<z:float>", "line 1: column 'y': \"{'z': 1e+39}\" is not a struct"),
        (b'{"y": 123456789012345678901234567890}\n{"y": 1}\n', None, "line 1: column 'y': a whole number has more"),
        (b'{"y": [1]}\n{"y": [9223372036854775808]}\n', None, "line 2: column 'y': a whole number has more"),
        (b"1\n-9223372036854775809\n", None, "line 2: column 'prediction': a whole number has more"),
        (b'{"y": "ab"}\n{"y": "abc"}\n', "id,y:varchar(2)", "line 2: column 'y': 'abc' has 3 characters, of at most 2"),
        (b'{"": 1}\n{}\n', None, "a member has an empty name, which no column can have; leave it out by naming"),
        (b'{"y": {"": 1}}\n{}\n', None, "a member of 'y' has an empty name, which no column can have"),
        (b'{"record": 1}\n{}\n', None, "'record' is one that the client fills itself; leave it out by naming those to"),
        (b'{"y": 1}\n{"error": "boom"}\n', "id,y:double", "out/a.jsonl.out, line 2: the answer has 'error' and none"),
        (b'{"error": {"code": 1}}\n{"y": 1}\n', "id,y", "out/a.jsonl.out, line 1: the answer has 'error' and none of"),
        (b'{"id": 7}\n{"id": 9}\n', None, "in/a.jsonl, line 2: a record and its answer have different values of 'id'"),
        (b'{"y": 1}\n{"Y": 2}\n', "id,y", "out/a.jsonl.out, line 2: the member 'Y' is 'y' elsewhere; every line must"),
        (b'{"Yy": 1}\n{"YY": 2}\n', "id,yy", "the column 'yy' may be either member, 'Yy' or 'YY'"),
    ],
)  # fmt: skip
def test_members_that_no_column_can_say(account: Account, answers: bytes, columns: str | None, sentence: str) -> None:
    assert sentence in refused(account, json_job(account, answers), columns=columns)


@pytest.mark.parametrize(
    ("source", "columns", "sentence"),
    [
        (b"1\n1e39\n", "x:float,y", "in/a.csv, line 2: column 'x': '1e39' is not a float"),
        (b"1\n-1e999\n", "x:double,y", "in/a.csv, line 2: column 'x': '-1e999' is not a double"),
        (b"1.5\n1e999\n", "x,y", "in/a.csv, line 2: column 'x': '1e999' is not a double; its type is that of"),
        (b"inf\n1e999\n", "x:double,y", "in/a.csv, line 2: column 'x': '1e999' is not a double"),
        (b"1\n0x10\n", "x:int,y", "in/a.csv, line 2: column 'x': '0x10' is not a int"),
        (b'1\n"0X1f"\n', "x:bigint,y", "in/a.csv, line 2: column 'x': '0X1f' is not a bigint"),
        (b"a\nabc\n", "x:char(1),y", "in/a.csv, line 2: column 'x': 'abc' has 3 characters, of at most 1"),
    ],
)  # fmt: skip
def test_cells_that_their_column_cannot_say(account: Account, source: bytes, columns: str, sentence: str) -> None:
    job = account.job({"a.csv": source}, {"a.csv": b"1\n2\n"})
    assert sentence in refused(account, job, columns=columns)


def test_infinity_that_is_written_so_is_kept(account: Account) -> None:
    account.job({"a.csv": b"inf\n-Infinity\n"}, {"a.csv": b"INF\n1\n"}).table(TO, columns="x:double,y:float")
    assert account.query("select x, y from t order by record") == [(math.inf, math.inf), (-math.inf, 1.0)]
    job = json_job(account, b'{"y": Infinity}\n{"y": -Infinity}\n')
    job.table(f"s3://{BUCKET}/json", columns="id,y:float")
    assert account.query("select y from t order by record", below="json/") == [(math.inf,), (-math.inf,)]


def test_digits_that_no_number_keeps_are_text_in_csv_where_nobody_says_a_type(account: Account) -> None:
    digits = "123456789012345678901234567890"
    job = account.job({"a.csv": f"{digits},{digits},0x10\n1,1.5,2\n".encode()}, {"a.csv": b"1\n2\n"})
    job.table(TO, columns="x,mixed,hex,y")
    rows = account.query("select x, mixed, hex, y from t order by record")
    assert rows == [(digits, float(digits), "0x10", 1), ("1", 1.5, "2", 2)]


def test_digits_of_json_are_kept_by_a_type_that_has_them(account: Account) -> None:
    digits = 123456789012345678901234567890
    job = json_job(account, b'{"y": %d}\n{"y": 1}\n' % digits)
    job.table(TO, columns="id,y:decimal(38,0)")
    assert account.query("select y from t order by record") == [(Decimal(digits),), (Decimal(1),)]
    job = json_job(account, b'{"y": 100000000000000000000}\n{"y": 1.5}\n')
    job.table(f"s3://{BUCKET}/double")
    assert account.query("select y from t order by record", below="double/") == [(1e20,), (1.5,)]


def test_texts_fill_varchar_to_its_last_character_and_no_further(account: Account) -> None:
    table = account.table({"id": "varchar(4)", "y": "char(1)"})
    account.job({"a.csv": "café\n".encode()}, {"a.csv": b"\n"}).table(table=table)
    assert account.query("select id, y from t") == [("café", None)]
    job = json_job(account, b'{"y": "a"}\n{"y": "b"}\n', source=b'{"id": "abcd"}\n{"id": "abcde"}\n')
    with pytest.raises(Exception, match=r"in/a\.jsonl, line 2: column 'id': 'abcde' has 5 characters, of at most 4"):
        job.table(table=table)


def test_capitals_of_members_make_no_difference(account: Account) -> None:
    """Glue writes all names small, whatever members the model has."""
    table = account.table({"id": "bigint", "score": "double"})
    upper = {"source": b'{"ID": 7}\n{"ID": 8}\n', "answers": b'{"Score": 1}\n{"Score": null}\n'}
    json_job(account, **upper).table(table=table)
    assert account.query("select id, score from t order by id") == [(7, 1.0), (8, None)]
    json_job(account, **upper).table(table=table, columns="ID,SCORE")
    json_job(account, **upper).table(f"s3://{BUCKET}/named", columns="Id,score")
    assert account.query("select Id, score from t order by 1", below="named/") == [(7, 1), (8, None)]
    joined = b'{"ID": 7, "SageMakerOutput": {"Score": 1}}\n{"ID": 8, "SageMakerOutput": {"Score": 2}}\n'
    json_job(account, joined, join=True).table(table=table)
    assert account.query("select count(*), sum(id), sum(score) from t") == [(6, 45, 5.0)]


def test_an_error_in_the_place_of_a_joined_answer_is_named(account: Account) -> None:
    joined = b'{"id": 7, "SageMakerOutput": {"y": 1}}\n{"id": 8, "SageMakerOutput": {"error": "x"}}\n'
    said = refused(account, json_job(account, joined, join=True), columns="id,y")
    assert "out/a.jsonl.out, line 2: the answer has 'error' and none of the columns that other answers have" in said


@pytest.mark.parametrize("columns", ["id,SageMakerOutput", "SageMakerOutput:struct<y:bigint>,id", "sagemakeroutput"])
def test_what_holds_the_columns_of_a_joined_answer_is_no_column_itself(account: Account, columns: str) -> None:
    joined = b'{"id": 7, "SageMakerOutput": {"y": 1}}\n{"id": 8, "SageMakerOutput": {"y": 2}}\n'
    said = refused(account, json_job(account, joined, join=True), columns=columns)
    assert "it holds an object in the lines of this job, and each of its members is a column" in said
    whole = b'{"id": 7, "SageMakerOutput": 1}\n{"id": 8, "SageMakerOutput": 2}\n'
    json_job(account, whole, join=True).table(TO, columns="id,prediction")
    assert account.query("select prediction from t order by id") == [(1,), (2,)]


def test_an_answer_that_says_null_or_nothing_is_no_error(account: Account) -> None:
    job = json_job(account, b'{"y": 1}\n{"y": null, "further": 1}\n{}\nnull\n', source=IDS * 2)
    job.table(TO, columns="id,y")
    assert account.query("select y from t order by record") == [(1,), (None,), (None,), (None,)]


def test_answers_of_which_nothing_is_wanted_need_no_column(account: Account) -> None:
    json_job(account, b'{"y": 1}\n{"z": 2}\n').table(TO, columns="id")
    assert account.query("select id from t order by id") == [(7,), (8,)]


@pytest.mark.parametrize("answer", [b'{"y": 1}', b"1"], ids=["object", "number"])
def test_a_blank_line_of_json_is_an_empty_answer(account: Account, answer: bytes) -> None:
    for number, lines in enumerate((answer + b"\n  \n\n", b"\n\r\n" + answer + b"\n")):
        json_job(account, lines, source=IDS + b'{"id": 9}\n').table(f"s3://{BUCKET}/blank-{number}")
        rows = account.query("select columns('^(y|prediction)$') from t order by 1", below=f"blank-{number}/")
        assert rows == [(1,), (None,), (None,)]


def test_a_struct_of_columns_takes_the_members_that_it_names(account: Account) -> None:
    """As `--columns` does at the top; by the columns of a table alone the further member is an error."""
    table = account.table({"id": "bigint", "y": "struct<z:bigint>"})
    answers = b'{"y": {"z": 1, "further": 2}}\n{"y": {"z": 3}}\n'
    assert "out/a.jsonl.out, line 1: column 'y'" in refused(account, json_job(account, answers), table=table)
    json_job(account, answers).table(TO, columns="id,y:struct<z:bigint>")
    assert account.query("select y.z from t order by id") == [(1,), (3,)]


def test_lists_and_nan_that_both_sides_have_agree(account: Account) -> None:
    source = b'{"id": 7, "l": [1], "n": NaN}\n{"id": 8, "l": null, "n": 1.5}\n'
    json_job(account, b'{"l": [1], "n": NaN}\n{"l": [2], "n": null}\n', source=source).table(TO)
    assert account.query("select l, isnan(n) from t order by id") == [([1], True), ([2], False)]


@pytest.mark.parametrize("place", ["JOB/in", "JOB/in/deeper", "JOB/out", "JOB/out/tables", "JOB"])
def test_a_table_where_the_job_reads_or_writes(account: Account, place: str) -> None:
    """Its next run would read the table as records, and whoever reads the table would find records."""
    for listed in (False, True):
        job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"}, listed=listed)
        if listed and place == "JOB/in/deeper":
            continue  # only the objects of the list are read
        said = refused(account, job, to=f"s3://{BUCKET}/{place.replace('JOB', job.name)}", columns="x,y")
        assert "give the table a folder of its own" in said
        assert "parquet" not in " ".join(account.keys())
    job.table(f"s3://{BUCKET}/{job.name}/output", columns="x,y")


def test_an_output_that_was_written_anew_soon_after_the_end(account: Account) -> None:
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"}, join=True)
    found = account.described(job)
    found.transform_start_time -= timedelta(seconds=60)
    found.transform_end_time -= timedelta(seconds=7)
    assert "another job wrote it; give each job an output of its own" in refused(account, job, columns="x,y")


def test_a_job_that_is_not_there_is_named(account: Account) -> None:
    job = BatchJob("no-such-job", session=account.session)
    for ask in (lambda: job.table(TO), job.wait, lambda: job.fetch(account.folder)):
        with pytest.raises(BatchFailed, match=r"there is no transform job no-such-job in us-east-1: Could not find"):
            ask()
    with pytest.raises(ValueError, match="the name of the transform job is empty"):
        BatchJob("", session=account.session)
