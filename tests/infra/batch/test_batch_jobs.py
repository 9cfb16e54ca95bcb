"""The machine that runs a transform job, executed as it stands in the template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.infra.batch.conftest import BUCKET, PARAMETER, SynthesiseBatch
from tests.infra.state_machines import ACCOUNT, REGION, Execution, Machines, Refusal, Scripted, interpreter
from tests.infra.templates import Synthesised

TOPIC = "tidegate-dev-batch"
DONE = {"TransformJobStatus": "Completed", "TransformEndTime": "2026-11-21T10:09:00+00:00"}
RUNNING = {"TransformJobStatus": "InProgress", "TransformStartTime": "2026-11-21T10:05:00+00:00"}


def failed(reason: str) -> dict[str, Any]:
    return {"TransformJobStatus": "Failed", "FailureReason": reason}


@dataclass
class Batch:
    """A stage's batch machines in an account, with the services they use."""

    machines: Machines
    sagemaker: Scripted
    arn: str

    def job_ends(self, *looks: dict[str, Any]) -> None:
        """What DescribeTransformJob says, look by look, of whatever job; the last one for ever."""
        said = iter(looks)
        last: list[dict[str, Any]] = []

        def describe(parameters: dict[str, Any]) -> dict[str, Any]:
            last.append(next(said, last[-1] if last else looks[-1]))
            return {"CreationTime": "2026-11-21T10:00:00+00:00"} | parameters | last[-1]

        self.sagemaker.answers["DescribeTransformJob"] = describe

    def creating(self, *answers: Refusal | None) -> None:
        """What CreateTransformJob says, call by call; after that it accepts."""
        said = iter(answers)

        def create(parameters: dict[str, Any]) -> dict[str, Any]:
            refusal = next(said, None)
            if refusal is not None:
                raise refusal
            name = parameters["TransformJobName"]
            return {"TransformJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:transform-job/{name}"}

        self.sagemaker.answers["CreateTransformJob"] = create

    def run(self, request: dict[str, Any], name: str = "run-1") -> Execution:
        return self.machines.run(self.arn, request, name=name)

    @property
    def created(self) -> list[dict[str, Any]]:
        return self.sagemaker.of("CreateTransformJob")

    def object(self, key: str) -> Any:
        body = self.machines.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return json.loads(body)

    def keys(self) -> list[str]:
        listed = self.machines.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return [item["Key"] for item in listed]

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Subject and content of everything that was published."""
        from moto.sns.models import sns_backends

        (topic,) = sns_backends[ACCOUNT][REGION].topics.values()
        return [(subject, json.loads(message)) for _, message, subject, *_ in topic.sent_notifications]


@contextmanager
def prepared(stack: Synthesised) -> Iterator[Batch]:
    """The machine of a stack, in an account that has what it needs."""
    sagemaker = Scripted()
    with interpreter(sagemaker=sagemaker) as machines:
        machines.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        machines.client("ssm").put_parameter(Name=PARAMETER, Value="tidegate-dev-0a1b", Type="String")
        topic = machines.client("sns").create_topic(Name=TOPIC)["TopicArn"]
        arn = machines.create("tidegate-dev-batch", stack.definition("tidegate-dev-batch", topic=topic))
        batch = Batch(machines=machines, sagemaker=sagemaker, arn=arn)
        batch.creating()
        batch.job_ends(RUNNING, DONE)
        yield batch


@pytest.fixture
def batch(batch_stack: Synthesised) -> Iterator[Batch]:
    with prepared(batch_stack) as batch:
        yield batch


def test_one_object_becomes_one_job_with_out_and_manifest_named_after_it(batch: Batch) -> None:
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/2026/a b/data.csv"}, name="data-csv-0123")

    assert ended.status == "SUCCEEDED"
    (job,) = batch.created
    assert job["TransformJobName"] == "tidegate-dev-batch-data-csv-0123-1"
    assert job["ModelName"] == "tidegate-dev-0a1b"
    assert job["TransformInput"] == {
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "ManifestFile",
                "S3Uri": f"s3://{BUCKET}/batch/manifests/data-csv-0123.json",
            }
        },
        "ContentType": "text/csv",
        "CompressionType": "None",
        "SplitType": "Line",
    }
    assert job["TransformOutput"] == {
        "S3OutputPath": f"s3://{BUCKET}/batch/output/2026/a b/",
        "Accept": "text/csv",
        "AssembleWith": "Line",
    }
    assert job["TransformResources"] == {"InstanceType": "ml.m5.2xlarge", "InstanceCount": 1}
    # The list names exactly one object.
    assert batch.object("batch/manifests/data-csv-0123.json") == [
        {"prefix": f"s3://{BUCKET}/batch/input/2026/a b/"},
        "data.csv",
    ]
    assert batch.object("batch/output/2026/a b/data.csv.job.json") == {
        "job": "tidegate-dev-batch-data-csv-0123-1",
        "status": "Completed",
        "attempt": 1,
        "model": "tidegate-dev-0a1b",
        "input": f"s3://{BUCKET}/batch/input/2026/a b/data.csv",
        "output": f"s3://{BUCKET}/batch/output/2026/a b/data.csv.out",
        "content_type": "text/csv",
        "submitted_at": "2026-11-21T10:00:00+00:00",
        "started_at": None,
        "ended_at": "2026-11-21T10:09:00+00:00",
        "failure_reason": None,
        "execution": f"arn:aws:states:{REGION}:{ACCOUNT}:execution:tidegate-dev-batch:data-csv-0123",
    }


def test_a_request_may_name_a_model_of_the_stages_repository(batch: Batch) -> None:
    """A job's requests have no header in which to say it, so the container is told; every attempt is."""
    batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv", "served_model": "digits/4"})
    batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"}, name="run-2")

    assert [job["Environment"] for job in batch.created] == [{"TIDEGATE_DEFAULT_MODEL": "digits/4"}, {}]


def test_a_prefix_becomes_one_job_over_all_below_it(batch: Batch) -> None:
    ended = batch.run(
        {"input": f"s3://{BUCKET}/batch/input/night/", "output": f"s3://{BUCKET}/batch/output/scheduled/1/"}
    )

    assert ended.status == "SUCCEEDED"
    (job,) = batch.created
    assert job["TransformInput"]["DataSource"]["S3DataSource"] == {
        "S3DataType": "S3Prefix",
        "S3Uri": f"s3://{BUCKET}/batch/input/night/",
    }
    assert job["TransformInput"]["ContentType"] == "application/jsonlines"
    assert job["TransformOutput"]["S3OutputPath"] == f"s3://{BUCKET}/batch/output/scheduled/1/"
    assert batch.object("batch/output/scheduled/1/job.json")["output"] == f"s3://{BUCKET}/batch/output/scheduled/1/"
    assert batch.keys() == ["batch/output/scheduled/1/job.json"]


@pytest.mark.parametrize(
    ("name", "content_type", "split", "compression"),
    [
        ("a.jsonl", "application/jsonlines", "Line", "None"),
        ("A.JSONL.GZ", "application/jsonlines", "Line", "Gzip"),
        ("a.json", "application/json", "None", "None"),
        ("a.b.png", "image/png", "None", "None"),
        ("a.wav", "audio/wav", "None", "None"),
        ("a.unheard", "application/jsonlines", "Line", "None"),
        ("no_ending", "application/jsonlines", "Line", "None"),
    ],
)
def test_the_ending_of_a_name_says_how_it_is_read(
    name: str, content_type: str, split: str, compression: str, batch: Batch
) -> None:
    """`.wav` is the stage file's own; what has no known ending is read as the stage says."""
    batch.run({"input": f"s3://{BUCKET}/batch/input/{name}"})

    (job,) = batch.created
    assert job["TransformInput"]["ContentType"] == content_type
    assert job["TransformInput"]["SplitType"] == split
    assert job["TransformInput"]["CompressionType"] == compression
    assert job["TransformOutput"]["Accept"] == (content_type if split == "Line" else "*/*")
    assert job["TransformOutput"]["AssembleWith"] == split


def test_who_starts_a_job_by_hand_may_say_how_its_input_is_read(batch: Batch) -> None:
    batch.run({"input": f"s3://{BUCKET}/batch/input/a.json", "content_type": "application/json", "split": "Line"})

    (job,) = batch.created
    assert (job["TransformInput"]["ContentType"], job["TransformInput"]["SplitType"]) == ("application/json", "Line")


DEFAULTS = {"InputFilter": "$", "JoinSource": "None", "OutputFilter": "$"}


def test_a_stage_s_filters_and_join_are_those_of_its_jobs(synthesise_batch: SynthesiseBatch) -> None:
    stack = synthesise_batch(input_filter="$.x", output_filter="$['id','SageMakerOutput']", join_source="Input")
    with prepared(stack) as batch:
        batch.run({"input": f"s3://{BUCKET}/batch/input/a.jsonl"}, name="lines")
        batch.run({"input": f"s3://{BUCKET}/batch/input/a.json"}, name="whole")
        lines, whole = batch.created
    assert lines["DataProcessing"] == {
        "InputFilter": "$.x",
        "JoinSource": "Input",
        "OutputFilter": "$['id','SageMakerOutput']",
    }
    # A join needs answers of the type of the input, also where an object is one record.
    assert (whole["DataProcessing"], whole["TransformOutput"]["Accept"]) == (
        lines["DataProcessing"],
        "application/json",
    )


@pytest.mark.parametrize(
    ("asked", "processing", "accept"),
    [
        ({}, DEFAULTS, "*/*"),
        ({"join_source": "Input"}, DEFAULTS | {"JoinSource": "Input"}, "application/json"),
        ({"input_filter": "$.a"}, DEFAULTS | {"InputFilter": "$.a"}, "*/*"),
        ({"output_filter": "$['a','b']"}, DEFAULTS | {"OutputFilter": "$['a','b']"}, "application/json"),
    ],
)
def test_who_starts_a_job_by_hand_may_filter_and_join(
    asked: dict[str, str], processing: dict[str, str], accept: str, batch: Batch
) -> None:
    batch.run({"input": f"s3://{BUCKET}/batch/input/a.json", **asked})
    (job,) = batch.created
    assert (job["DataProcessing"], job["TransformOutput"]["Accept"]) == (processing, accept)


@pytest.mark.parametrize("address", ["s3://elsewhere/batch/input/a.csv", "a.csv", f"s3://{BUCKET}-2/a.csv"])
def test_an_input_outside_of_the_stage_s_bucket_is_refused(address: str, batch: Batch) -> None:
    ended = batch.run({"input": address})

    assert (ended.status, ended.error) == ("FAILED", "InputRefused")
    assert ended.cause == f"input is not an address in the bucket {BUCKET}: {address}"
    assert not batch.created
    assert not batch.keys()


def test_while_a_job_runs_its_manifest_says_so_and_the_waits_grow(batch: Batch) -> None:
    seen: list[str] = []
    batch.job_ends(*[RUNNING] * 30, DONE)
    answer = batch.sagemaker.answers["DescribeTransformJob"]

    def describe(parameters: dict[str, Any]) -> dict[str, Any]:
        seen.append(batch.object("batch/output/a.csv.job.json")["status"])
        return answer(parameters)

    batch.sagemaker.answers["DescribeTransformJob"] = describe
    assert batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"}).status == "SUCCEEDED"

    assert set(seen) == {"InProgress"}
    assert batch.machines.waits_s == [min(15 * n, 300) for n in range(1, 32)]


@pytest.mark.parametrize(
    "reason", ["InternalServerError: try again", "CapacityError: none", "AlgorithmError: exit 137"]
)
def test_a_job_that_failed_for_another_reason_than_its_input_is_tried_again_under_a_new_name(
    reason: str, batch: Batch
) -> None:
    batch.job_ends(failed(reason), failed(reason), DONE)
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    assert ended.status == "SUCCEEDED"
    assert [job["TransformJobName"] for job in batch.created] == [f"tidegate-dev-batch-run-1-{n}" for n in (1, 2, 3)]
    manifest = batch.object("batch/output/a.csv.job.json")
    assert (manifest["job"], manifest["attempt"]) == ("tidegate-dev-batch-run-1-3", 3)
    assert manifest["failure_reason"] is None


def test_after_the_last_attempt_the_failure_is_in_the_manifest_the_message_and_the_execution(batch: Batch) -> None:
    reason = 'InternalServerError: "no" luck\nat all'
    batch.job_ends(failed(reason))
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    assert len(batch.created) == 3
    assert (ended.status, ended.error, ended.cause) == ("FAILED", "JobFailed", reason)
    manifest = batch.object("batch/output/a.csv.job.json")
    assert (manifest["status"], manifest["failure_reason"]) == ("Failed", reason)
    assert batch.messages() == [("Failed: tidegate-dev-batch-run-1", manifest)]


def test_a_job_whose_input_is_wrong_is_not_tried_again(batch: Batch) -> None:
    batch.job_ends(failed("ClientError: See job logs for more information"))
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    assert len(batch.created) == 1
    assert ended.error == "JobFailed"
    assert batch.object("batch/output/a.csv.job.json")["status"] == "Failed"


def test_a_job_that_somebody_stopped_is_not_started_again(batch: Batch) -> None:
    batch.job_ends({"TransformJobStatus": "Stopping"}, {"TransformJobStatus": "Stopped"})
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    assert len(batch.created) == 1
    assert (ended.error, ended.cause) == ("JobFailed", "the job was stopped")
    assert batch.object("batch/output/a.csv.job.json")["status"] == "Stopped"
    assert [subject for subject, _ in batch.messages()] == ["Stopped: tidegate-dev-batch-run-1"]


def test_a_job_that_ended_well_is_told_as_well(batch: Batch) -> None:
    batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    ((subject, message),) = batch.messages()
    assert subject == "Completed: tidegate-dev-batch-run-1"
    assert message == batch.object("batch/output/a.csv.job.json")


def test_without_free_instances_a_job_waits_and_then_takes_the_model_of_that_moment(batch: Batch) -> None:
    ssm = batch.machines.client("ssm")
    full = Refusal("ResourceLimitExceeded", "The account-level service limit is 0 Instances")
    batch.creating(full, full, full)
    create = batch.sagemaker.answers["CreateTransformJob"]

    def replace_model(parameters: dict[str, Any]) -> dict[str, Any]:
        ssm.put_parameter(Name=PARAMETER, Value=f"model-{len(batch.created)}", Type="String", Overwrite=True)
        return create(parameters)

    batch.sagemaker.answers["CreateTransformJob"] = replace_model
    assert batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"}).status == "SUCCEEDED"

    assert len({job["TransformJobName"] for job in batch.created}) == 1
    assert [job["ModelName"] for job in batch.created] == ["tidegate-dev-0a1b", "model-1", "model-2", "model-3"]
    first, second, third = batch.machines.waits_s[:3]
    assert 30 <= first <= 90
    assert 60 <= second <= 180
    assert 120 <= third <= 360


def test_throttling_is_waited_out(batch: Batch) -> None:
    throttled = Refusal("ThrottlingException", "Rate exceeded")
    batch.creating(throttled, throttled)
    described = batch.sagemaker.answers["DescribeTransformJob"]
    refusals = iter([throttled, throttled, throttled])

    def describe(parameters: dict[str, Any]) -> dict[str, Any]:
        for refusal in refusals:
            raise refusal
        return described(parameters)

    batch.sagemaker.answers["DescribeTransformJob"] = describe
    assert batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"}).status == "SUCCEEDED"
    assert len(batch.created) == 3


def test_what_can_never_work_is_given_up_and_said(batch: Batch) -> None:
    batch.creating(*[Refusal("ValidationException", 'Could not find model "x"')] * 50)
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    assert ended.error == "JobFailed"
    manifest = batch.object("batch/output/a.csv.job.json")
    assert manifest["status"] == "Failed"
    assert 'Could not find model "x"' in manifest["failure_reason"]
    assert manifest["failure_reason"].startswith("SageMaker.SageMakerException: ")
    assert len(batch.created) == 7
    assert len(batch.messages()) == 1


def test_a_lost_answer_to_the_creation_does_not_lose_the_job(batch: Batch) -> None:
    """Step Functions asks again, the name is taken, and it is our own: the machine goes on with the job."""
    batch.creating(Refusal("ResourceInUse", "Job name must be unique within an AWS account and region"))
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    assert ended.status == "SUCCEEDED"
    assert len(batch.created) == 1
    assert batch.object("batch/output/a.csv.job.json")["status"] == "Completed"


def test_a_stage_without_an_endpoint_says_what_is_missing(batch: Batch) -> None:
    batch.machines.client("ssm").delete_parameter(Name=PARAMETER)
    ended = batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"})

    assert ended.error == "JobFailed"
    assert "ParameterNotFound" in batch.object("batch/output/a.csv.job.json")["failure_reason"]


def test_every_name_of_an_execution_makes_a_valid_name_of_a_job(batch: Batch) -> None:
    import re

    long = "5f0a2c44-3c1b-4c0e-9a51-8d2f0f6e1a77_b55d9c0e-77aa-4d3f-8f8e-5e4a1f3c2b10"
    for name in (long, long[:-1] + "1", "a.b_c-d", "_x_"):
        batch.run({"input": f"s3://{BUCKET}/batch/input/a.csv"}, name=name)

    names = [job["TransformJobName"] for job in batch.created]
    assert len(set(names)) == 4
    assert all(re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name) for name in names), names
