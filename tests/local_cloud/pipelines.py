"""Pipelines through plain boto3: definitions of toy steps, their executions, and what comes of them."""

from __future__ import annotations

import json
from typing import Any

from tests.local_cloud import training
from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true, model_archive

Json = dict[str, Any]

LIMIT_S = training.LIMIT_S
CODE = "/opt/ml/processing/input/code"
# The directory that plays /opt/ml, also where the kernel gives a process none of its own.
BASE = "import json, os, pathlib, signal, sys, time\nbase = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'])\n"


def get(path: str) -> Json:
    return {"Get": path}


def join(*values: Any, on: str = "") -> Json:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def step(name: str, kind: str, arguments: Json, **members: Any) -> Json:
    return {"Name": name, "Type": kind, "Arguments": arguments, **members}


def condition(name: str, *conditions: Json, then: Any = (), otherwise: Any = (), **members: Any) -> Json:
    branches = {"IfSteps": list(then), "ElseSteps": list(otherwise)}
    return step(name, "Condition", {"Conditions": list(conditions), **branches}, **members)


def compare(kind: str, left: Any, right: Any) -> Json:
    return {"Type": kind, "LeftValue": left, "RightValue": right}


def fail(name: str, message: Any, **members: Any) -> Json:
    return step(name, "Fail", {"ErrorMessage": message}, **members)


def process(account: Account, name: str, script: str, **members: Any) -> Json:
    """A step that runs a script; its output `out` is where AWS would put it, by the execution's own ID."""
    code = account.put(f"{account.name('code')}/script.py", f"{BASE}{script}".encode())
    source = {"S3Uri": code, "LocalPath": CODE, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    place = join(f"s3://{BUCKET}", get("Execution.PipelineExecutionId"), name, on="/")
    output = {"S3Uri": place, "LocalPath": "/opt/ml/processing/out", "S3UploadMode": "EndOfJob"}
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    app = {"ImageUri": "any", "ContainerEntrypoint": ["python3", f"{CODE}/script.py"]}
    arguments = {
        "RoleArn": ROLE,
        "AppSpecification": app | members.pop("AppSpecification", {}),
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingInputs": [{"InputName": "code", "S3Input": source}, *members.pop("ProcessingInputs", [])],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "S3Output": output}]},
        **{member: members.pop(member) for member in ("Environment",) if member in members},
    }
    return step(name, "Processing", arguments, **members)


def given(name: str, uri: Any) -> Json:
    """An input of a processing job."""
    local = f"/opt/ml/processing/{name}"
    source = {"S3Uri": uri, "LocalPath": local, "S3DataType": "S3Prefix", "S3InputMode": "File"}
    return {"InputName": name, "S3Input": source}


def train(account: Account, name: str, script: str, **members: Any) -> Json:
    """A step that trains by a script; members of the job's request are given beside those of the step."""
    own = {member: members.pop(member) for member in ("DependsOn", "CacheConfig", "RetryPolicies") if member in members}
    arguments = training.request(account, script, **members)
    del arguments["TrainingJobName"]
    return step(name, "Training", arguments, **own)


def definition(*steps: Json, parameters: Any = (), **members: Any) -> str:
    shown = {"Version": "2020-12-01", "Metadata": {}, "Parameters": list(parameters), "Steps": list(steps)}
    return json.dumps(shown | members)


def parameter(name: str, kind: str, default: Any = None, **members: Any) -> Json:
    return {"Name": name, "Type": kind, **({} if default is None else {"DefaultValue": default}), **members}


def create(account: Account, text: str, **members: Any) -> str:
    """Creates a pipeline and returns its name."""
    name = account.name("Pipeline")
    account.sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=text, RoleArn=ROLE, **members)
    return name


def start(account: Account, name: str, **members: Any) -> str:
    """Starts an execution and returns its ARN; parameters are given by name."""
    values = [{"Name": key, "Value": value} for key, value in members.pop("parameters", {}).items()]
    answer = account.sagemaker.start_pipeline_execution(PipelineName=name, PipelineParameters=values, **members)
    arn: str = answer["PipelineExecutionArn"]
    return arn


def described(account: Account, execution: str) -> Json:
    description: Json = account.sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution)
    return description


def ended(account: Account, execution: str) -> Json:
    """The execution's description once it is over."""
    found: list[Json] = []

    def is_over() -> bool:
        found[:] = [described(account, execution)]
        return found[0]["PipelineExecutionStatus"] not in ("Executing", "Stopping")

    await_true(is_over, f"{execution} ends", timeout_s=LIMIT_S)
    return found[0]


def steps_of(account: Account, execution: str) -> dict[str, Json]:
    """The steps that have begun, in that order."""
    found = account.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution, SortOrder="Ascending")
    return {item["StepName"]: item for item in found["PipelineExecutionSteps"]}


def run(account: Account, text: str, status: str = "Succeeded", **members: Any) -> dict[str, Json]:
    """The steps of an execution of a new pipeline, which must end as ``status`` says."""
    execution = start(account, create(account, text), **members)
    end, steps = ended(account, execution), steps_of(account, execution)
    assert end["PipelineExecutionStatus"] == status, (end, steps)
    return steps


def statuses(steps: dict[str, Json]) -> dict[str, str]:
    return {name: item["StepStatus"] for name, item in steps.items()}


def job_name(found: Json, kind: str) -> str:
    arn: str = found["Metadata"][kind]["Arn"]
    return arn.rpartition("/")[2]


def archive(account: Account, files: dict[str, str]) -> str:
    return account.put(f"{account.name('archive')}/model.tar.gz", model_archive(files))
