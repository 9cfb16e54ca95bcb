"""What an execution does between its jobs: attempts, order, and a run that begins with steps that have ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from tests.local_cloud.pipelines import compare, condition, definition, fail, get, join, step
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.pipelines.definition import read_definition
from tidegate.local_cloud.sagemaker.pipelines.events import PipelineEvents
from tidegate.local_cloud.sagemaker.pipelines.execution import Execution, PipelinesState, StepRun
from tidegate.local_cloud.sagemaker.pipelines.runner import ExecutionRun
from tidegate.local_cloud.sagemaker.state import now

Json = dict[str, Any]


class Jobs:
    """Answers the operations of training jobs; ``ends`` says how each one ends that is created, or why it is not."""

    def __init__(self, *ends: Json | ServiceError) -> None:
        self._ends = list(ends)
        self.names: list[str] = []
        self._jobs: dict[str, Json] = {}

    def perform(self, operation: str, request: Json) -> Json:
        name = request["TrainingJobName"]
        if operation == "CreateTrainingJob":
            self.names.append(name)
            end = self._ends.pop(0)
            if isinstance(end, ServiceError):
                raise end
            self._jobs[name] = end
            return {"TrainingJobArn": f"arn:{name}"}
        assert operation == "DescribeTrainingJob"
        return {"TrainingJobName": name, **self._jobs[name]}


def training(name: str, **members: Any) -> Json:
    arguments = {
        "RoleArn": "arn:aws:iam::123456789012:role/service",
        "AlgorithmSpecification": {"TrainingImage": "any", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    return step(name, "Training", arguments, **members)


def executed(text: str, perform: Callable[[str, Json], Json], *steps: StepRun) -> tuple[Execution, list[Json]]:
    """An execution that has begun with these steps, run to its end, and the events that it told."""
    moment, told = now(), []
    execution = Execution(
        arn="arn:pipeline/p/execution/abcdefghijkl",
        pipeline_name="p",
        pipeline_arn="arn:pipeline/p",
        version=1,
        definition=text,
        role="r",
        parameters={},
        created=moment,
        modified=moment,
        display_name="d",
        steps={run.name: run for run in steps},
    )
    lock = threading.Lock()
    ExecutionRun(
        execution=execution,
        definition=read_definition(text),
        state=PipelinesState(executions={execution.arn: execution}),
        lock=lock,
        perform=perform,
        s3=lambda: None,
        events=PipelineEvents(announce=lambda _what, _arn, detail: told.append(detail), lock=lock),
        closing=threading.Event(),
    ).run()
    return execution, told


POLICY = {
    "ExceptionType": ["Step.SERVICE_FAULT", "SageMaker.JOB_INTERNAL_ERROR"],
    "IntervalSeconds": 0,
    "MaxAttempts": 2,
}
BROKE = {"TrainingJobStatus": "Failed", "FailureReason": "InternalServerError: broke"}
COMPLETED = {"TrainingJobStatus": "Completed"}


def test_a_step_is_tried_again_with_a_job_of_its_own_as_its_policy_says() -> None:
    jobs = Jobs(ServiceError("ServiceUnavailable", "not now", status=503), BROKE, COMPLETED)
    execution, told = executed(definition(training("Train", RetryPolicies=[POLICY])), jobs.perform)
    run = execution.steps["Train"]
    assert (execution.status, run.status, run.attempts, run.failure) == ("Succeeded", "Succeeded", 3, None)
    assert len(set(jobs.names)) == 3
    assert run.resource == jobs.names[-1]
    assert told[-1]["currentStepStatus"] == "Succeeded"


def test_a_step_fails_when_its_attempts_are_used_up() -> None:
    jobs = Jobs(BROKE, BROKE, BROKE)
    execution, told = executed(definition(training("Train", RetryPolicies=[POLICY])), jobs.perform)
    run = execution.steps["Train"]
    assert (execution.status, run.status, run.attempts) == ("Failed", "Failed", 3)
    assert run.failure == "ClientError: InternalServerError: broke"
    assert told[-1]["failureReason"] == run.failure


def test_a_mistake_is_not_tried_again() -> None:
    jobs = Jobs({"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: yours, exit code: 1"})
    execution, _ = executed(definition(training("Train", RetryPolicies=[POLICY])), jobs.perform)
    assert (execution.status, execution.steps["Train"].attempts) == ("Failed", 1)


def test_a_run_begins_with_the_steps_that_have_ended() -> None:
    jobs = Jobs(COMPLETED)
    text = definition(training("First"), training("Second", DependsOn=["First"]))
    first = StepRun(name="First", kind="Training", status="Succeeded", attempts=1, resource="left")
    execution, _ = executed(text, jobs.perform, first)
    assert execution.status == "Succeeded"
    assert execution.steps["First"] is first
    assert len(jobs.names) == 1
    assert jobs.names[0].startswith("pipelines-abcdefghijkl-Second-")


def test_the_names_of_jobs_are_there_for_the_arguments_of_their_steps() -> None:
    jobs, asked = Jobs(COMPLETED), []

    def perform(operation: str, request: Json) -> Json:
        asked.append(request)
        return jobs.perform(operation, request)

    train = training("Train")
    train["Arguments"]["Environment"] = {"JOB": join(get("Execution.TrainingJobName"), "!")}
    executed(definition(train), perform)
    assert asked[0]["Environment"]["JOB"] == f"{asked[0]['TrainingJobName']}!"


def test_a_condition_refers_to_another_one_and_a_branch_that_is_not_taken_is_not_begun() -> None:
    text = definition(
        condition("First", compare("Equals", 1, 2), then=[fail("Never", "")]),
        condition("Second", compare("Equals", get("Steps.First.Outcome"), False)),
    )
    assert json.loads(text)["Steps"][1]["Arguments"]["Conditions"][0]["LeftValue"] == get("Steps.First.Outcome")
    execution, told = executed(text, Jobs().perform)
    assert {name: run.metadata["Condition"]["Outcome"] for name, run in execution.steps.items()} == {
        "First": "False",
        "Second": "True",
    }
    assert execution.status == "Succeeded"
    assert [detail["currentStepStatus"] for detail in told].count("Succeeded") == 2
