"""What the service demands of a CreateTrainingJob request beyond the shapes of its API.

Sources: CreateTrainingJob, StoppingCondition, Channel and CheckpointConfig in the API reference. The sentences about
spot training and about input without objects are the service's own, as users report them:
https://github.com/aws/amazon-sagemaker-examples/issues/2489.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tidegate.local_cloud.sagemaker.archive import ModelDataError, split_s3_uri
from tidegate.local_cloud.sagemaker.errors import resource_limit_exceeded, validation_exception
from tidegate.local_cloud.sagemaker.jobs.channel_data import ChannelObject, NoInput, objects_of
from tidegate.local_cloud.sagemaker.jobs.hosts import check_count
from tidegate.local_cloud.sagemaker.state import Json

MAX_RUNTIME_S = 28 * 24 * 3600  # StoppingCondition: "The maximum value is 28 days"
DEFAULT_MAX_RUNTIME_S = 24 * 3600  # StoppingCondition: the default of MaxRuntimeInSeconds is 1 day
CHECKPOINTS = "/opt/ml/checkpoints"  # CheckpointConfig: the default of LocalPath


def check_training_request(request: Json) -> None:
    """Raises a ValidationException for a request that contradicts itself."""
    algorithm = request.get("AlgorithmSpecification", {})
    if "TrainingImage" not in algorithm:
        raise validation_exception("AlgorithmSpecification needs TrainingImage; the local cloud has no algorithms.")
    resources = request.get("ResourceConfig", {})
    for member in ("InstanceType", "InstanceCount", "VolumeSizeInGB"):
        if member not in resources:
            raise validation_exception(f"ResourceConfig needs {member}.")
    if resources["InstanceCount"] < 1:
        raise validation_exception("InstanceCount of ResourceConfig must be at least 1.")
    check_count(resources["InstanceCount"])
    check_command(algorithm, request)
    _check_metrics(algorithm.get("MetricDefinitions", []))
    _check_channels(request)
    _check_stopping(request)
    check_s3_uri("S3OutputPath", request["OutputDataConfig"]["S3OutputPath"])
    if "CheckpointConfig" in request:
        check_s3_uri("S3Uri of CheckpointConfig", request["CheckpointConfig"]["S3Uri"])
        inside_opt_ml("LocalPath of CheckpointConfig", request["CheckpointConfig"].get("LocalPath", CHECKPOINTS))


def check_command(specification: Json, request: Json) -> None:
    """Raises a ValidationException for a command that no process can have: its words and variables end at a NUL."""
    environment: dict[str, str] = request.get("Environment", {})
    for member, words in (
        ("ContainerEntrypoint", specification.get("ContainerEntrypoint", [])),
        ("ContainerArguments", specification.get("ContainerArguments", [])),
        ("Environment", [*environment.keys(), *environment.values()]),
    ):
        if any("\0" in word for word in words):
            raise validation_exception(f"{member} has a NUL character, which no process can be given.")


def check_s3_uri(member: str, uri: str) -> None:
    """Raises a ValidationException for what is no address of S3."""
    try:
        bucket, _ = split_s3_uri(uri)
    except ModelDataError as error:
        raise validation_exception(f"{member}: {error}") from error
    if not bucket:
        raise validation_exception(f"{member} is {uri}, which names no bucket.")


def inside_opt_ml(member: str, path: str, *, below: str = "/opt/ml") -> str:
    """The path below ``/opt/ml`` that a path of the container names; the rest of its disk is not the job's own here.

    Raises a ValidationException for another path.
    """
    place = PurePosixPath(path)
    if ".." in place.parts or not place.is_relative_to(below) or place == PurePosixPath(below):
        raise validation_exception(f"{member} is {path}; it must be a path below {below}.")
    return place.relative_to("/opt/ml").as_posix()


def listed_inputs(s3: Any, request: Json, *, region: str) -> dict[str, list[ChannelObject]]:
    """The objects of each channel. Raises the service's ValidationException for one that has none."""
    found = {}
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"]["S3DataSource"]
        try:
            objects = objects_of(s3, uri=source["S3Uri"], data_type=source["S3DataType"])
        except NoInput as error:
            why = no_objects(source["S3Uri"], request["RoleArn"], region)
            raise validation_exception(f"{why} ({error})") from error
        if not objects:
            raise validation_exception(no_objects(source["S3Uri"], request["RoleArn"], region))
        found[channel["ChannelName"]] = objects
    return found


def no_objects(uri: str, role: str, region: str) -> str:
    """The service's own sentence: https://github.com/aws/amazon-sagemaker-examples/issues/2414."""
    bucket = uri.removeprefix("s3://").partition("/")[0]
    return (
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket exists in'
        f' the selected region ({region}), that objects exist under that S3 prefix, and that the role "{role}" has'
        f' "s3:ListBucket" permissions on bucket "{bucket}".'
    )


def input_mode(request: Json, channel: Json) -> str:
    """File, FastFile or Pipe; a channel's own word wins."""
    mode: str = channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]
    return mode


def _check_metrics(definitions: Sequence[Mapping[str, str]]) -> None:
    for item in definitions:
        try:
            groups = re.compile(item["Regex"]).groups
        except re.error as error:
            raise validation_exception(
                f"The Regex of the metric definition {item['Name']} is none that can be used here: {error}."
            ) from error
        if not groups:
            raise validation_exception(
                f"The Regex of the metric definition {item['Name']} has no group in parentheses for the value."
            )


def _check_channels(request: Json) -> None:
    channels = request.get("InputDataConfig", [])
    names = [channel["ChannelName"] for channel in channels]
    if len(set(names)) != len(names):
        raise validation_exception(f"The channel names must differ: {', '.join(names)}.")
    for channel in channels:
        name = channel["ChannelName"]
        if name in (".", ".."):
            raise validation_exception(f"ChannelName is {name}, which no directory can have.")
        if "S3DataSource" not in channel["DataSource"]:
            raise validation_exception(f"Channel {name} needs an S3DataSource.")
        check_s3_uri(f"S3Uri of channel {name}", channel["DataSource"]["S3DataSource"]["S3Uri"])
        if channel.get("CompressionType") == "Gzip" and input_mode(request, channel) != "Pipe":
            raise validation_exception(f"CompressionType Gzip of channel {name} needs the input mode Pipe.")
        if "ShuffleConfig" in channel and input_mode(request, channel) != "Pipe":
            raise validation_exception(
                f"The local cloud has ShuffleConfig in the input mode Pipe only (channel {name})."
            )


def _check_stopping(request: Json) -> None:
    stopping = request.get("StoppingCondition", {})
    runtime, wait = stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_S), stopping.get("MaxWaitTimeInSeconds")
    if runtime > MAX_RUNTIME_S:
        raise resource_limit_exceeded(
            "Longest run time for a training job", "Seconds", limit=MAX_RUNTIME_S, asked=runtime
        )
    if request.get("EnableManagedSpotTraining"):
        if wait is None or wait < runtime:
            raise validation_exception(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
            )
    elif wait is not None:
        raise validation_exception("MaxWaitTimeInSeconds needs EnableManagedSpotTraining.")
    if request.get("EnableManagedSpotTraining") and request["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        raise validation_exception("KeepAlivePeriodInSeconds excludes EnableManagedSpotTraining.")
