"""Each part of a report by itself, in an account of moto's whose logs, objects and metrics a test puts there."""

from __future__ import annotations

import json
import re
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tidegate.client import BatchFailed, BatchJob
from tidegate.client.__main__ import main
from tidegate.client.report import Report, as_page, as_text, log_events

BUCKET = "data"
GROUP = "/aws/sagemaker/TransformJobs"
JOB = "job"
PAGE = Path(__file__).parents[3] / "docs" / "client.md"


@dataclass
class Account:
    """One job, and what it left."""

    session: boto3.Session
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.s3, self.logs = self.session.client("s3"), self.session.client("logs")
        self.s3.create_bucket(Bucket=BUCKET)

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def job(self, *, split: str = "Line", packed: bool = False, **more: Any) -> BatchJob:
        self.session.client("sagemaker").create_transform_job(
            TransformJobName=JOB,
            ModelName="model",
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}},
                "SplitType": split,
                "CompressionType": "Gzip" if packed else "None",
            },
            TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
            **({"DataProcessing": {"JoinSource": "None"}} | more),
        )
        return BatchJob(JOB, session=self.session)

    def write(self, stream: str, lines: Sequence[str]) -> None:
        names = {"logGroupName": GROUP, "logStreamName": f"{JOB}/{stream}"}
        if not self.logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]:
            self.logs.create_log_group(logGroupName=GROUP)
        self.logs.create_log_stream(**names)
        moment = int(self.began.timestamp() * 1000)
        for first in range(0, len(lines), 5000):
            events = [{"timestamp": moment, "message": line} for line in lines[first : first + 5000]]
            self.logs.put_log_events(**names, logEvents=events)

    def line(self, after_s: float, body: bytes, **changed: Any) -> str:
        """What the server logs of a request whose response is over so long after the job began."""
        entry = {
            "time": (self.began + timedelta(seconds=after_s)).isoformat(timespec="milliseconds"),
            "level": "info",
            "logger": "tidegate.requests",
            "pid": 7,
            "message": "request",
            "request_id": f"{after_s}-{zlib.crc32(body)}",
            "request_bytes": len(body),
            "lines": body.count(b"\n") + (not body.endswith(b"\n")),
            "line_crc32": f"{zlib.crc32(body.partition(b'.')[0].split(bytes([10]))[0]):08x}",
            "head_crc32": f"{zlib.crc32(body[:4096]):08x}",
            "status": 200,
            "response_bytes": 5,
            "duration_ms": 100.0,
        }
        return json.dumps(entry | changed)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Account(boto3.Session(region_name="us-east-1"))


def missing(report: Report) -> dict[str, str]:
    return {each.part: each.why for each in report.missing}


def test_several_instances_are_counted_apart_and_together_and_their_metrics_stand_beside_them(account: Account) -> None:
    account.put("in/a.csv", b"1\n2\n3\n")
    account.write("i-1-1700000000", [account.line(1, b"1\n2\n"), account.line(2, b"3\n", duration_ms=900)])
    account.write("i-2-1700000000", [account.line(1.5, b"4\n", status=500, code="handler_failed", error="it failed")])
    cloudwatch = account.session.client("cloudwatch")
    for percent in (40.0, 60.0):
        cloudwatch.put_metric_data(
            Namespace=GROUP,
            MetricData=[
                {
                    "MetricName": "CPUUtilization",
                    "Dimensions": [{"Name": "Host", "Value": f"{JOB}/i-1"}],
                    "Timestamp": account.began,
                    "Value": percent,
                }
            ],
        )
    report = account.job().report()
    told = report.as_json()
    assert {each["instance"]: (each["requests"], each["failed"], each["records"]) for each in told["instances"]} == {
        "i-1": (2, 0, 3),
        "i-2": (1, 1, 0),
    }
    assert (told["requests"]["count"], told["requests"]["failed"], told["requests"]["records"]) == (3, 1, 3)
    assert told["utilisation"] == [{"instance": "i-1", "metric": "CPUUtilization", "average": 50.0, "max": 50.0}]
    assert told["slowest"][0]["duration_ms"] == 900
    assert (told["slowest"][0]["object"], told["slowest"][0]["line"]) == (f"s3://{BUCKET}/in/a.csv", 3)
    assert report.is_whole


def test_the_containers_of_a_pipeline_are_told_apart(account: Account) -> None:
    account.put("in/a.csv", b"1\n")
    for container in ("features", "model"):
        account.write(f"i-1-1700000000/{container}", [account.line(1, b"1\n")])
    assert [each["instance"] for each in account.job().report().as_json()["instances"]] == ["i-1/features", "i-1/model"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (None, "there is no log group"),
        ([], r"none of the 0 lines of its log is of this server"),
        (["INFO:root:hello"] * 3, "none of the 3 lines of its log is of this server: the job ran another container"),
        (['{"time": "2026-11-21T10:00:00.000+00:00", "level": "info"}'], "does not say that the model was loaded"),
    ],
)
def test_what_the_log_lacks_is_said_and_the_rest_is_shown(
    account: Account, lines: Sequence[str] | None, why: str
) -> None:
    account.put("in/a.csv", b"1\n2\n")
    if lines is not None:
        account.write("i-1-1700000000", lines)
    report = account.job().report()
    assert not report.is_whole
    assert re.search(why, missing(report)["requests"])
    told = report.as_json()
    assert told["requests"] is None
    assert (told["objects"]["inputs"], told["objects"]["input_bytes"]) == (1, 4)
    assert "missing: requests: " in as_text(report)
    assert "Missing: requests." in as_page(report)


def test_a_job_whose_logs_have_expired_says_so(account: Account) -> None:
    account.put("in/a.csv", b"1\n")
    account.logs.create_log_group(logGroupName=GROUP)
    assert "its logs have expired or were deleted" in missing(account.job().report())["requests"]


def refuse(account: Account, *services: str) -> None:
    """From now on every call of these is answered as by IAM."""

    def refused(model: Any, **_: Any) -> None:
        said = {"Error": {"Code": "AccessDeniedException", "Message": "no right to it"}}
        raise ClientError(said, model.name)

    for service in services:
        account.session.events.register(f"before-call.{service}.*", refused)


def test_what_may_not_be_read_is_missing_by_name_and_nothing_else_is(account: Account) -> None:
    account.put("in/a.csv", b"1\n")
    account.write("i-1-1700000000", [account.line(1, b"1\n")])
    job = account.job()
    refuse(account, "cloudwatch-logs", "cloudwatch", "s3")
    report = job.report()
    assert missing(report) == {
        "requests": "AccessDeniedException from DescribeLogStreams: no right to it",
        "objects": "AccessDeniedException from ListObjectsV2: no right to it",
    }
    assert [phase.name for phase in report.phases] == ["start", "job"]
    assert "missing: objects: AccessDenied" in as_text(report)


def test_metrics_that_may_not_be_read_leave_a_report_that_is_whole(account: Account) -> None:
    account.put("in/a.csv", b"1\n")
    account.write("i-1-1700000000", [account.line(1, b"1\n")])
    job = account.job()
    refuse(account, "cloudwatch")
    report = job.report()
    assert set(missing(report)) == {"utilisation"}
    assert report.is_whole


def test_the_data_log_of_the_platform_says_its_settings_and_which_objects_failed(account: Account) -> None:
    account.put("in/a: b.csv", b"1\n")
    account.write("i-1-1700000000", [account.line(1, b"1\n")])
    said = "2026-11-21T10:00:00.000:[sagemaker logs]: "
    account.write(
        "i-1-1700000000/data-log",
        [
            f"{said}MaxConcurrentTransforms=4, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD",
            f"{said}{BUCKET}/in/b.csv: ClientError: 413",
            f"{said}{BUCKET}/in/b.csv: ",
            f"{said}{BUCKET}/in/b.csv: Message:",
            f"{said}{BUCKET}/in/c.csv: Unable to get response from algorithm",
            f"{said}something else: that is no object",
        ],
    )
    told = account.job().report().as_json()
    assert told["decided"] == "MaxConcurrentTransforms=4, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    assert told["object_errors"] == [
        {"object": f"s3://{BUCKET}/in/b.csv", "error": "ClientError: 413 Message:"},
        {"object": f"s3://{BUCKET}/in/c.csv", "error": "Unable to get response from algorithm"},
    ]


def test_of_lines_that_are_alike_a_report_says_how_many_there_are(account: Account) -> None:
    account.put("in/a.csv", b"1\r\n7\n7\n\n")
    account.put("in/b.csv", b"\n7")
    account.write("i-1-1700000000", [account.line(1, b"7\n")])
    told = account.job().report().as_json()
    assert told["objects"]["blank_lines"] == 2
    slow = told["slowest"][0]
    assert (slow["object"], slow["line"], slow["alike"]) == (f"s3://{BUCKET}/in/a.csv", 2, 2)


@pytest.mark.parametrize(
    ("more", "mib", "why"),
    [
        ({"DataProcessing": {"InputFilter": "$[1:]"}}, 1.0, "InputFilter"),
        ({}, 0.0, "--input-mib 0"),
        ({}, 0.0001, "only the first"),
        ({"split": "RecordIO"}, 1.0, "records of RecordIO are not looked for"),
        ({"split": "None", "packed": True}, 1.0, "an object that is packed"),
    ],
)
def test_why_no_record_was_looked_for_is_said(account: Account, more: Mapping[str, Any], mib: float, why: str) -> None:
    account.put("in/a.csv", b"1\n" * 1000)
    account.write("i-1-1700000000", [account.line(1, b"2\n")])
    report = account.job(**more).report(most_input_mib=mib)
    assert why in missing(report)["origins"]
    assert report.is_whole
    assert report.as_json()["slowest"][0]["object"] is None


def test_objects_are_found_by_their_size_and_beginning(account: Account) -> None:
    for name, content in {"a.png": b"\x89PNG\nA", "b.png": b"\x89PNG\nB", "c.png": b"\x89PNG\nlonger"}.items():
        account.put(f"in/{name}", content)
    account.write("i-1-1700000000", [account.line(1, b"\x89PNG\nB")])
    told = account.job(split="None").report().as_json()
    slow = told["slowest"][0]
    assert (slow["object"], slow["line"], slow["alike"]) == (f"s3://{BUCKET}/in/b.png", None, 0)
    assert told["requests"]["records"] == 1


def test_a_log_of_many_lines_takes_no_more_memory_than_one_of_few(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.put("in/a.csv", b"1\n")
    account.write("i-1-1700000000", [])
    job = account.job()

    def peak_bytes(count: int) -> int:
        lines = (account.line(number % 100, b"%d\n" % number) for number in range(count))
        monkeypatch.setattr(log_events, "events", lambda *_: lines)
        tracemalloc.start()
        try:
            assert job.report(most_input_mib=0).as_json()["requests"]["count"] == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(10)  # what is read once
    assert peak_bytes(4_000) < 2 * peak_bytes(400)


HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\n\ud800"


def test_nothing_that_others_named_acts_in_a_terminal_or_a_page(account: Account) -> None:
    account.put("in/<img src=x onerror=alert(1)>.csv", b"1\n")
    failed = account.line(1, b"1\n", status=500, code="<b>", error=HOSTILE, request_id=HOSTILE)
    account.write("<i>-1700000000", [failed])
    account.write("<i>-1700000000/data-log", [f"2026:[sagemaker logs]: {BUCKET}/in/<u>: <b>\x1b[31m"])
    report = account.job().report()
    page, text = as_page(report), as_text(report)
    assert "<img" not in page
    assert "<script" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.csv, line 1" in page
    assert all(each.isprintable() or each == "\n" for each in text)
    for shown in (page, text):
        assert "\\x1b[31m" in shown
        shown.encode()


def test_an_unknown_job_is_an_error_that_names_it(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BatchFailed, match="there is no transform job none in us-east-1"):
        BatchJob("none", session=account.session).report()
    assert main(["batch", "report", "none"]) == 1
    assert capsys.readouterr().err.startswith("tidegate: error: there is no transform job none")


def test_the_command_prints_tables_or_json_writes_a_page_and_says_by_its_status_that_a_part_is_missing(
    account: Account, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    account.put("in/a.csv", b"1\n")
    account.job()
    page = tmp_path / "report.html"
    assert main(["batch", "report", JOB, "--output", str(page)]) == 3
    printed = capsys.readouterr()
    assert printed.out.startswith(f"transform job {JOB}\n")
    assert printed.err == ""
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    account.write("i-1-1700000000", [account.line(1, b"1\n")])
    assert main(["batch", "report", JOB, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"]["count"] == 1
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert main(["batch", "report", JOB, "--output", str(tmp_path / "report.png")]) == 1
    assert "give it a name that ends with .html" in capsys.readouterr().err
    assert main(["batch", "report", JOB, "--output", str(tmp_path / "none" / "report.html")]) == 1
    assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--input-mib", "-1"], ["--input-mib", "nan"], ["--input-mib", "all"]])
def test_a_size_that_is_none_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["batch", "report", JOB, *words])
    assert ended.value.code == 2
    assert "is not a number of MiB" in capsys.readouterr().err


OTHERWISE = {"s3:ListObjectsV2": "s3:ListBucket"}


def test_the_documented_policy_names_every_call_and_no_other(account: Account) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Reports\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    granted: set[str] = set()
    for statement in json.loads(block)["Statement"]:
        granted.update([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    account.put("in/a.csv", b"1\n")
    account.write("i-1-1700000000", [account.line(1, b"1\n")])
    account.job()
    called: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        service = {"CloudWatch Logs": "logs", "CloudWatch": "cloudwatch"}.get(
            str(model.service_model.service_id), model.service_model.service_name
        )
        called.add(OTHERWISE.get(f"{service}:{model.name}", f"{service}:{model.name}"))

    account.session.events.register("before-call.*.*", note)
    BatchJob(JOB, session=account.session).report()
    assert called == granted
