"""The client against the local cloud with the real server behind it: whole, in parts, later, and in batches."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError

from tests.client.deployed_model import deploy
from tests.local_cloud.conftest import await_true
from tidegate.client import BatchFailed, BatchJob, Endpoint, GaveUpWaiting, InvocationFailed, Submitted
from tidegate.client.__main__ import main
from tidegate.client.batch import Progress
from tidegate.local_cloud import LocalCloud

BUCKET = "tidegate-try-data-123456789012-us-east-1"
MODEL = "doubling"
HANDLERS = """
import json

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    lines = (body.decode() if isinstance(body, (bytes, bytearray)) else body).strip().splitlines()
    return [[float(cell) for cell in line.strip("[]").split(",")] for line in lines]

def predict_fn(rows, factor):
    return [[cell * factor for cell in row] for row in rows]

def output_fn(rows, accept):
    return "".join(json.dumps(row) + "\\n" for row in rows), accept
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One endpoint of each kind, both of one model, and the bucket and parameter that a stage would have."""
    with LocalCloud(tmp_path_factory.mktemp("client") / "state") as cloud:
        deploy(cloud, bucket=BUCKET, model=MODEL, script=HANDLERS)
        sagemaker = cloud.client("sagemaker")
        later = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/later/", "S3FailurePath": f"s3://{BUCKET}/failed/"}}
        for name, options in {"now": {}, "later": {"AsyncInferenceConfig": later}}.items():
            sagemaker.create_endpoint_config(
                EndpointConfigName=name,
                ProductionVariants=[
                    {
                        "VariantName": "primary",
                        "ModelName": MODEL,
                        "InstanceType": "ml.m5.large",
                        "InitialInstanceCount": 1,
                    }
                ],
                **options,
            )
            sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)

        def in_service() -> bool:
            found = [sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] for name in ("now", "later")]
            assert "Failed" not in found
            return found == ["InService", "InService"]

        await_true(in_service, "both endpoints are in service", timeout_s=200)
        yield cloud
        sagemaker.close()


@pytest.fixture
def session(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """What `boto3.Session()` is to a user of `tidegate cloud up`."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return boto3.Session()


def command(cloud: LocalCloud, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **cloud.environment}
    return subprocess.run(
        [sys.executable, "-m", "client", *arguments], env=environment, capture_output=True, check=False
    )


def test_an_endpoint_answers_whole_and_in_parts(session: boto3.Session) -> None:
    endpoint = Endpoint("now", session=session)
    answer = endpoint.invoke(b"1,2", content_type="text/csv", accept="application/jsonlines")
    assert answer.body == b"[2.0, 4.0]\n"
    assert (answer.content_type, answer.variant) == ("application/jsonlines", "primary")
    assert b"".join(endpoint.stream(b"3", content_type="text/csv")) == b"[6.0]\n"


def test_an_asynchronous_answer_is_waited_for(session: boto3.Session) -> None:
    submitted = Endpoint("later", session=session).submit(
        b"1,2", content_type="text/csv", input_location=f"s3://{BUCKET}/in/a.csv"
    )
    assert submitted.inference_id
    assert submitted.wait(timeout_s=60, poll_s=0.05) == b"[2.0, 4.0]\n"
    again = Endpoint("later", session=session).submit(f"s3://{BUCKET}/in/a.csv", content_type="text/csv")
    assert again.wait(timeout_s=60, poll_s=0.05) == b"[2.0, 4.0]\n"


def test_a_file_goes_up_and_an_answer_comes_down_without_being_read(session: boto3.Session, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes(b"1,2\n")
    later = Endpoint("later", session=session)
    submitted = later.submit(rows, content_type="text/csv", input_location=f"s3://{BUCKET}/in/file.csv")
    answer = submitted.save(tmp_path / "answer.jsonl", timeout_s=60, poll_s=0.05)
    assert answer.read_bytes() == b"[2.0, 4.0]\n"
    with rows.open("rb") as file:
        submitted = later.submit(file, content_type="text/csv", input_location=f"s3://{BUCKET}/in/open.csv")
    assert submitted.wait(timeout_s=60, poll_s=0.05) == b"[2.0, 4.0]\n"
    assert session.client("s3").head_object(Bucket=BUCKET, Key="in/open.csv")["ContentType"] == "text/csv"


def test_an_asynchronous_failure_is_told_with_its_reason(session: boto3.Session) -> None:
    submitted = Endpoint("later", session=session).submit(
        b"no number", content_type="text/csv", input_location=f"s3://{BUCKET}/in/b.csv"
    )
    with pytest.raises(InvocationFailed, match=r"400.*could not convert string to float"):
        submitted.wait(timeout_s=60, poll_s=0.05)


def test_an_answer_that_never_comes_is_given_up(session: boto3.Session) -> None:
    waited: list[float] = []
    slept: list[float] = []
    nowhere = Submitted(output_location=f"s3://{BUCKET}/later/never.out", session=session)
    with pytest.raises(GaveUpWaiting, match=r"never\.out was not there .* without an S3FailurePath"):
        nowhere.wait(timeout_s=1.0, poll_s=0.25, on_poll=waited.append, clock=lambda: sum(slept), sleep=slept.append)
    assert waited == [0.0, 0.25, 0.5, 0.75]


def test_a_job_is_submitted_waited_for_and_fetched_with_progress(session: boto3.Session, tmp_path: Path) -> None:
    s3 = session.client("s3")
    for name, content in {"one.csv": b"1,2\n3,4\n", "deep/two.csv": b"5\n"}.items():
        s3.put_object(Bucket=BUCKET, Key=f"batch/input/job/{name}", Body=content)
    s3.put_object(Bucket=BUCKET, Key="batch/output/job/of-another-job.csv.out", Body=b"?")
    seen: list[Progress] = []
    job = BatchJob.submit(
        model=MODEL,
        input_location=f"s3://{BUCKET}/batch/input/job/",
        output_location=f"s3://{BUCKET}/batch/output/job/",
        content_type="text/csv",
        accept="application/jsonlines",
        session=session,
    )
    job.wait(timeout_s=120, poll_s=0.1, on_poll=seen.append)
    assert seen[-1].status == "Completed"
    assert (seen[-1].objects_done, seen[-1].objects_total) == (2, 2)
    files: list[Path] = []
    assert job.fetch(tmp_path, on_file=files.append) == files
    assert {str(file.relative_to(tmp_path)): file.read_bytes() for file in files} == {
        "one.csv.out": b"[2.0, 4.0]\n[6.0, 8.0]\n",
        "deep/two.csv.out": b"[10.0]\n",
    }
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["one.csv.out", "two.csv.out"]


@pytest.mark.parametrize("name", ["f.csv", "é f.csv", "part-"])
def test_a_job_over_one_object_takes_no_other_whose_name_begins_alike(
    session: boto3.Session, tmp_path: Path, name: str
) -> None:
    s3 = session.client("s3")
    place = f"batch/input/exactly/{name}"
    for ending in ("", ".bak", "/below"):
        s3.put_object(Bucket=BUCKET, Key=f"{place}/{name}{ending}", Body=b"1,2\n")
    seen: list[Progress] = []
    job = BatchJob.submit(
        model=MODEL,
        input_location=f"s3://{BUCKET}/{place}/{name}",
        output_location=f"s3://{BUCKET}/batch/output/exactly/{name}",
        content_type="text/csv",
        session=session,
    )
    job.wait(timeout_s=120, poll_s=0.1, on_poll=seen.append)
    assert (seen[-1].objects_done, seen[-1].objects_total) == (1, 1)
    assert [file.name for file in job.fetch(tmp_path)] == [f"{name}.out"]
    written = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"batch/output/exactly/{name}/")["Contents"]
    (listed,) = (item["Key"].rpartition("/")[2] for item in written if not item["Key"].endswith(f"/{name}.out"))
    assert listed.startswith(f"{job.name}.")
    assert listed.endswith(".manifest.json")


@pytest.mark.parametrize("name", ["rows.csv.gz", "ROWS.CSV.GZ"])
@pytest.mark.parametrize("uploaded", [False, True])
def test_a_file_whose_name_ends_with_gz_is_unpacked_on_the_way(
    cloud: LocalCloud, session: boto3.Session, tmp_path: Path, name: str, uploaded: bool
) -> None:
    content = gzip.compress(b"1,2\n3,4\n")
    (tmp_path / name).write_bytes(content)
    session.client("s3").put_object(Bucket=BUCKET, Key=f"batch/input/packed/{name}", Body=content)
    source = f"s3://{BUCKET}/batch/input/packed/{name}" if uploaded else str(tmp_path / name)
    submitted = command(
        cloud, "batch", "submit", "--stage", "try", "--input", source, "--accept", "application/jsonlines"
    )
    assert submitted.returncode == 0, submitted.stderr
    job = BatchJob(submitted.stdout.decode().strip(), session=session)
    job.wait(timeout_s=120, poll_s=0.1)
    (file,) = job.fetch(tmp_path / "results")
    assert (file.name, file.read_bytes()) == (f"{name}.out", b"[2.0, 4.0]\n[6.0, 8.0]\n")


def test_a_job_that_is_refused_leaves_nothing_behind_and_the_list_of_another_as_it_was(
    session: boto3.Session, tmp_path: Path
) -> None:
    s3 = session.client("s3")
    s3.put_object(Bucket=BUCKET, Key="batch/input/refused/x.csv", Body=b"1,2\n")

    def submit(name: str, **asked: Any) -> BatchJob:
        return BatchJob.submit(
            model=MODEL,
            input_location=f"s3://{BUCKET}/batch/input/refused/x.csv",
            output_location=f"s3://{BUCKET}/batch/output/refused/",
            content_type="text/csv",
            name=name,
            session=session,
            **asked,
        )

    refused: dict[str, dict[str, Any]] = {
        "odd": {"input_filter": "$[a_b]"},
        "not_a_name": {},
        "many": {"instance_count": "many"},
    }
    for name, asked in refused.items():
        with pytest.raises((ClientError, ParamValidationError)):
            submit(name, **asked)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="batch/output/refused/")
    job = submit("taken")
    with pytest.raises(ClientError, match="Job name must be unique"):
        submit("taken", input_filter="$[0]")
    job.wait(timeout_s=120, poll_s=0.1)
    assert [file.name for file in job.fetch(tmp_path)] == ["x.csv.out"]


def test_an_object_at_the_top_of_its_bucket_is_taken_and_one_that_is_not_there_is_said_at_once(
    session: boto3.Session, tmp_path: Path
) -> None:
    session.client("s3").put_object(Bucket=BUCKET, Key="top.csv", Body=b"1,2\n")
    asked = {"model": MODEL, "content_type": "text/csv", "session": session}
    job = BatchJob.submit(input_location=f"s3://{BUCKET}/top.csv", output_location=f"s3://{BUCKET}/top/", **asked)
    job.wait(timeout_s=120, poll_s=0.1)
    assert [file.read_bytes() for file in job.fetch(tmp_path)] == [b"[2.0, 4.0]\n"]
    with pytest.raises(ValueError, match=r"there is no object s3://.*/to; an address that ends with a slash means all"):
        BatchJob.submit(input_location=f"s3://{BUCKET}/to", output_location=f"s3://{BUCKET}/top/", **asked)


def test_a_job_filters_and_joins_as_it_is_told(cloud: LocalCloud, session: boto3.Session) -> None:
    s3 = session.client("s3")
    s3.put_object(
        Bucket=BUCKET, Key="batch/input/joined/rows.jsonl", Body=b'{"id": 7, "x": [1]}\n{"id": 8, "x": [2]}\n'
    )
    submitted = command(
        cloud,
        *("batch", "submit", "--stage", "try", "--input", f"s3://{BUCKET}/batch/input/joined/rows.jsonl"),
        *("--join-source", "Input", "--input-filter", "$.x", "--output-filter", "$['id','SageMakerOutput']"),
    )
    assert submitted.returncode == 0, submitted.stderr
    BatchJob(submitted.stdout.decode().strip(), session=session).wait(timeout_s=120, poll_s=0.1)
    written = s3.get_object(Bucket=BUCKET, Key="batch/output/joined/rows.jsonl.out")["Body"].read()
    assert written == b'{"id":7,"SageMakerOutput":[2.0]}\n{"id":8,"SageMakerOutput":[4.0]}\n'


def test_a_job_that_fails_is_an_error_with_its_reason(session: boto3.Session) -> None:
    session.client("s3").put_object(Bucket=BUCKET, Key="batch/input/bad/x.csv", Body=b"no number\n")
    job = BatchJob.submit(
        model=MODEL,
        input_location=f"s3://{BUCKET}/batch/input/bad/",
        output_location=f"s3://{BUCKET}/batch/output/bad/",
        content_type="text/csv",
        session=session,
    )
    with pytest.raises(BatchFailed, match=rf"transform job {job.name} is Failed: "):
        job.wait(timeout_s=120, poll_s=0.1)


def test_names_of_jobs_are_valid_and_differ(session: boto3.Session) -> None:
    with pytest.raises(ValueError, match="'bucket/key' is not an address in S3"):
        BatchJob.submit(model="m" * 63, input_location="bucket/key", output_location="s3://b/", content_type="text/csv")
    from tidegate.client.batch import _name

    names = {_name("m" * 63) for _ in range(20)}
    assert len(names) == 20
    assert {len(name) for name in names} == {63}


def test_the_command_line_asks_submits_waits_and_fetches(cloud: LocalCloud, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes(b"1,2\n3,4\n")
    asked = command(cloud, "invoke", "now", str(rows))
    assert (asked.stdout, asked.stderr) == (b"[2.0, 4.0]\n[6.0, 8.0]\n", b"")
    assert command(cloud, "invoke", "now", str(rows), "--stream").stdout == b"[2.0, 4.0]\n[6.0, 8.0]\n"
    later = command(cloud, "async", "later", str(rows), "--upload", f"s3://{BUCKET}/in/rows.csv")
    assert later.stdout == b"[2.0, 4.0]\n[6.0, 8.0]\n"
    submitted = command(
        cloud, "batch", "submit", "--stage", "try", "--input", str(rows), "--accept", "application/jsonlines"
    )
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.decode().strip()
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:transform-job/{job}"
    assert cloud.client("sagemaker").list_tags(ResourceArn=arn)["Tags"] == [
        {"Key": "project", "Value": "tidegate"},
        {"Key": "stage", "Value": "try"},
    ]
    waited = command(cloud, "batch", "wait", job, "--poll", "0.1")
    assert waited.returncode == 0, waited.stderr
    fetched = command(cloud, "batch", "fetch", job, str(tmp_path / "results"))
    assert fetched.stdout.decode().split() == [str(tmp_path / "results" / "rows.csv.out")]
    assert (tmp_path / "results" / "rows.csv.out").read_bytes() == b"[2.0, 4.0]\n[6.0, 8.0]\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["invoke", "now", "{}/bad.csv"],
            "tidegate: error: the model answered 400 bad_request: The body was refused: ",
        ),
        (["invoke", "now", "{}/rows.unknown"], "tidegate: error: the name 'rows.unknown' does not say what is inside"),
        (["invoke", "now", "{}/missing.csv"], "tidegate: error: [Errno 2] No such file or directory"),
        (["invoke", "gone", "{}/bad.csv"], "tidegate: error: An error occurred (ValidationError)"),
        (["batch", "submit", "--input", "s3://b/x.csv"], "tidegate: error: no model is named: give --stage or --model"),
        (
            ["batch", "submit", "--stage", "try", "--input", "s3://b/elsewhere/x.csv"],
            "tidegate: error: s3://b/elsewhere/x.csv is not under batch/input/",
        ),
        (
            ["batch", "submit", "--stage", "none", "--input", "{}/bad.csv"],
            "tidegate: error: stage none of tidegate has no model",
        ),
        (["batch", "wait", "no-such-job"], "tidegate: error: there is no transform job no-such-job in "),
    ],
)
@pytest.mark.usefixtures("session")
def test_what_cannot_be_done_is_one_sentence_and_a_status_of_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "bad.csv").write_bytes(b"no number\n")
    (tmp_path / "rows.unknown").write_bytes(b"1")
    assert main([argument.format(tmp_path) for argument in arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert len(said.splitlines()) == 1


def test_objects_that_are_no_lines_are_requests_of_their_own(session: boto3.Session, tmp_path: Path) -> None:
    session.client("s3").put_object(Bucket=BUCKET, Key="batch/input/whole/x.json", Body=b"1,2")
    job = BatchJob.submit(
        model=MODEL,
        input_location=f"s3://{BUCKET}/batch/input/whole/x.json",
        output_location=f"s3://{BUCKET}/batch/output/whole/",
        content_type="application/json",
        session=session,
    )
    job.wait(timeout_s=120, poll_s=0.1)
    (file,) = job.fetch(tmp_path)
    assert (file.name, file.read_bytes()) == ("x.json.out", b"[2.0, 4.0]\n")
