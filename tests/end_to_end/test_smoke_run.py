"""`tidegate smoke` through the local cloud, with the real templates and the real server.

Whether AWS does the same is what the run is for, and nothing here claims it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.end_to_end.conftest import CLOCK_STANDS
from tests.end_to_end.deploying import inventory
from tests.infra.conftest import ROOT
from tests.processes import started

pytestmark = pytest.mark.timeout(1500)  # a whole run is the fixture of the first test

STAGE = Path(__file__).parent.relative_to(ROOT) / "stages" / "component.toml"


def smoke(*words: str) -> list[str]:
    account = os.environ["CDK_DEFAULT_ACCOUNT"]
    return [sys.executable, "-m", "tidegate.infra", "smoke", "--stage", str(STAGE), "--yes", account, *words]


@dataclass(frozen=True)
class Ran:
    """A run that came to its end."""

    status: int
    said: str
    markdown: str
    found: dict[str, Any]
    left: dict[str, list[str]]

    def question(self, name: str) -> dict[str, Any]:
        (question,) = (each for each in self.found["questions"] if each["name"] == name)
        return dict(question)


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> Iterator[dict[str, str]]:
    """A cloud in which the rights of roles count. While a version is watched, each minute has its requests.

    Else the clock of a busy machine would be ahead of them, and an alarm would see no errors.
    """
    over = threading.Event()
    CLOCK_STANDS.set()
    given = (enforcing_cloud["AWS_ENDPOINT_URL_SAGEMAKER"], boto3.client("cloudwatch"), over)
    watching = threading.Thread(target=_pass_minutes, args=given, name="minutes", daemon=True)
    watching.start()
    yield enforcing_cloud
    over.set()
    watching.join()
    CLOCK_STANDS.clear()


def _pass_minutes(address: str, cloudwatch: Any, over: threading.Event) -> None:
    url = f"{address}/local/clock"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while not over.wait(0.2):
        with suppress(OSError, BotoCoreError, ClientError):  # it asks again
            with opener.open(url, timeout=60) as answer:
                told = json.load(answer)
            watched = any(timer["name"].endswith(" bakes") for timer in told["timers"])
            if watched and _has_requests(cloudwatch, datetime.fromisoformat(told["now"])):
                ahead = urllib.request.Request(url, b'{"advance_s": 60}', method="POST")  # noqa: S310 - this cloud's
                opener.open(ahead, timeout=60).close()


def _has_requests(cloudwatch: Any, now: datetime) -> bool:
    """Whether SageMaker counted a request in the minute that is under way."""
    minute = now.replace(second=0, microsecond=0)
    counted = cloudwatch.list_metrics(Namespace="AWS/SageMaker", MetricName="Invocations")["Metrics"]
    return any(
        cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName="Invocations",
            Dimensions=metric["Dimensions"],
            StartTime=minute,
            EndTime=minute + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        for metric in counted
    )


@pytest.fixture(scope="module")
def ran(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    report = tmp_path_factory.mktemp("smoke") / "report.md"
    command = smoke("--report", str(report))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1400)
    assert report.exists(), done.stderr
    found = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    return Ran(
        status=done.returncode,
        said=done.stdout + done.stderr,
        markdown=report.read_text(encoding="utf-8"),
        found=found,
        left=inventory(f"s{found['run']}"),
    )


def test_a_run_ends_well_and_leaves_nothing(ran: Ran) -> None:
    assert ran.status == 0, ran.said
    assert ran.left == {kind: [] for kind in ran.left}
    assert ran.found["left"] == []
    assert f"tidegate-s{ran.found['run']}r-storage" in ran.said.partition("AWS charges")[0], "it is named before"


def test_every_question_is_answered_and_nothing_is_claimed_of_aws(ran: Ran) -> None:
    verdicts = {each["name"]: each["verdict"] for each in ran.found["questions"]}

    assert verdicts == {
        "broken-model": "holds",
        "rollout-only": "holds",
        "scaling-removed": "answered",
        "alarm-rollback": "answered",
        "component-update": "holds",
    }
    assert "this shows that the run works, and settles nothing about AWS" in ran.markdown
    assert os.environ["CDK_DEFAULT_ACCOUNT"] not in ran.markdown + json.dumps(ran.found)


def test_a_model_that_does_not_load_is_seen_to_go_back_with_its_reason(ran: Ran) -> None:
    (update,) = ran.question("broken-model")["seen"]

    assert update["stack"] == "UPDATE_ROLLBACK_COMPLETE"
    assert update["after"]["config"] == update["before"]["config"] != update["wanted_config"]
    assert set(update["answers"]) == {"one"}
    assert any("this model does not load on purpose" in failure for failure in update["failures"])


def test_a_version_that_answers_with_errors_is_sent_back_by_the_alarm_of_the_roll_out(ran: Ran) -> None:
    _, update = ran.question("alarm-rollback")["seen"]

    assert update["stack"] == "UPDATE_ROLLBACK_COMPLETE"
    assert update["after"]["config"] == update["before"]["config"] != update["wanted_config"]
    assert set(update["answers"]) == {"one", "ModelError"}
    assert any("is in ALARM, so the deployment was rolled back" in failure for failure in update["failures"])


def test_instances_that_scaling_made_are_counted_before_and_after_it_is_taken_away(ran: Ran) -> None:
    added, removed = ran.question("scaling-removed")["seen"]

    assert added["after"]["scalable"] == 1
    assert removed["before"]["instances"] == 2
    assert removed["after"]["scalable"] == 0


def test_another_model_of_a_component_is_seen_under_traffic(ran: Ran) -> None:
    update, broken = ran.question("component-update")["seen"]

    assert update["after"]["component_model"] == update["wanted_model"]
    assert set(update["answers"]) <= {"one", "two"}
    assert broken["after"]["component_model"] == update["wanted_model"]
    assert set(broken["answers"]) == {"two"}


def test_ctrl_c_deletes_what_was_made_and_keeps_the_report(cloud: dict[str, str], tmp_path: Path) -> None:
    """In the middle of an update of the endpoint; a second Ctrl-C changes nothing."""
    report = tmp_path / "report.md"
    command = smoke("--report", str(report), "--question", "broken-model")
    with started(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "update with a model that does not load" in line:
                process.send_signal(signal.SIGINT)
            if "deleting what was made" in line:
                process.send_signal(signal.SIGINT)
        status = process.wait(timeout=600)
    (run,) = set(re.findall(r"tidegate-s([0-9a-f]{6})r-storage", said))
    left = inventory(f"s{run}")

    assert status == 130, said
    assert "stopping; what was made is deleted first" in said
    assert left == {kind: [] for kind in left}
    found = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    assert [each["verdict"] for each in found["questions"]] == ["not settled"]
    assert found["left"] == []
