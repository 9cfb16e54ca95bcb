"""A completed job becomes a table: its records beside their answers, read back by an engine that did not write them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import pytest

from tests.client.table.conftest import BUCKET, Account

TO = f"s3://{BUCKET}/tables/predictions/"


def test_each_answer_of_csv_stands_beside_its_record(account: Account) -> None:
    job = account.job(
        {"a.csv": b"id1,1.5\nid2,\n", "deep/b.csv": b"id3,3"}, {"a.csv": b"0.5\n0.25\n", "deep/b.csv": b"1e3\n"}
    )
    account.described(job).creation_time = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    written = job.table(TO, columns="id,x:double,score:double")
    assert written.location == f"{TO}day=2026-03-01/job={job.name}/part-0.parquet"
    assert (written.records, written.objects) == (3, 2)
    assert account.query("select id, x, score, job, input_file, record, day from t order by id") == [
        ("id1", 1.5, 0.5, job.name, f"s3://{BUCKET}/{job.name}/in/a.csv", 0, "2026-03-01"),
        ("id2", None, 0.25, job.name, f"s3://{BUCKET}/{job.name}/in/a.csv", 1, "2026-03-01"),
        ("id3", 3.0, 1000.0, job.name, f"s3://{BUCKET}/{job.name}/in/deep/b.csv", 0, "2026-03-01"),
    ]


def test_an_output_that_holds_the_records_already_is_taken_as_it_is(account: Account) -> None:
    job = account.job({"a.csv": b"id1,1\n"}, {"a.csv": b"id1,1,0.5\n"}, join=True)
    account.s3.delete_object(Bucket=BUCKET, Key=f"{job.name}/in/a.csv")
    job.table(TO, columns="id,x,score")
    assert account.query("select id, x, score, record from t") == [("id1", 1, 0.5, 0)]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    ("answer", "name"), [({"label": 4, "scores": [0.5, 1.0]}, "label"), (4, "prediction")], ids=["object", "number"]
)
def test_columns_are_the_members_joined_or_not(account: Account, joined: bool, answer: object, name: str) -> None:
    record = {"id": "x", "pixels": [1, 2]}
    line = {**record, "SageMakerOutput": answer} if joined else answer
    job = account.job(
        {"a.jsonl": json.dumps(record).encode() + b"\n"},
        {"a.jsonl": json.dumps(line).encode() + b"\n"},
        content_type="application/jsonlines",
        join=joined,
    )
    job.table(TO)
    (found,) = account.query("select * from t")
    assert found[:2] == ("x", [1, 2])
    assert 4 in found
    assert name in [row[0] for row in account.query("describe t")]
    if name == "label":
        assert account.query("select scores from t") == [([0.5, 1.0],)]


def test_the_columns_of_the_table_say_names_types_and_order(account: Account) -> None:
    table = account.table(
        {
            "id": "string",
            "seen": "timestamp",
            "on_day": "date",
            "money": "decimal(10,2)",
            "scores": "array<double>",
            "small": "tinyint",
            "flag": "boolean",
            "score": "float",
        }
    )
    records = [
        {"id": "a", "seen": "2026-03-01T12:00:00+02:00", "on_day": "2026-03-01", "money": "1.25", "flag": True},
        {"seen": "2026-03-01 12:00:00.5", "id": "b", "small": 7, "scores": [1, None]},
    ]
    job = account.job(
        {"a.jsonl": b"".join(json.dumps(record).encode() + b"\n" for record in records)},
        {"a.jsonl": b"0.5\nnull\n"},
        content_type="application/jsonlines",
    )
    job.table(table=table)
    assert [row[:2] for row in account.query("describe t")] == [
        ("id", "VARCHAR"),
        ("seen", "TIMESTAMP"),
        ("on_day", "DATE"),
        ("money", "DECIMAL(10,2)"),
        ("scores", "DOUBLE[]"),
        ("small", "TINYINT"),
        ("flag", "BOOLEAN"),
        ("score", "FLOAT"),
        ("job", "VARCHAR"),
        ("input_file", "VARCHAR"),
        ("record", "BIGINT"),
        ("day", "VARCHAR"),
    ]
    rows = account.query("select id, seen::varchar, on_day::varchar, money::varchar, scores, small, flag, score from t")
    assert rows == [
        ("a", "2026-03-01 10:00:00", "2026-03-01", "1.25", None, None, True, 0.5),
        ("b", "2026-03-01 12:00:00.5", None, None, [1.0, None], 7, None, None),
    ]


def test_the_table_of_a_stage_is_found_by_the_stages_name(account: Account) -> None:
    table = account.table({"id": "string", "score": "double"})
    database, _, name = table.partition(".")
    value = {"database": database, "table": name, "location": TO, "workgroup": None}
    account.session.client("ssm").put_parameter(Name="/tidegate/dev/table", Value=json.dumps(value), Type="String")
    job = account.job({"a.csv": b"x\n"}, {"a.csv": b"1\n"})
    assert job.table(stage="dev").location.startswith(TO)
    assert account.query("select id, score from t") == [("x", 1.0)]


def test_cells_are_named_in_another_order_than_the_tables_and_some_are_left_out(account: Account) -> None:
    table = account.table({"score": "double", "id": "string", "further": "bigint"})
    job = account.job({"a.csv": b"1,2,x\n"}, {"a.csv": b"0.5,9\n"})
    job.table(table=table, columns="-,-,id,score,-")
    assert account.query("select * exclude (job, input_file, day) from t") == [(0.5, "x", None, 0)]


def test_the_same_job_gives_the_same_file_again(account: Account) -> None:
    job = account.job({"a.csv": b"1\n2\n"}, {"a.csv": b"3\n4\n"})
    first = job.table(TO, columns="x,y")
    content = account.s3.get_object(Bucket=BUCKET, Key=account.keys("tables/")[0])["Body"].read()
    assert job.table(TO, columns="x,y") == first
    assert len(account.keys("tables/")) == 1
    assert account.s3.get_object(Bucket=BUCKET, Key=account.keys("tables/")[0])["Body"].read() == content


@pytest.mark.parametrize(
    "source",
    [b"1\r\n2\r\n", b"\xef\xbb\xbf1\n2\n", b"\n1\n  \t\n\r\n2\n\n", b"1\n2"],
    ids=["CRLF", "byte order mark", "blank lines", "no newline at the end"],
)
def test_what_is_no_record_is_passed_over(account: Account, source: bytes) -> None:
    job = account.job({"a.csv": source}, {"a.csv": b"3\r\n\r\n4\r\n"})
    job.table(TO, columns="x:bigint,y:bigint")
    assert account.query("select x, y, record from t order by x") == [(1, 3, 0), (2, 4, 1)]


def test_a_blank_line_is_an_empty_answer_where_else_the_numbers_would_not_agree(account: Account) -> None:
    job = account.job({"a.csv": b"1\n\n2\n3\n"}, {"a.csv": b"\n5\n6\n"})
    job.table(TO, columns="x,y:bigint")
    assert account.query("select x, y from t order by x") == [(1, None), (2, 5), (3, 6)]


def test_quoted_cells_hold_commas_and_quotes_and_empty_text_is_not_nothing(account: Account) -> None:
    job = account.job({"a.csv": b'"a,b ""c""",\n"",2\n'}, {"a.csv": b'"x,y"\nNA\n'})
    job.table(TO, columns="text:string,x:bigint,answer:string", null_values=("", "NA"))
    assert account.query("select text, x, answer from t order by record") == [('a,b "c"', None, "x,y"), ("", 2, None)]


def test_packed_input_and_a_list_of_objects_are_read(account: Account) -> None:
    packed = gzip.compress(b"1\n") + gzip.compress(b"2\n")
    job = account.job({"a.csv.gz": packed}, {"a.csv.gz": b"3\n4\n"}, compression="Gzip", listed=True)
    account.put(f"{job.name}/in/other.csv.gz", b"not of the job")
    job.table(TO, columns="x,y")
    assert account.query("select x, y, input_file from t order by x") == [
        (1, 3, f"s3://{BUCKET}/{job.name}/in/a.csv.gz"),
        (2, 4, f"s3://{BUCKET}/{job.name}/in/a.csv.gz"),
    ]


def test_another_charset_is_text_too(account: Account) -> None:
    job = account.job(
        {"a.csv": "café\n".encode("latin-1")}, {"a.csv": "naïve\n".encode()}, content_type="text/csv; charset=latin-1",
        accept="text/csv",
    )  # fmt: skip
    job.table(TO, columns="x,y")
    assert account.query("select x, y from t") == [("café", "naïve")]


def test_answers_in_json_stand_beside_records_in_csv_and_the_other_way_round(account: Account) -> None:
    job = account.job(
        {"a.csv": b"id1,2\n"}, {"a.csv": b'{"label": "x", "score": 0.5}\n'}, accept="application/jsonlines"
    )
    job.table(TO, columns="id,n,score,label")
    assert account.query("select id, n, label, score from t") == [("id1", 2, "x", 0.5)]
    other = account.job(
        {"a.jsonl": b'{"id": 7}\n'}, {"a.jsonl": b"0.5\n"}, content_type="application/jsonlines", accept="text/csv"
    )
    other.table(f"s3://{BUCKET}/other")
    assert account.query("select id, prediction from t", below="other/") == [(7, 0.5)]


@pytest.mark.parametrize("joined", [False, True])
def test_an_answer_that_is_null_is_nothing_in_its_columns(account: Account, joined: bool) -> None:
    """As of a record that a pipeline could not do, wherever it stands."""
    answers = [None, {"label": "a"}, None, {"label": None}, {"label": "b"}]
    records = [{"id": index} for index in range(len(answers))]
    lines = [
        {**record, "SageMakerOutput": answer} if joined else answer
        for record, answer in zip(records, answers, strict=True)
    ]
    job = account.job(
        {"a.jsonl": b"".join(json.dumps(record).encode() + b"\n" for record in records)},
        {"a.jsonl": b"".join(json.dumps(line).encode() + b"\n" for line in lines)},
        content_type="application/jsonlines",
        join=joined,
    )
    job.table(TO)
    assert account.query("select id, label from t order by id") == [(0, None), (1, "a"), (2, None), (3, None), (4, "b")]


def test_a_line_may_be_longer_than_any_buffer(account: Account) -> None:
    long, short = "é" * 3_000_000, "x"
    records = b"".join(json.dumps({"text": text, "n": [1]}).encode() + b"\n" for text in (short, long, short, long))
    job = account.job({"a.jsonl": records}, {"a.jsonl": b"1\n2\n3\n4\n"}, content_type="application/jsonlines")
    job.table(TO)
    assert account.query("select length(text), prediction from t order by 2") == [
        (1, 1),
        (3_000_000, 2),
        (1, 3),
        (3_000_000, 4),
    ]
    csv = b"".join(f"{text},1\n".encode() for text in (short, long, short))
    job = account.job({"a.csv": csv}, {"a.csv": csv})
    job.table(f"s3://{BUCKET}/csv", columns="text,one,again,two")
    assert account.query("select length(again), two from t order by record", below="csv/") == [
        (1, 1),
        (3_000_000, 1),
        (1, 1),
    ]


def test_many_small_objects_that_are_one_record_each(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows are put together now and then, or thousands of tables would be held until there is a row group."""
    monkeypatch.setattr("tidegate.client.table.job_table._MOST_HELD", 50)
    names = [f"{number:05}.png" for number in range(600)]
    job = account.job(
        dict.fromkeys(names, b"\x89PNG\n\n"),
        {name: b'{\n "label": %d\n}' % number for number, name in enumerate(names)},
        content_type="image/png",
        accept="application/json",
        split="None",
    )
    assert job.table(TO).objects == 600
    assert account.query(
        "select count(*), sum(label), count(distinct input_file), max(record), "
        "bool_and(input_file like '%/' || printf('%05d', label) || '.png') from t"
    ) == [(600, 599 * 300, 600, 0, True)]


def test_blocks_of_either_side_need_not_agree(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do pieces fall on lines: long records and short answers, many parts of an upload and many row groups."""
    monkeypatch.setattr("tidegate.client.table.reading.FIRST_CHUNK_BYTES", 1000)
    monkeypatch.setattr("tidegate.client.table.reading.CHUNK_BYTES", 70_000)
    monkeypatch.setattr("tidegate.client.table.job_table._ROW_GROUP_BYTES", 6 * 2**20)
    monkeypatch.setattr("tidegate.client.table.upload.PART_BYTES", 5 * 2**20)
    count = 60_000
    source = b"".join(b"%d,%s\n" % (number, b"%x" % (number**20) * 2) for number in range(count))
    answers = b"".join(b"%d\n" % (2 * number) for number in range(count))
    job = account.job({"a.csv": source}, {"a.csv": answers})
    written = job.table(TO, columns="x:bigint,text:string,y:bigint")
    assert written.records == count
    assert written.size_bytes > 5 * 2**20
    assert account.query("select count(*), bool_and(y = 2 * x), bool_and(record = x) from t") == [(count, True, True)]
    assert account.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_a_table_without_projection_learns_of_its_partition_last(account: Account, today: str) -> None:
    table = account.table({"x": "bigint", "y": "bigint"}, projected=False)
    for _ in range(2):
        account.job({"a.csv": b"1\n"}, {"a.csv": b"2\n"}).table(table=table)
    glue = account.session.client("glue")
    (partition,) = glue.get_partitions(DatabaseName="results", TableName="predictions")["Partitions"]
    assert partition["Values"] == [today]
    assert partition["StorageDescriptor"]["Location"] == f"{TO}day={today}/"
    assert account.query("select count(*) from t") == [(2,)]


def test_a_table_with_projection_is_told_of_no_partition(account: Account) -> None:
    """Readers work the days out, and the policy of a writer has no right to make one."""
    table = account.table({"x": "bigint", "y": "bigint"})
    account.job({"a.csv": b"1\n"}, {"a.csv": b"2\n"}).table(table=table)
    glue = account.session.client("glue")
    assert glue.get_partitions(DatabaseName="results", TableName="predictions")["Partitions"] == []
