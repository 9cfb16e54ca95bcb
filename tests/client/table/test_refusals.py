"""What cannot become a table is one sentence that names the thing, and nothing of it is in S3."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ResponseStreamingError

from tests.client.table.conftest import BUCKET, Account
from tidegate.client import BatchFailed, BatchJob, TableFailed
from tidegate.client.__main__ import main
from tidegate.client.table.job_objects import Place, Span, pairs_of_prefix
from tidegate.client.table.reading import ObjectReader
from tidegate.client.table.upload import Upload

TO = f"s3://{BUCKET}/tables/predictions/"
JSON = "application/jsonlines"


def refused(account: Account, job: BatchJob, *, to: str | None = TO, **asked: Any) -> str:
    """The sentence; afterwards neither a file nor a part of one is there."""
    with pytest.raises((TableFailed, BatchFailed, ValueError)) as caught:
        job.table(to, **asked)
    assert account.keys("tables/") == []
    assert account.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
    said = str(caught.value)
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("InProgress", "is InProgress: its answers are not all there; wait for it"),
        ("Stopping", "is Stopping: its answers are not all there"),
        ("Failed", "is Failed, and a table holds whole jobs only: ClientError: it broke"),
        ("Stopped", "is Stopped, and a table holds whole jobs only; run it again"),
    ],
)
def test_a_job_that_is_not_completed(account: Account, status: str, sentence: str) -> None:
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"2\n"})
    found = account.described(job)
    found.transform_job_status, found.failure_reason = status, "ClientError: it broke"
    assert sentence in refused(account, job, columns="x,y")


@pytest.mark.parametrize(
    ("source", "answers", "columns", "sentence"),
    [
        (b"1\n2\n3\n", b"1\n2\n", "x,y", "in/a.csv has 3 records and s3://data/JOB/out/a.csv.out 2 lines: which"),
        (b"1\n", b"1\n2\n", "x,y", "in/a.csv has 1 record and s3://data/JOB/out/a.csv.out 2 lines: which"),
        (b"1\n", b"", "x,y", "in/a.csv has 1 record and s3://data/JOB/out/a.csv.out 0 lines"),
        (b"", b"1\n", "x,y", "in/a.csv has 0 records and s3://data/JOB/out/a.csv.out 1 line"),
        (b"", b"", "x,y", "there is no record in the input of JOB, so there is no table to write"),
        (b"1\n\n2x\n", b"1\n2\n", "x:bigint,y", "in/a.csv, line 3: column 'x': '2x' is not a bigint"),
        (b"1\n2\n", b"a\n0\n", "x,y:double", "out/a.csv.out, line 1: column 'y': 'a' is not a double"),
        (b"1\n300\n", b"1\n2\n", "x:tinyint,y", "in/a.csv, line 2: column 'x': '300' is not a tinyint"),
        (b"1\n" * 300_000 + b"1.5\n", b"1\n" * 300_001, "x,y", "line 300001: column 'x': '1.5' is not a bigint; its"),
        (b"5,a\n5,6\n", b"1\n2\n", "-,x:bigint,y", "in/a.csv, line 1: column 'x': 'a' is not a bigint"),
        (b"2026-01-01\nyesterday\n", b"1\n2\n", "x:date,y", "in/a.csv, line 2: column 'x': 'yesterday' is not a date"),
        (b"1,2\n1,2,3\n", b"1\n2\n", "x,z,y", "in/a.csv, line 2: 3 cells, and 2 cells are expected: x, z"),
        (b"1,2\n1\n", b"1\n2\n", "x,z,y", "in/a.csv, line 2: 1 cell, and 2 cells are expected: x, z"),
        (b"1,2\n", b"1\n", "x,y", "in/a.csv has 2 cells and s3://data/JOB/out/a.csv.out has 1 cell in line 1, for 2 "),
        (b"1\n", b"1\n", "x,y,z", "has 1 cell in line 1, for 3 columns: x, y, z"),
        (b'a,"b\nc",d\n', b"1\n2\n", "x,z,y", "in/a.csv, line 1: a quote is left open; a cell must not hold a newline"),
        (b"a\rb\n", b"1\n", "x,y", "in/a.csv, line 1: a CR has no LF after it; a line ends with LF or CRLF"),
        (b'"a\nb"\nc\rd\n', b"1\n2\n3\n", "x,y", "in/a.csv, line "),
        (b"a\n\xffb\n", b"1\n2\n", "x,y", r"in/a.csv, line 2: b'\xff' is not UTF-8 (invalid start byte); write"),
        (b"1\n", b"2\n", None, "the cells of CSV have no names (s3://data/JOB/in/a.csv has 1 and "),
        (b"1\n", b"2\n", "x,x", "the column 'x' is named twice"),
        (b"1\n", b"2\n", "x,record", "the column 'record' is one that the client fills itself"),
        (b"1\n", b"2\n", "x,y:number", "'number' is not a type of a column here; there are boolean, tinyint"),
        (b"1\n", b"2\n", "x,y:array<double>", "the column 'y' is array<double>, which no cell of"),
        (b"1\n", b"2\n", "x,:int", "write NAME or NAME:TYPE"),
    ],
)  # fmt: skip
def test_lines_of_csv_that_do_not_fit(
    account: Account, source: bytes, answers: bytes, columns: str | None, sentence: str
) -> None:
    job = account.job({"a.csv": source}, {"a.csv": answers})
    assert sentence.replace("JOB", job.name) in refused(account, job, columns=columns)


@pytest.mark.parametrize(
    ("answers", "columns", "sentence"),
    [
        (b'{"y": 1}\n{"y": "a"}\n', None, "line 2: 'y' changes from number to string"),
        (b'{"y": 1}\n{"y": 1.5}\n', "id,y:bigint", "line 2: column 'y': '1.5' is not a bigint"),
        (b'{"y": 1}\n{"y": [1]}\n', "id,y:bigint", "line 2: column 'y': '[1]' is not a bigint"),
        (b'{"y": 1}\n{"y": true}\n', "id,y:bigint", "line 2: column 'y': 'True' is not a bigint"),
        (b'{"y": "2026-01-01"}\n{"y": "x"}\n', "id,y:date", "line 2: column 'y': 'x' is not a date"),
        (b'{"y": [1]}\n{"y": [1, "a"]}\n', "id,y:array<double>", "line 2: column 'y': \"[1, 'a']\" is not a array"),
        (b'{"y": 1}\n[2]\n', "id,y:bigint", "line 2: it is an array, and the lines before are objects"),
        (b'{"y": 1}\n{"y": \n', "id,y:bigint", "line 2: it is not JSON (Expecting value: "),
        (b'{"y": 1}\nerror: out of memory\n', "id,y:bigint", "line 2: it is not JSON (Expecting value: "),
        (b'{"y": 1}{"y": 2}\n{"y": \n', "id,y:bigint", "line 1: it is not JSON (Extra data: "),
        (b"0.5\n[1]\n", "id,y:double", "line 2: column 'y': '[1]' is not a double"),
        (b'0.5\n1,"id":7\n', "id,y:double", "line 2: it is not JSON (Extra data: "),
        (b'{"y": 1}\n{"y": 2}\n', "id,y,score", "has a member 'score'; name those that they have by --columns"),
        (b'{"y": 1}\n{"y": 2}\n', "id,y,score:double", "has a member 'score'; name those that they have by --columns"),
        (b'{"id": 9}\n{"id": 9}\n', "id", "a record and its answer have different values of 'id'"),
        (b'{"id": "a"}\n{"id": "b"}\n', None, "the record's 'id' is bigint and its answer's string: rename it"),
        (b'{"day": 1}\n{"day": 1}\n', None, "the column 'day' is one that the client fills itself"),
        (b'{"ID": 1}\n{"ID": 1}\n', None, "the column 'ID' is named twice; SQL makes no difference of case"),
        (b'{"y": "\xff"}\n{"y": "b"}\n', None, r"line 1: b'\xff' is not UTF-8"),
        (b"nonsense\n1\n", None, "line 1: it is not JSON (Expecting value"),
    ],
)  # fmt: skip
def test_lines_of_json_that_do_not_fit(account: Account, answers: bytes, columns: str | None, sentence: str) -> None:
    job = account.job({"a.jsonl": b'{"id": 7}\n{"id": 8}\n'}, {"a.jsonl": answers}, content_type=JSON)
    said = refused(account, job, columns=columns)
    assert sentence in said


def test_members_that_have_no_column(account: Account) -> None:
    """The table's columns are kept to; without a table it is the first lines that say what columns there are."""
    table = account.table({"id": "bigint", "y": "double"})
    source = b'{"id": 7}\n{"id": 8}\n'
    answers = b'{"y": 1}\n{"error": {"code": "bad_request"}}\n'
    job = account.job({"a.jsonl": source}, {"a.jsonl": answers}, content_type=JSON)
    said = refused(account, job, table=table)
    assert "out/a.jsonl.out, line 2: there is no column for the member 'error' (columns: id, y)" in said
    names = ["a.jsonl", "b.jsonl"]
    later = {"a.jsonl": b'{"y": 1}\n{"y": 1}\n', "b.jsonl": b'{"y": 1}\n{"y": 1, "z": 2}\n'}
    job = account.job(dict.fromkeys(names, source), later, content_type=JSON)
    assert "out/b.jsonl.out, line 2: there is no column for the member 'z' (columns: y)" in refused(account, job)


def test_columns_that_leave_none_for_the_answers(account: Account) -> None:
    for answer in (b"0.5\n", b'{"y": 1}\n'):
        job = account.job({"a.csv": b"1,2\n"}, {"a.csv": answer}, accept=JSON)
        said = refused(account, job, columns="x,z")
        assert f"no column is left for the answers in JSON, of which s3://data/{job.name}/out/a.csv.out is" in said
    job = account.job({"a.jsonl": b"[1]\n"}, {"a.jsonl": b"2\n"}, content_type=JSON)
    assert "1 column cannot hold both a record and its answer: name one for each" in refused(account, job, columns="x")


def test_answers_without_columns(account: Account) -> None:
    job = account.job({"a.npy": b"x"}, {"a.npy": b"x"}, content_type="application/x-npy", split="None")
    assert "the answers of the job are application/x-npy, which has no columns" in refused(account, job)


def test_a_whole_document_that_is_none_and_an_image_with_two_answers(account: Account) -> None:
    asked: dict[str, Any] = {"content_type": "image/png", "split": "None"}
    job = account.job({"a.png": b"x"}, {"a.png": b'{"a": '}, accept="application/json", **asked)
    assert "out/a.png.out is not JSON: Expecting value" in refused(account, job)
    job = account.job({"a.png": b"x"}, {"a.png": b'{"a": 1}\n{"a": 2}\n'}, accept=JSON, **asked)
    assert "in/a.png has 1 record and" in refused(account, job)


def test_what_is_gone_is_named(account: Account) -> None:
    contents = {"a.csv": b"1\n", "b.csv": b"1\n"}
    for listed in (False, True):
        job = account.job(contents, contents, listed=listed)
        account.s3.delete_object(Bucket=BUCKET, Key=f"{job.name}/out/b.csv.out")
        said = refused(account, job, columns="x,y")
        assert f"{job.name}/out/b.csv.out is {'not there' if listed else 'missing'}: " in said
        job = account.job(contents, contents, listed=listed)
        account.s3.delete_object(Bucket=BUCKET, Key=f"{job.name}/in/b.csv")
        said = refused(account, job, columns="x,y")
        assert f"{job.name}/in/b.csv is {'not there' if listed else 'gone'}" in said
    account.s3.delete_object(Bucket=BUCKET, Key=f"{job.name}/out/{job.name}.manifest.json")
    assert ".manifest.json, the list of the job's input, cannot be read: " in refused(account, job, columns="x,y")


@pytest.mark.parametrize("content", [b"[]", b"{", b'["a"]', b'[{"prefix": "s3://data/"}, 1]', b'[{"prefix": "data"}]'])
def test_a_list_of_objects_that_is_none(account: Account, content: bytes) -> None:
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"}, listed=True)
    account.put(f"{job.name}/out/{job.name}.manifest.json", content)
    assert "is not the list of a job's input: " in refused(account, job, columns="x,y")


def test_objects_of_another_time_than_the_jobs(account: Account) -> None:
    """An input that was written anew, and an output that another job wrote: lines that do not belong together."""
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"})
    found = account.described(job)
    found.transform_start_time -= timedelta(hours=1)
    assert "in/a.csv was written anew at" in refused(account, job, columns="x,y")
    found.transform_end_time = found.transform_start_time
    account.s3.delete_object(Bucket=BUCKET, Key=f"{job.name}/in/a.csv")
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"}, join=True)
    found = account.described(job)
    found.transform_start_time = found.transform_end_time = found.transform_end_time + timedelta(hours=1)
    assert "another job wrote it; give each job an output of its own" in refused(account, job, columns="x,y")


def test_packed_input_that_is_not_whole(account: Account) -> None:
    for content in (gzip.compress(b"1\n" * 1000)[:-4], b"1\n", gzip.compress(b"1\n") + b"rest"):
        job = account.job({"a.csv.gz": content}, {"a.csv.gz": b"1\n"}, compression="Gzip")
        assert "in/a.csv.gz is not whole as gzip: " in refused(account, job, columns="x,y")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"PartitionKeys": [{"Name": "month", "Type": "string"}]}, "is partitioned by month; the client writes"),
        ({"PartitionKeys": []}, "is partitioned by nothing"),
        ({"StorageDescriptor": {"SerdeInfo": {"SerializationLibrary": "OpenCSVSerde"}}}, "read by OpenCSVSerde"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_suit(account: Account, changed: dict[str, Any], sentence: str) -> None:
    table = account.table({"x": "bigint"}, **changed)
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"})
    assert sentence in refused(account, job, to=None, table=table)


def test_a_table_and_what_is_said_beside_it(account: Account) -> None:
    table = account.table({"x": "bigint", "y": "double"})
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"})
    assert "is read from s3://data/tables/predictions/, not s3://data/elsewhere/" in refused(
        account, job, to="s3://data/elsewhere", table=table
    )
    assert "the table has no column 'z'; it has x, y" in refused(account, job, table=table, columns="x,z")
    assert "the column 'y' is double in the table, not string" in refused(
        account, job, table=table, columns="x,y:string"
    )
    assert "there is no table results.other in the Glue catalogue" in refused(account, job, table="results.other")
    assert "write DATABASE.TABLE" in refused(account, job, table="results")
    assert "by its name or by its stage, not both" in refused(account, job, table=table, stage="dev")
    assert "stage dev of tidegate has no table in us-east-1; write [batch.table]" in refused(account, job, stage="dev")
    assert "no place for the table is named" in refused(account, job, to=None)
    assert "is a whole bucket; name a folder of it" in refused(account, job, to="s3://data/")
    assert "'data/x' is not an address in S3" in refused(account, job, to="data/x")


def test_the_first_mistake_of_a_later_object_takes_all_back(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the file were in S3 already; they are gone, and a file that the job left before stays as it is."""
    monkeypatch.setattr("tidegate.client.table.job_table._ROW_GROUP_BYTES", 1)
    monkeypatch.setattr("tidegate.client.table.upload.PART_BYTES", 1)
    sent: list[str] = []
    original = Upload._upload

    def counted(self: Upload, part: bytes, number: int) -> dict[str, Any]:
        sent.append(self._id or "")
        return original(self, part, number)

    monkeypatch.setattr(Upload, "_upload", counted)
    names = [f"{number:02}.csv" for number in range(12)]
    answers = dict.fromkeys(names, b"1\n") | {names[-1]: b"no number\n"}
    job = account.job(dict.fromkeys(names, b"1\n"), answers)
    assert "out/11.csv.out, line 1: column 'y'" in refused(account, job, columns="x,y:double")
    assert len(set(sent)) == 1


def test_a_part_that_s3_refuses(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.client.table.upload.PART_BYTES", 1)

    def full(*_: object) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "UploadPart")

    monkeypatch.setattr(Upload, "_upload", full)
    job = account.job({"a.csv": b"1\n"}, {"a.csv": b"1\n"})
    assert "part-0.parquet cannot be written: An error occurred (AccessDenied)" in refused(account, job, columns="x,y")


class BrokenBody(io.BytesIO):
    """A connection that breaks off after some bytes."""

    def __init__(self, content: bytes, after: int) -> None:
        super().__init__(content[:after])

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if not found:
            raise ResponseStreamingError(error="cut")
        return found


class BreakingS3:
    """One object, of whose connections the first `breaks` break off after `after` bytes."""

    def __init__(self, content: bytes, *, breaks: int, after: int) -> None:
        self._content, self._breaks, self._after = content, breaks, after
        self.asked: list[dict[str, Any]] = []

    def get_object(self, **asked: Any) -> dict[str, Any]:
        assert (asked.pop("Bucket"), asked.pop("Key")) == ("data", "a")
        self.asked.append(asked)
        begin = int(asked.get("Range", "bytes=0-")[6:-1])
        rest = self._content[begin:]
        body = BrokenBody(rest, self._after) if len(self.asked) <= self._breaks else io.BytesIO(rest)
        return {"ContentLength": len(rest), "ETag": '"1"', "LastModified": datetime.now(UTC), "Body": body}


def reader(s3: Any, waited: list[float]) -> ObjectReader:
    return ObjectReader(s3, Place(bucket="data", key="a"), missing="why", sleep=waited.append)


def read_all(found: ObjectReader) -> bytes:
    return b"".join(iter(lambda: found.chunk(7), b""))


def test_a_connection_that_breaks_off_is_gone_on_with_from_there() -> None:
    waited: list[float] = []
    s3 = BreakingS3(bytes(range(100)), breaks=9, after=10)
    assert read_all(reader(s3, waited)) == bytes(range(100))
    assert s3.asked[1] == {"Range": "bytes=10-", "IfMatch": '"1"'}
    assert set(waited) == {0.2}, "each time it went on, so each time it is the first failure"


def test_one_that_breaks_off_again_and_again_is_given_up() -> None:
    waited: list[float] = []
    with pytest.raises(
        TableFailed, match="s3://data/a breaks off at byte 0, again and again: An error occurred while re"
    ):
        read_all(reader(BreakingS3(b"abc", breaks=99, after=0), waited))
    assert waited == [0.2, 1.0, 3.0]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, r"s3://data/a may not be read \(403 AccessDenied\): allow s3:GetObject there, and s3:ListBucket"),
        (404, "s3://data/a is not there: why"),
        (412, "s3://data/a was written anew while it was read"),
        (500, "s3://data/a cannot be read: An error occurred"),
    ],
)
def test_what_s3_refuses_is_said_at_once(status: int, sentence: str) -> None:
    class Refusing:
        def get_object(self, **_: Any) -> dict[str, Any]:
            raise ClientError(
                {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
            )

    waited: list[float] = []
    with pytest.raises(TableFailed, match=sentence):
        read_all(reader(Refusing(), waited))
    assert not waited


def test_an_s3_that_is_not_there_is_given_up() -> None:
    class Gone:
        def get_object(self, **_: Any) -> dict[str, Any]:
            raise EndpointConnectionError(endpoint_url="https://s3")

    with pytest.raises(TableFailed, match="breaks off at byte 0, again and again: Could not connect"):
        read_all(reader(Gone(), []))


BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE, LATER = BEGAN - timedelta(hours=1), BEGAN + timedelta(minutes=30)
SPAN = Span(began=BEGAN, ended=BEGAN + timedelta(hours=1))


def paired(inputs: dict[str, datetime], outputs: dict[str, datetime], *, needs_source: bool = True) -> list[str]:
    found = pairs_of_prefix(
        inputs, outputs, source=("data", "in/"), output=("data", "out/"), span=SPAN, needs_source=needs_source
    )
    return [pair.source.key for pair in found]


def test_an_input_that_came_after_the_job_began_and_an_output_of_another_job_are_none_of_its() -> None:
    assert paired(
        {"in/a": BEFORE, "in/later": LATER}, {"out/a.out": LATER, "out/old.out": BEFORE, "out/job.json": LATER}
    ) == ["in/a"]


def test_an_output_whose_input_is_gone_counts_where_the_input_is_not_read() -> None:
    outputs = {"out/a.out": LATER}
    assert paired({}, outputs, needs_source=False) == ["in/a"]
    with pytest.raises(TableFailed, match=r"s3://data/in/a is gone, whose answers s3://data/out/a\.out holds"):
        paired({}, outputs)


def test_the_command_prints_the_address_and_says_the_rest_beside_it(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    job = account.job({"a.csv": b"1\nNA\n"}, {"a.csv": b"1\n2\n"})
    assert main(["batch", "table", job.name, "--to", TO, "--columns", "x:bigint,y:double", "--null", "NA"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{TO}day=")
    assert said.err == "2 records of 1 objects: x, y, job, input_file, record\n"
    assert account.query("select x from t order by record") == [(1,), (None,)]
    assert main(["batch", "table", job.name, "--to", TO]) == 1
    assert capsys.readouterr().err.startswith("tidegate: error: the cells of CSV have no names")


def test_without_pyarrow_one_sentence_says_what_to_install(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("tidegate.client.table")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tidegate.client.table")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableFailed, match=r"pip install 'tidegate\[table\]'"):
        BatchJob("job", session=account.session).table(TO)
