"""Batch transform jobs through plain boto3: read, split, batched, called, assembled, written; or failed, and why."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, Account, await_true


def start(account: Account, model: str, source: str, *, output: str, **members: Any) -> str:
    """Starts a job; members of TransformInput and TransformOutput are given beside the others."""
    name = account.name("job")
    data_type = members.pop("S3DataType", "S3Prefix")
    inputs = {key: members.pop(key) for key in ("ContentType", "CompressionType", "SplitType") if key in members}
    outputs = {key: members.pop(key) for key in ("Accept", "AssembleWith") if key in members}
    account.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=model,
        TransformInput={"DataSource": {"S3DataSource": {"S3DataType": data_type, "S3Uri": source}}, **inputs},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{output}", **outputs},
        TransformResources={"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1},
        **members,
    )
    return name


def ended(account: Account, job: str) -> dict[str, Any]:
    description: dict[str, Any] = {}

    def rests() -> bool:
        description.update(account.sagemaker.describe_transform_job(TransformJobName=job))
        return description["TransformJobStatus"] not in ("InProgress", "Stopping")

    await_true(rests, f"job {job} ends")
    return description


def completed(account: Account, *arguments: Any, **members: Any) -> dict[str, Any]:
    description = ended(account, start(account, *arguments, **members))
    assert description["TransformJobStatus"] == "Completed", description
    return description


def failure(account: Account, *arguments: Any, **members: Any) -> str:
    description = ended(account, start(account, *arguments, **members))
    assert description["TransformJobStatus"] == "Failed", description
    reason: str = description["FailureReason"]
    return reason


@pytest.fixture
def place(account: Account) -> str:
    """A folder of the test's own."""
    return account.name("batch")


def test_every_object_under_a_prefix_is_transformed_into_one_beside_it(account: Account, place: str) -> None:
    account.put(f"{place}/in/a.txt", b"first")
    account.put(f"{place}/in/deep/b.txt", b"second")
    account.put(f"{place}/in/folder/", b"")
    job = completed(account, account.model(), f"s3://{BUCKET}/{place}/in/", output=f"{place}/out")
    assert account.keys(f"{place}/out") == [f"{place}/out/a.txt.out", f"{place}/out/deep/b.txt.out"]
    assert account.get(f"{place}/out/a.txt.out") == b"FIRST"
    assert job["TransformEndTime"] >= job["TransformStartTime"] >= job["CreationTime"]
    assert account.cloud.transform_progress(job["TransformJobName"]) == {
        "TransformJobStatus": "Completed",
        "ObjectsTotal": 2,
        "ObjectsDone": 2,
        "ObjectsFailed": 0,
        "RecordsDone": 2,
    }


def test_a_manifest_names_its_objects(account: Account, place: str) -> None:
    for name in "abc":
        account.put(f"{place}/in/{name}", name.encode())
    manifest = [{"prefix": f"s3://{BUCKET}/{place}/in/"}, "a", "c"]
    uri = account.put(f"{place}/manifest", json.dumps(manifest).encode())
    completed(account, account.model(), uri, output=f"{place}/out", S3DataType="ManifestFile")
    assert account.keys(f"{place}/out") == [f"{place}/out/a.out", f"{place}/out/c.out"]


def test_lines_go_out_one_by_one_and_are_assembled_line_by_line(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"a\nb\nc")
    completed(
        account,
        account.model(STAND_IN_PREFIX="<"),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        SplitType="Line",
        BatchStrategy="SingleRecord",
        AssembleWith="Line",
        MaxConcurrentTransforms=4,
    )
    assert account.get(f"{place}/out/in.out") == b"<A\n<B\n<C\n"


def test_lines_go_out_together_as_far_as_they_fit(account: Account, place: str) -> None:
    line = b"x" * 400_000 + b"\n"
    account.put(f"{place}/in", line * 5)
    completed(
        account,
        account.model(STAND_IN_PREFIX="<"),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        SplitType="Line",
        MaxPayloadInMB=1,
    )
    assert account.get(f"{place}/out/in.out") == b"".join(b"<" + line.upper() * count for count in (2, 2, 1))


def test_without_a_payload_limit_a_request_goes_out_in_chunks(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"headers:")
    completed(account, account.model(), f"s3://{BUCKET}/{place}/in", output=f"{place}/out", MaxPayloadInMB=0)
    assert json.loads(account.get(f"{place}/out/in.out"))["transfer-encoding"] == "chunked"


def test_content_type_and_accept_reach_the_container(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"headers:")
    completed(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        ContentType="text/csv",
        Accept="application/json",
    )
    seen = json.loads(account.get(f"{place}/out/in.out"))
    assert (seen["content-type"], seen["accept"]) == ("text/csv", "application/json")


def test_the_container_knows_that_it_works_in_a_batch(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"environment:")
    completed(
        account,
        account.model(SETTING="model", OTHER="model"),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        Environment={"SETTING": "job"},
        MaxPayloadInMB=3,
    )
    seen = json.loads(account.get(f"{place}/out/in.out"))
    assert (seen["SETTING"], seen["OTHER"]) == ("job", "model")
    assert (seen["SAGEMAKER_BATCH"], seen["SAGEMAKER_MAX_PAYLOAD_IN_MB"]) == ("true", "3")
    assert "SAGEMAKER_BATCH_STRATEGY" not in seen


def test_gzip_input_is_unpacked(account: Account, place: str) -> None:
    account.put(f"{place}/in.gz", gzip.compress(b"a\nb\n"))
    source = f"s3://{BUCKET}/{place}/in.gz"
    completed(account, account.model(), source, output=f"{place}/out", CompressionType="Gzip", SplitType="Line")
    assert account.get(f"{place}/out/in.gz.out") == b"A\nB\n"


def test_the_containers_execution_parameters_hold_where_the_request_is_silent(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"a\nb\n")
    told = json.dumps({"BatchStrategy": "SINGLE_RECORD", "MaxConcurrentTransforms": 2, "MaxPayloadInMB": 1})
    model = account.model(STAND_IN_EXECUTION_PARAMETERS=told, STAND_IN_PREFIX="<")
    completed(account, model, f"s3://{BUCKET}/{place}/in", output=f"{place}/out", SplitType="Line")
    assert account.get(f"{place}/out/in.out") == b"<A\n<B\n"


def test_records_are_filtered_and_joined_with_their_answers(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"7,a\n8,b\n")
    completed(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        ContentType="text/csv",
        SplitType="Line",
        Accept="text/csv",
        AssembleWith="Line",
        DataProcessing={"InputFilter": "$[1]", "JoinSource": "Input"},
    )
    assert account.get(f"{place}/out/in.out") == b"7,a,A\n8,b,B\n"


CSV = {"ContentType": "text/csv", "Accept": "text/csv", "SplitType": "Line"}
STRATEGIES = pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])


@STRATEGIES
@pytest.mark.parametrize("assemble", [{}, {"AssembleWith": "None"}, {"AssembleWith": "Line"}])
@pytest.mark.parametrize(
    ("processing", "expected"),
    [
        ({"JoinSource": "Input"}, b"id7,a,ID7,A\nid8,b,ID8,B\nid9,c,ID9,C\n"),
        ({"OutputFilter": "$[1]"}, b"A\nB\nC\n"),
        ({"InputFilter": "$[1]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}, b"id7,A\nid8,B\nid9,C\n"),
    ],
)
def test_a_joined_or_filtered_output_has_one_line_for_each_record_however_it_is_assembled(
    account: Account, place: str, strategy: str, assemble: dict[str, str], processing: dict[str, str], expected: bytes
) -> None:
    account.put(f"{place}/in", b"id7,a\nid8,b\nid9,c")
    completed(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        BatchStrategy=strategy,
        DataProcessing=processing,
        **CSV,
        **assemble,
    )
    assert account.get(f"{place}/out/in.out") == expected


@STRATEGIES
@pytest.mark.parametrize("content", [b"a,1\nb,2\n\n", b"\na,1\n \t\r\n\nb,2", b"\xef\xbb\xbf\na,1\nb,2\n"])
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"AssembleWith": "Line"}, b"A,1\nB,2\n"),
        ({"DataProcessing": {"JoinSource": "Input"}}, b"a,1,A,1\nb,2,B,2\n"),
        ({"AssembleWith": "Line", "DataProcessing": {"InputFilter": "$[0]"}}, b"A\nB\n"),
    ],
)
def test_blank_lines_are_no_records_in_any_mode(
    account: Account, place: str, strategy: str, content: bytes, members: dict[str, Any], expected: bytes
) -> None:
    account.put(f"{place}/in", content)
    source = f"s3://{BUCKET}/{place}/in"
    job = completed(account, account.model(), source, output=f"{place}/out", BatchStrategy=strategy, **CSV, **members)
    assert account.get(f"{place}/out/in.out") == expected
    assert account.cloud.transform_progress(job["TransformJobName"])["RecordsDone"] == 2


def test_a_byte_order_mark_is_no_part_of_the_first_cell_of_a_job_that_reads_records(
    account: Account, place: str
) -> None:
    account.put(f"{place}/in", b'\xef\xbb\xbf"x, y",1\nb,2\n')
    processing = {"InputFilter": "$[0]", "JoinSource": "Input"}
    completed(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        DataProcessing=processing,
        **CSV,
    )
    assert account.get(f"{place}/out/in.out") == b'"x, y",1,"X, Y"\nb,2,B\n'


def test_what_a_record_does_not_have_fails_its_object_by_the_number_of_the_record(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"a,1\n\nb\n")
    processing = {"InputFilter": "$[0,1]"}
    reason = failure(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        DataProcessing=processing,
        **CSV,
    )
    assert "in: record 1: InputFilter $[0,1] names element 1 of 1 element (counted from 0)" in reason
    assert account.keys(f"{place}/out") == []


@pytest.mark.parametrize(
    ("strategy", "words"),
    [("SingleRecord", "in, record 1: OutputFilter"), ("MultiRecord", "in, records 0 to 2: record 1: OutputFilter")],
)
def test_what_an_answer_does_not_have_fails_its_object_by_the_number_of_the_record(
    account: Account, place: str, strategy: str, words: str
) -> None:
    account.put(f"{place}/in", b"a,1\nb\nc,3\n")
    reason = failure(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        BatchStrategy=strategy,
        DataProcessing={"OutputFilter": "$[1:]"},
        **CSV,
    )
    assert f"{words} $[1:] names a range that is not within 1 element (counted from 0)" in reason
    assert account.keys(f"{place}/out") == []


@STRATEGIES
def test_an_answer_of_another_format_than_the_input_is_not_joined(account: Account, place: str, strategy: str) -> None:
    account.put(f"{place}/in", b"1,2\n3,4\n")
    reason = failure(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        ContentType="text/csv",
        SplitType="Line",
        BatchStrategy=strategy,
        DataProcessing={"JoinSource": "Input"},
    )
    assert "the answer is application/json, and JoinSource and OutputFilter need" in reason
    assert "set Accept to text/csv" in reason
    assert account.keys(f"{place}/out") == []


@pytest.mark.parametrize(
    ("content", "strategy", "words"),
    [
        (b"a\nb\n", "MultiRecord", "records 0 to 1: the answer has 3 lines for 2 records"),
        (b"a\n", "SingleRecord", "record 0: the answer has 2 lines for 1 record"),
    ],
)
@pytest.mark.parametrize(
    "members", [{"AssembleWith": "Line"}, {"AssembleWith": "Line", "DataProcessing": {"InputFilter": "$[0]"}}]
)
def test_a_job_with_more_or_fewer_lines_than_records_does_not_complete(
    account: Account, place: str, content: bytes, strategy: str, words: str, members: dict[str, Any]
) -> None:
    account.put(f"{place}/in", content)
    reason = failure(
        account,
        account.model(STAND_IN_PREFIX="one line more\n"),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        BatchStrategy=strategy,
        **CSV,
        **members,
    )
    assert words in reason
    assert "it is text/csv, which is in lines: let the model's code write one for each record" in reason
    assert account.keys(f"{place}/out") == []


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            {"AssembleWith": "Line"},
            "records 0 to 2: the answer has 4 lines for 3 records, and lines need one for each; in",
        ),
        ({"DataProcessing": {"JoinSource": "Input"}}, "in: record 1: not a CSV record:"),
        ({"DataProcessing": {"OutputFilter": "$[0]"}}, "in: record 1: not a CSV record:"),
    ],
)
def test_a_cell_that_goes_on_in_the_next_line_is_the_reason_of_the_failure(
    account: Account, place: str, members: dict[str, Any], words: str
) -> None:
    account.put(f"{place}/in", b'a\n"b\nc"\n')
    model, source = account.model(STAND_IN_PREFIX="one line more\n"), f"s3://{BUCKET}/{place}/in"
    reason = failure(account, model, source, output=f"{place}/out", BatchStrategy="MultiRecord", **CSV, **members)
    assert words in reason
    assert "record 1" in reason
    assert "a quote is left open: a cell must not hold a newline" in reason


def test_a_cell_may_be_longer_than_the_limit_of_pythons_csv(account: Account, place: str) -> None:
    cell = b"x" * 200_000
    account.put(f"{place}/in", b"7," + cell + b"\n")
    processing = {"InputFilter": "$[1]", "JoinSource": "Input"}
    completed(
        account, account.model(), f"s3://{BUCKET}/{place}/in", output=f"{place}/out", DataProcessing=processing, **CSV
    )
    assert account.get(f"{place}/out/in.out") == b"7," + cell + b"," + cell.upper() + b"\n"


def test_a_failing_call_is_tried_again_and_a_refused_one_is_not(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"a")
    model, source = account.model(STAND_IN_FAIL_FIRST="1"), f"s3://{BUCKET}/{place}/in"
    completed(account, model, source, output=f"{place}/out")
    retries = {"InvocationsMaxRetries": 0}
    reason = failure(account, model, source, output=f"{place}/never", ModelClientConfig=retries)
    assert f"ClientError: {source}, record 0: the container answered 500: not yet (log: " in reason
    assert account.keys(f"{place}/never") == []


def test_an_object_with_a_bad_record_is_not_written_and_fails_the_job(account: Account, place: str) -> None:
    account.put(f"{place}/in/bad", b"a\nstatus:400\n")
    account.put(f"{place}/in/good", b"a\nb\n")
    source = f"s3://{BUCKET}/{place}/in/"
    name = start(
        account, account.model(), source, output=f"{place}/out", SplitType="Line", BatchStrategy="SingleRecord"
    )
    description = ended(account, name)
    assert description["TransformJobStatus"] == "Failed"
    assert "in/bad, record 1: the container answered 400: refused with 400" in description["FailureReason"]
    assert account.keys(f"{place}/out") == [f"{place}/out/good.out"]
    assert account.cloud.transform_progress(name)["ObjectsFailed"] == 1


def test_a_record_beyond_the_payload_limit_fails_the_job_with_its_size(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"a\n" + b"x" * 1_048_577)
    reason = failure(
        account,
        account.model(),
        f"s3://{BUCKET}/{place}/in",
        output=f"{place}/out",
        SplitType="Line",
        MaxPayloadInMB=1,
    )
    assert "record 1 is larger than the 1048576 bytes that MaxPayloadInMB allows to a request" in reason
    assert account.keys(f"{place}/out") == []


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"STAND_IN_ERROR": "no predict_fn."}, "tidegate: error: no predict_fn. (log: "),
        ({"STAND_IN_EXECUTION_PARAMETERS": "[]"}, "GET /execution-parameters is not usable: it is not a JSON object"),
    ],
)
def test_a_container_that_cannot_work_fails_the_job(
    account: Account, place: str, environment: dict[str, str], words: str
) -> None:
    account.put(f"{place}/in", b"a")
    assert words in failure(account, account.model(**environment), f"s3://{BUCKET}/{place}/in", output=f"{place}/out")


def test_a_container_that_dies_fails_the_job(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"die:")
    reason = failure(account, account.model(), f"s3://{BUCKET}/{place}/in", output=f"{place}/out")
    assert "the container ended with exit code 137" in reason


def test_input_that_is_damaged_fails_the_job(account: Account, place: str) -> None:
    damaged = account.put(f"{place}/damaged.gz", b"not gzip")
    reason = failure(account, account.model(), damaged, output=f"{place}/out", CompressionType="Gzip")
    assert f"{damaged} cannot be read: Not a gzipped file" in reason


def test_a_job_can_be_stopped(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"a")
    name = start(account, account.model(STAND_IN_PING="never"), f"s3://{BUCKET}/{place}/in", output=f"{place}/out")
    account.sagemaker.stop_transform_job(TransformJobName=name)
    assert ended(account, name)["TransformJobStatus"] == "Stopped"
    assert account.keys(f"{place}/out") == []
    assert account.sagemaker.list_transform_jobs(NameContains=name, StatusEquals="Stopped")["TransformJobSummaries"]


def test_a_job_that_is_stopped_does_not_wait_for_the_call_in_flight(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"hang:")
    name = start(account, account.model(), f"s3://{BUCKET}/{place}/in", output=f"{place}/out")
    log = account.cloud.logs / "transform-jobs" / f"{name}.log"
    await_true(lambda: log.exists() and "hanging" in log.read_text(), "the container has the record")
    account.sagemaker.stop_transform_job(TransformJobName=name)
    assert ended(account, name)["TransformJobStatus"] == "Stopped"
    assert account.keys(f"{place}/out") == []


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_an_object_that_is_not_split_goes_out_whole_whatever_the_strategy(
    account: Account, place: str, strategy: str
) -> None:
    account.put(f"{place}/in", b"a\nb\n")
    model, source = account.model(STAND_IN_PREFIX="<"), f"s3://{BUCKET}/{place}/in"
    completed(account, model, source, output=f"{place}/out", BatchStrategy=strategy, SplitType="None")
    assert account.get(f"{place}/out/in.out") == b"<A\nB\n"


@pytest.mark.parametrize(
    "manifest",
    [b"{}", b"[]", b'["a"]', b'[{"prefix": "here"}, "a"]', b'[{"prefix": "s3://b/"}, 7]', b"\xff", b"[" * 9999],
)
def test_a_manifest_that_is_none_fails_the_job_by_its_name(account: Account, place: str, manifest: bytes) -> None:
    uri = account.put(f"{place}/manifest", manifest)
    reason = failure(account, account.model(), uri, output=f"{place}/out", S3DataType="ManifestFile")
    assert reason.startswith(f"ClientError: {uri} is not a manifest: ")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"SplitType": "RecordIO"}, "does not have the RecordIO record format"),
        ({"SplitType": "TFRecord"}, "does not have the TFRecord record format"),
        ({"S3DataType": "AugmentedManifestFile"}, "does not have augmented manifests"),
        ({"DataCaptureConfig": {"DestinationS3Uri": "s3://b/c"}}, "does not have DataCaptureConfig.DestinationS3Uri"),
        ({"ContentType": "text/csv\r\nX-More: 1"}, "at 'transformInput.contentType' failed"),
        ({"Accept": "text/\u2603"}, "Accept is 'text/\u2603', which no header can hold"),
        ({"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3}, "must be at most 100"),
        ({"DataProcessing": {"InputFilter": "$["}}, "DataProcessing needs a ContentType"),
        ({"DataProcessing": {"InputFilter": "$.a"}, **CSV}, "Supported operators for"),
        ({"DataProcessing": {"OutputFilter": "$[0:9:2]"}, **CSV}, "Only single range filters"),
    ],
)
def test_a_job_that_could_not_be_done_as_asked_is_refused(
    account: Account, members: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        start(account, account.model(), "s3://b/in/", output="out", **members)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_job_name_is_taken_once(account: Account, place: str) -> None:
    account.put(f"{place}/in", b"a")
    model, source = account.model(), f"s3://{BUCKET}/{place}/in"
    job = completed(account, model, source, output=f"{place}/out")
    with pytest.raises(ClientError, match="Job name must be unique") as caught:
        account.sagemaker.create_transform_job(
            TransformJobName=job["TransformJobName"],
            ModelName=model,
            TransformInput=job["TransformInput"],
            TransformOutput=job["TransformOutput"],
            TransformResources=job["TransformResources"],
        )
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"
