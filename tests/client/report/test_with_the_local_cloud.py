"""Reports of jobs that the real server answered in the local cloud, against what its handler noted; and their page.

    REPORT_PICTURES=docs/pictures python -m pytest tests/client/report/test_with_the_local_cloud.py

makes the picture of the documentation anew.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from PIL import Image

from tests.client.deployed_model import deploy
from tests.local_cloud.conftest import await_true
from tests.playground.chromium import chromium
from tidegate.client import BatchJob
from tidegate.client.report import as_page
from tidegate.local_cloud import LocalCloud

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BUCKET = "tidegate-try-data-123456789012-us-east-1"
MODEL = "doubling"
AXE = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"
HANDLERS = """
import json
import os
import time
from pathlib import Path

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    text = body if isinstance(body, str) else bytes(body).decode()
    if text.startswith("hold"):
        deadline = time.monotonic() + 300
        while not Path(os.environ["NOTES"], "released").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return [[0.0]]
    if "crash" in text:
        raise RuntimeError("the handler broke")
    return [[float(cell) for cell in line.split(",")] for line in text.splitlines() if line]

def predict_fn(rows, factor):
    began = time.perf_counter()
    time.sleep(0.001 * len(rows))
    answer = [[cell * factor for cell in row] for row in rows]
    with Path(os.environ["NOTES"], "calls.jsonl").open("a") as notes:
        notes.write(json.dumps([len(rows), 1000 * (time.perf_counter() - began)]) + "\\n")
    return answer

def output_fn(rows, accept):
    return "".join(json.dumps(row) + "\\n" for row in rows), accept
"""
ROWS = 40


class Jobs:
    """Three jobs, each with a folder for what its handler notes."""

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        environment = cloud.environment
        self.session = boto3.Session(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_DEFAULT_REGION"],
        )
        self.sagemaker: Any = cloud.client("sagemaker")
        self.s3: Any = cloud.client("s3")

    def start(self, name: str, objects: dict[str, bytes], *, split: str, packed: bool = False, strategy: str) -> None:
        (self.folder / name).mkdir()
        for key, content in objects.items():
            self.s3.put_object(
                Bucket=BUCKET, Key=f"{name}/in/{key}", Body=gzip.compress(content) if packed else content
            )
        self.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=MODEL,
            **({"BatchStrategy": strategy} if split == "Line" else {}),
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/in/"}},
                "ContentType": "text/csv",
                "SplitType": split,
                "CompressionType": "Gzip" if packed else "None",
            },
            TransformOutput={
                "S3OutputPath": f"s3://{BUCKET}/{name}/out/",
                "AssembleWith": "Line",
                "Accept": "application/jsonlines",
            },
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            Environment={"NOTES": str(self.folder / name)},
        )

    def await_end(self, name: str) -> str:
        def ended() -> bool:
            return str(self.sagemaker.describe_transform_job(TransformJobName=name)["TransformJobStatus"]) in (
                "Completed",
                "Failed",
            )

        await_true(ended, f"{name} has ended", timeout_s=300)
        return str(self.sagemaker.describe_transform_job(TransformJobName=name)["TransformJobStatus"])

    def calls(self, name: str) -> list[tuple[int, float]]:
        """What the handler noted of each call: rows, milliseconds."""
        notes = (self.folder / name / "calls.jsonl").read_text(encoding="utf-8")
        return [(rows, duration_ms) for rows, duration_ms in map(json.loads, notes.splitlines())]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "client", "batch", *arguments],
            env={**os.environ, **self.cloud.environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def told(self, name: str) -> tuple[int, dict[str, Any]]:
        """What the command says: its status, and the document."""
        done = self.command("report", name, "--json")
        assert done.returncode in (0, 3), done.stderr
        return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    folder = tmp_path_factory.mktemp("report")
    with LocalCloud(folder / "state") as cloud:
        deploy(cloud, bucket=BUCKET, model=MODEL, script=HANDLERS)
        jobs = Jobs(cloud, folder)
        first, second, third = ("".join(f"{part},{row}\n" for row in range(ROWS)).encode() for part in range(3))
        bad = {"good.csv": first, "refused.csv": second + b"no number\n", "broken.csv": b"1,1\n" + b"crash\n"}
        jobs.start("bad", bad, split="Line", strategy="SingleRecord")
        good = {"part-0.csv.gz": first, "part-1.csv.gz": b"\n" + second, "part-2.csv.gz": b"\n\n" + third}
        jobs.start("good", good, split="Line", strategy="MultiRecord", packed=True)
        jobs.start("held", {"a": b"1,2\n3,4\n", "b": b"hold"}, split="None", strategy="")
        yield jobs
        jobs.sagemaker.close()
        jobs.s3.close()


def test_a_completed_job_is_told_as_its_handler_lived_it(jobs: Jobs) -> None:
    assert jobs.await_end("good") == "Completed"
    status, told = jobs.told("good")
    calls = jobs.calls("good")
    requests = told["requests"]
    assert status == 0
    assert told["missing"] == []
    assert [rows for rows, _ in calls] == [ROWS] * 3
    assert (requests["count"], requests["failed"]) == (3, 0)
    assert requests["records"] == sum(rows for rows, _ in calls)
    assert requests["lines"]["max"] == ROWS
    assert told["objects"]["blank_lines"] == 3
    for percentile, rank in (("p50", 1), ("max", 2)):
        assert requests["worker_ms"][percentile] >= 0.99 * sorted(duration_ms for _, duration_ms in calls)[rank]
    assert requests["duration_ms"]["max"] <= 1000 * told["duration_s"]
    written = jobs.s3.list_objects_v2(Bucket=BUCKET, Prefix="good/out/")["Contents"]
    assert told["objects"]["written"] == len(written) == 3
    assert told["objects"]["output_bytes"] == sum(item["Size"] for item in written)
    assert told["objects"]["input_bytes"] == sum(
        item["Size"] for item in jobs.s3.list_objects_v2(Bucket=BUCKET, Prefix="good/in/")["Contents"]
    )
    assert told["decided"].endswith("BatchStrategy=MULTI_RECORD")
    assert sorted(each["object"].rpartition("/")[2] for each in told["slowest"]) == [
        f"part-{number}.csv.gz" for number in range(3)
    ]


def test_the_phases_of_a_job_are_all_of_its_time(jobs: Jobs) -> None:
    jobs.await_end("good")
    _, told = jobs.told("good")
    assert [phase["name"] for phase in told["phases"]] == [
        "instance, image, archive",
        "model is loaded",
        "waiting for the first request",
        "requests",
        "after the last response",
    ]
    assert sum(phase["duration_s"] for phase in told["phases"]) == pytest.approx(told["duration_s"], abs=0.01)


def test_a_failed_job_is_told_with_each_kind_of_error_and_the_record_that_began_it(jobs: Jobs) -> None:
    assert jobs.await_end("bad") == "Failed"
    status, told = jobs.told("bad")
    assert status == 0
    errors = {each["code"]: each for each in told["errors"]}
    refused, broken = errors["bad_request"], errors["handler_failed"]
    assert (refused["status"], refused["count"]) == (400, 1)
    assert "could not convert string to float" in refused["first"]["error"]
    assert (refused["first"]["object"], refused["first"]["line"]) == (f"s3://{BUCKET}/bad/in/refused.csv", ROWS + 1)
    # The platform asks four times before it gives a record up: InvocationsMaxRetries is 3 without other word.
    assert (broken["status"], broken["count"], broken["cause"]) == (500, 4, "RuntimeError: the handler broke")
    assert (broken["first"]["object"], broken["first"]["line"]) == (f"s3://{BUCKET}/bad/in/broken.csv", 2)
    assert told["requests"]["sent_again"] == 3
    assert told["requests"]["records"] == told["requests"]["count"] - told["requests"]["failed"]
    assert told["requests"]["records"] == len(jobs.calls("bad"))
    unwritten = [f"s3://{BUCKET}/bad/in/{name}.csv" for name in ("broken", "refused")]
    assert told["objects"]["unwritten"] == unwritten
    assert sorted(each["object"] for each in told["object_errors"]) == unwritten
    assert told["failure_reason"].startswith("ClientError: ")


def test_percentiles_are_those_of_the_lines_in_the_log(jobs: Jobs) -> None:
    jobs.await_end("bad")
    _, told = jobs.told("bad")
    lines = (jobs.folder / "state" / "logs" / "transform-jobs" / "bad.log").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if '"tidegate.requests"' in line]
    durations = sorted(each["duration_ms"] for each in entries)
    assert told["requests"]["count"] == len(durations)
    assert sum(told["over_time"]["requests"]) == len(durations)
    for percent in (50, 90, 99):
        exact = durations[-(-len(durations) * percent // 100) - 1]
        assert told["requests"]["duration_ms"][f"p{percent}"] == pytest.approx(exact, rel=0.01)
    assert told["requests"]["duration_ms"]["max"] == durations[-1]


def test_a_running_job_is_told_so_far_and_one_without_logs_by_what_is_left(jobs: Jobs) -> None:
    def answered_once() -> bool:
        _, told = jobs.told("held")
        return bool(told["requests"])

    await_true(answered_once, "the first object is answered", timeout_s=300)
    done = jobs.command("report", "held")
    assert done.returncode == 0, done.stderr
    assert "InProgress (so far)" in done.stdout
    assert "objects without output" not in done.stdout
    (jobs.folder / "held" / "released").touch()
    assert jobs.await_end("held") == "Completed"
    _, told = jobs.told("held")
    assert (told["requests"]["count"], told["requests"]["records"]) == (2, 2)
    assert [each["object"] for each in told["slowest"]] == [f"s3://{BUCKET}/held/in/{name}" for name in ("b", "a")]

    logs: Any = jobs.cloud.client("logs")
    group = "/aws/sagemaker/TransformJobs"
    for stream in logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="held/")["logStreams"]:
        logs.delete_log_stream(logGroupName=group, logStreamName=stream["logStreamName"])
    logs.close()
    status, told = jobs.told("held")
    assert status == 3
    (missing,) = told["missing"]
    assert missing["part"] == "requests"
    assert "no stream of /aws/sagemaker/TransformJobs begins with held/" in missing["why"]
    assert (told["requests"], told["objects"]["written"]) == (None, 2)
    assert [phase["name"] for phase in told["phases"]] == ["start", "job"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_whole_and_readable_for_everybody(
    jobs: Jobs, browser: Browser, scheme: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By axe-core, light and dark; nothing is fetched from elsewhere, and no script is needed."""
    for name, value in jobs.cloud.environment.items():
        monkeypatch.setenv(name, value)
    jobs.await_end("bad")
    report = BatchJob("bad", session=boto3.Session()).report()
    file = tmp_path / "report.html"
    file.write_text(as_page(report), encoding="utf-8")
    asked: list[str] = []
    context = browser.new_context(color_scheme=scheme, viewport={"width": 960, "height": 700})
    try:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        assert page.locator("h1").inner_text() == "Transform job bad"
        shown = page.locator("h2").all_inner_texts()
        assert shown[:4] == ["Where the time went", "Records per second", "Bytes sent per second", "Requests at a time"]
        assert {"Time of a request", "Slowest requests", "Errors", "Objects without output"} <= set(shown)
        for plot in page.locator("svg").all():
            assert plot.locator("title").first.text_content()
            assert plot.locator("desc").text_content()
        page.add_script_tag(path=AXE)
        found = page.evaluate("async () => (await axe.run()).violations.map(each => [each.id, each.help])")
        assert found == []
        assert asked == [file.as_uri()]
        if (folder := os.environ.get("REPORT_PICTURES")) and scheme == "light":
            # The plots: what is above and below them is tables.
            top, bottom = (page.locator(f"h2:has-text('{title}')").bounding_box() for title in (shown[0], "Slowest"))
            assert top is not None
            assert bottom is not None
            with Image.open(io.BytesIO(page.screenshot(full_page=True))) as picture:
                cut = picture.convert("RGB").crop((0, int(top["y"]) - 8, picture.width, int(bottom["y"]) - 8))
                small = cut.quantize(64, dither=Image.Dither.NONE)
                small.save(Path(folder) / "batch-report.png", optimize=True)
    finally:
        context.close()
