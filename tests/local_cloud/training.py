"""Training jobs of one script, as the SDK starts them: the script in an archive in S3, named by hyperparameters."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true, model_archive

LIMIT_S = 600
"""For a job on a machine that is very busy."""
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/train:1"


def request(account: Account, script: str, **members: Any) -> dict[str, Any]:
    """A CreateTrainingJob request with a name of its own; hyperparameters are written as the SDK writes them."""
    name = account.name("training")
    source = account.put(f"{name}/source.tar.gz", model_archive({"train.py": script}))
    given = {"sagemaker_program": "train.py", "sagemaker_submit_directory": source}
    hyperparameters = given | members.pop("HyperParameters", {})
    algorithm = {"TrainingImage": IMAGE, "TrainingInputMode": "File"} | members.pop("AlgorithmSpecification", {})
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": algorithm,
        "HyperParameters": {key: json.dumps(value) for key, value in hyperparameters.items()},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/{name}/out/"} | members.pop("OutputDataConfig", {}),
        "ResourceConfig": resources | members.pop("ResourceConfig", {}),
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **members,
    }


def start(account: Account, script: str, **members: Any) -> str:
    """Starts a job and returns its name."""
    asked = request(account, script, **members)
    account.sagemaker.create_training_job(**asked)
    name: str = asked["TrainingJobName"]
    return name


def channel(name: str, uri: str, data_type: str = "S3Prefix", **members: Any) -> dict[str, Any]:
    source = {"S3DataType": data_type, "S3Uri": uri, **members.pop("S3DataSource", {})}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **members}


def described(account: Account, name: str) -> dict[str, Any]:
    description: dict[str, Any] = account.sagemaker.describe_training_job(TrainingJobName=name)
    return description


def ended(account: Account, name: str) -> dict[str, Any]:
    """The job's description once it is over."""
    description: dict[str, Any] = {}

    def is_over() -> bool:
        description.clear()
        description.update(described(account, name))
        return description["TrainingJobStatus"] not in ("InProgress", "Stopping")

    await_true(is_over, f"training job {name} ends", timeout_s=LIMIT_S)
    return description


def completed(account: Account, script: str, **members: Any) -> dict[str, Any]:
    description = ended(account, start(account, script, **members))
    assert description["TrainingJobStatus"] == "Completed", description
    return description


def failure(account: Account, script: str, **members: Any) -> str:
    description = ended(account, start(account, script, **members))
    assert description["TrainingJobStatus"] == "Failed", description
    reason: str = description["FailureReason"]
    return reason


def archive_of(account: Account, uri: str) -> dict[str, bytes]:
    """The files of an archive in S3, by name."""
    content = account.get(uri.removeprefix(f"s3://{BUCKET}/"))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {item.name: tar.extractfile(item).read() for item in tar if item.isfile()}  # type: ignore[union-attr]


def secondary_statuses(description: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in description["SecondaryStatusTransitions"]]


def lines(account: Account, name: str, *, group: str = "/aws/sagemaker/TrainingJobs") -> list[str]:
    """What the job's hosts have written, as CloudWatch Logs has it."""
    logs = account.cloud.client("logs")
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/algo-")["logStreams"]
        events = [
            logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)["events"]
            for stream in streams
        ]
        return [event["message"] for of_stream in events for event in of_stream]
    except logs.exceptions.ResourceNotFoundException:
        return []
    finally:
        logs.close()


def await_line(account: Account, name: str, line: str, *, group: str = "/aws/sagemaker/TrainingJobs") -> None:
    await_true(lambda: line in lines(account, name, group=group), f"{name} says {line}", timeout_s=LIMIT_S)
