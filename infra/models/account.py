"""What only the account knows: what a training job left, what a model package holds, and how it refuses a question.

The credentials, Region and address of the AWS command line are used (`AWS_PROFILE`, `AWS_REGION`, `AWS_ENDPOINT_URL`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A version of a model registry: its image, and the archive or prefix in S3 that it runs."""

    arn: str
    image_uri: str
    model_url: str


@cache
def archive_of_training_job(name: str, region: str | None) -> str:
    """The `s3://…/model.tar.gz` that a completed training job left."""
    job = _ask(
        f"model.training_job={name!r}",
        region,
        lambda sagemaker: sagemaker.describe_training_job(TrainingJobName=name),
    )
    if job["TrainingJobStatus"] != "Completed":
        raise ConfigurationError(
            f"model.training_job={name!r} is {job['TrainingJobStatus']}, and only a completed job leaves a model; wait "
            "for it, or name another job"
        )
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])


@cache
def package(name: str, region: str | None) -> Package:
    """An approved model package, by its ARN or by `group/version`."""
    found = _ask(
        f"model.package={name!r}", region, lambda sagemaker: sagemaker.describe_model_package(ModelPackageName=name)
    )
    if (status := found["ModelApprovalStatus"]) != "Approved":
        raise ConfigurationError(
            f"model.package={name!r} is {status}, and only approved packages are deployed; approve it, or name another "
            "version"
        )
    container = found["InferenceSpecification"]["Containers"][0]
    url = container.get("ModelDataUrl") or container["ModelDataSource"]["S3DataSource"]["S3Uri"]
    return Package(arn=found["ModelPackageArn"], image_uri=container["Image"], model_url=url)


@contextmanager
def asked(what: str) -> Iterator[None]:
    """Turn an error of AWS into a `ConfigurationError` of one sentence that names `what`."""
    try:
        yield
    except ClientError as error:
        reason = error.response["Error"]["Message"].rstrip(".")
        raise ConfigurationError(f"{what}: AWS says '{reason}'") from None
    except BotoCoreError as error:
        reason = str(error).rstrip(".")
        raise ConfigurationError(f"{what}: {reason}; set AWS_PROFILE and AWS_REGION") from None


def _ask(key: str, region: str | None, call: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call(botocore.session.get_session().create_client("sagemaker", region_name=region))
    except ClientError as error:
        reason = error.response["Error"]["Message"].rstrip(".")
        raise ConfigurationError(f"{key} cannot be read: SageMaker says '{reason}'; check name and Region") from None
    except BotoCoreError as error:
        reason = str(error).rstrip(".")
        raise ConfigurationError(
            f"{key} must be looked up in the account, and that failed: {reason}; set AWS_PROFILE and AWS_REGION, or "
            "write model.archive"
        ) from None
