"""From an event to one execution of the job machine, through the rule's pattern and the machine that takes events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from moto.events.models import EventPattern

from tests.infra.batch.conftest import BUCKET
from tests.infra.state_machines import Execution, Machines, interpreter, text
from tests.infra.templates import Synthesised

# In the place of the job machine: it only remembers what it was started with.
RECORDER = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})


def upload(key: str, **changes: Any) -> dict[str, Any]:
    """An event as S3 sends it. Source: Amazon S3 user guide, EventBridge event message structure."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-11-12T00:00:00Z",
        "region": "eu-central-1",
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {
            "version": "0",
            "bucket": {"name": BUCKET},
            "object": {"key": key, "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184", "version-id": "IYV3p45BT"}
            | changes,
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "reason": "PutObject",
        },
    }


@dataclass
class Intake:
    """The machine that takes events, before a job machine that only remembers."""

    machines: Machines
    arn: str
    job_machine: str

    def take(self, event: dict[str, Any]) -> Execution:
        return self.machines.run(self.arn, event)

    def jobs(self) -> dict[str, dict[str, Any]]:
        """The requests of the jobs that were started, by the execution's name."""
        client = self.machines.client("stepfunctions")
        listed = client.list_executions(stateMachineArn=self.job_machine)["executions"]
        described = [client.describe_execution(executionArn=one["executionArn"]) for one in listed]
        return {one["name"]: json.loads(one["input"]) for one in described}


@pytest.fixture
def intake(batch_stack: Synthesised) -> Iterator[Intake]:
    with interpreter() as machines:
        job_machine = machines.create("tidegate-dev-batch", RECORDER)
        arn = machines.create("tidegate-dev-batch-intake", batch_stack.definition("tidegate-dev-batch-intake"))
        yield Intake(machines=machines, arn=arn, job_machine=job_machine)


def test_an_upload_starts_one_job_with_the_object_s_address(intake: Intake) -> None:
    assert intake.take(upload("batch/input/2026/a b/Daten ü.csv")).status == "SUCCEEDED"

    ((name, request),) = intake.jobs().items()
    assert request == {"input": f"s3://{BUCKET}/batch/input/2026/a b/Daten ü.csv"}
    assert name.startswith("Daten-csv-")
    assert len(name) <= 29


def test_an_event_that_is_delivered_again_starts_no_second_job(intake: Intake) -> None:
    """Also when it comes with another id and time, which are not what it is about."""
    event = upload("batch/input/a.csv")
    ended = [intake.take(event), intake.take(event | {"id": "another", "time": "2026-11-12T00:00:09Z"})]

    assert [one.status for one in ended] == ["SUCCEEDED", "SUCCEEDED"]
    assert len(intake.jobs()) == 1


@pytest.mark.parametrize("changes", [{"version-id": "another"}, {"etag": "another"}])
def test_another_version_of_the_same_object_is_another_job(changes: dict[str, str], intake: Intake) -> None:
    intake.take(upload("batch/input/a.csv"))
    intake.take(upload("batch/input/a.csv", **changes))

    assert len(intake.jobs()) == 2


def test_names_that_differ_only_where_a_job_s_name_cannot_are_two_jobs(intake: Intake) -> None:
    intake.take(upload("batch/input/a b.csv"))
    intake.take(upload("batch/input/a-b.csv"))

    assert len(intake.jobs()) == 2


def test_a_scheduled_time_starts_one_job_over_the_day_s_prefix(intake: Intake) -> None:
    event = {"scheduled_time": "2026-11-21T03:00:00Z"}
    ended = [intake.take(event), intake.take(event)]

    assert [one.status for one in ended] == ["SUCCEEDED", "SUCCEEDED"]
    assert intake.jobs() == {
        "scheduled-20261121T030000Z": {
            "input": f"s3://{BUCKET}/batch/input/nightly/2026-11-21/",
            "output": f"s3://{BUCKET}/batch/output/scheduled/20261121T030000Z/",
        }
    }


def test_what_waits_for_the_schedule_is_not_transformed_when_it_is_uploaded(intake: Intake) -> None:
    assert intake.take(upload("batch/input/nightly/2026-11-21/a.csv")).status == "SUCCEEDED"
    assert not intake.jobs()

    intake.take(upload("batch/input/nightly/notes.csv"))
    assert len(intake.jobs()) == 1


def test_what_a_client_submits_is_left_to_the_client(intake: Intake) -> None:
    assert intake.take(upload("batch/input/submitted/20261121T100000/a.csv")).status == "SUCCEEDED"
    assert not intake.jobs()


def test_an_event_of_neither_kind_fails_and_is_shown(intake: Intake) -> None:
    ended = intake.take({"detail": {"reason": "unknown"}})

    assert (ended.status, ended.error) == ("FAILED", "NotForUs")
    assert ended.cause is not None
    assert '{"detail":{"reason":"unknown"}}' in ended.cause


def test_a_job_machine_that_is_not_there_fails_after_patient_tries(intake: Intake) -> None:
    intake.machines.client("stepfunctions").delete_state_machine(stateMachineArn=intake.job_machine)
    ended = intake.take(upload("batch/input/a.csv"))

    assert ended.status == "FAILED"
    assert len(intake.machines.waits_s) == 10


@pytest.mark.parametrize(
    ("event", "matches"),
    [
        (upload("batch/input/a.csv"), True),
        (upload("batch/input/folder/", size=0), False),
        (upload("batch/output/a.csv.out"), False),
        (upload("batch/manifests/a.json"), False),
        (upload("models/model.tar.gz"), False),
        (upload("batch/input/a.csv") | {"detail-type": "Object Deleted"}, False),
    ],
)
def test_only_uploads_below_batch_input_match_the_rule(
    event: dict[str, Any], matches: bool, batch_stack: Synthesised
) -> None:
    (rule,) = batch_stack.of_type("AWS::Events::Rule")
    pattern = EventPattern.load(json.dumps(rule["EventPattern"]))

    assert pattern.matches_event(event) is matches


def test_the_rule_hands_the_whole_event_to_the_machine_that_takes_events(batch_stack: Synthesised) -> None:
    (rule,) = batch_stack.of_type("AWS::Events::Rule")
    (target,) = rule["Targets"]

    assert text(target["Arn"], {}).endswith(":stateMachine:tidegate-dev-batch-intake")
    assert not {"Input", "InputPath", "InputTransformer"} & target.keys()


def test_the_schedule_hands_over_the_time_it_was_planned_for(batch_stack: Synthesised) -> None:
    (schedule,) = batch_stack.of_type("AWS::Scheduler::Schedule")

    assert schedule["ScheduleExpression"] == "cron(0 3 * * ? *)"
    assert schedule["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert json.loads(schedule["Target"]["Input"]) == {"scheduled_time": "<aws.scheduler.scheduled-time>"}
    assert text(schedule["Target"]["Arn"], {}).endswith(":stateMachine:tidegate-dev-batch-intake")
