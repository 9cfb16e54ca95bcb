"""What both versions of the SDK find of an execution; runs in the SDK's environment."""

from __future__ import annotations

import json
import time
from typing import Any

LIMIT_S = 900


def found_of(execution: Any) -> dict[str, Any]:
    """Its status and the statuses of its steps, once it is over; a failure is no error of the SDK's waiter here."""
    deadline = time.monotonic() + LIMIT_S
    while (description := execution.describe())["PipelineExecutionStatus"] == "Executing":
        if time.monotonic() > deadline:
            raise TimeoutError(f"the execution does not end: {execution.list_steps()}")
        time.sleep(0.2)
    steps = execution.list_steps()
    return {
        "status": description["PipelineExecutionStatus"],
        "steps": {step["StepName"]: step["StepStatus"] for step in steps},
        "reasons": {step["StepName"]: step["FailureReason"] for step in steps if "FailureReason" in step},
        "cached": sorted(step["StepName"] for step in steps if "CacheHitResult" in step),
        "metadata": {step["StepName"]: sorted(step["Metadata"]) for step in steps},
        "package": package_of(steps),
    }


def package_of(steps: list[dict[str, Any]]) -> list[str] | None:
    """The group and the approval of the version that the execution has registered."""
    import boto3

    for step in steps:
        if arn := step["Metadata"].get("RegisterModel", {}).get("Arn"):
            package = boto3.client("sagemaker").describe_model_package(ModelPackageName=arn)
            return [package["ModelPackageGroupName"], package["ModelApprovalStatus"]]
    return None


def read_json(bucket: str, key: str) -> list[Any]:
    """The lines of an object."""
    import boto3

    content = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return [json.loads(line) for line in content.splitlines()]
