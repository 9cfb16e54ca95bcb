"""How a step acts: by the same operations that a caller of the API has, with its arguments as the request."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.pipelines.execution import Execution, StepRun
from tidegate.local_cloud.sagemaker.pipelines.kinds import DONE, FAILED, KINDS, STOPPED, Kind
from tidegate.local_cloud.sagemaker.pipelines.references import fitted
from tidegate.local_cloud.sagemaker.shapes import operation_model
from tidegate.local_cloud.sagemaker.state import Json

Perform = Callable[[str, Json], Json]
"""Answers an operation of the API, with every check that it has; raises :class:`.ServiceError`."""

_SUFFIX = string.ascii_letters + string.digits
_SUFFIX_CHARS = 10
_ROOMY_CHARS = 63


@dataclass(frozen=True, slots=True)
class Made:
    """What a step has made: what describes it, and the step's metadata."""

    resource: str
    metadata: Json


def resource_name(kind: Kind, *, given: str | None, execution_id: str, step: str) -> str:
    """What a step calls what it makes: ``pipelines-EXECUTION-STEP-RANDOM``, or ``GIVEN-EXECUTION-RANDOM``.

    That the service adds to a given name is what the tests of its SDK say (``test_deployment_steps.py``). The parts and
    their order are those of the service; how it cuts long ones is not verified.
    """
    words = [execution_id, step] if kind.name_chars < _ROOMY_CHARS else ["pipelines", execution_id, step]
    if given is not None:
        words = [execution_id, given]
    *kept, cut = (re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in words)
    room = kind.name_chars - _SUFFIX_CHARS - 1 - sum(len(word) + 1 for word in kept)
    cut = cut[: max(room, 0)].strip("-")
    words = [*kept, cut] if given is None else [cut, *kept]
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(_SUFFIX_CHARS))
    return "-".join(word for word in [*words, suffix] if word)


def request_of(kind: Kind, arguments: Json, *, name: str, execution: Execution) -> Json:
    """The request that a step makes of its resolved arguments."""
    model = operation_model("sagemaker", kind.create)
    assert model is not None  # noqa: S101 - botocore has all of KINDS
    assert model.input_shape is not None  # noqa: S101
    request: Json = fitted(model.input_shape, arguments)
    if kind.create != "CreateModelPackage":
        return {**request, kind.name: name}
    # "Pipeline execution" in the events of model packages: the version tells which execution has made it.
    metadata = {"GeneratedBy": execution.arn, **request.get("MetadataProperties", {})}
    return {**request, "MetadataProperties": metadata}


def make(kind: Kind, request: Json, *, given: str | None, perform: Perform) -> Made:
    """Calls the operation; ``given`` is the name in the step's arguments. Raises what it raises."""
    operation = kind.create
    if operation == "CreateModelPackage":
        _make_group(request, perform)
    elif kind.update is not None and given is not None and _is_there(kind, given, perform):
        operation = kind.update
        request = {member: value for member, value in request.items() if member != "Tags"} | {kind.name: given}
    answer = perform(operation, request)
    arn: str = answer[kind.arn]
    return Made(
        resource=arn if kind.create == "CreateModelPackage" else request[kind.name],
        metadata={kind.metadata: {"Arn": arn}},
    )


def _make_group(request: Json, perform: Perform) -> None:
    """The group of a step's version is made where there is none: in a pipeline the SDKs leave it to the service."""
    name = request.get("ModelPackageGroupName")
    if name is None or name.startswith("arn:"):
        return
    try:
        perform("DescribeModelPackageGroup", {"ModelPackageGroupName": name})
    except ServiceError:
        perform("CreateModelPackageGroup", {"ModelPackageGroupName": name})


def _is_there(kind: Kind, name: str, perform: Perform) -> bool:
    try:
        perform(kind.describe, {kind.name: name})
    except ServiceError:
        return False
    return True


def properties_of(run: StepRun, perform: Perform) -> Json:
    """What references to the step's properties see: what its Describe operation answers."""
    if run.kind not in KINDS:
        return {"Outcome": run.outcome}
    kind = KINDS[run.kind]
    description = perform(kind.describe, {kind.name: run.resource})
    if run.kind == "Tuning":
        config = description["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        best_first = {
            "HyperParameterTuningJobName": run.resource,
            "SortBy": "FinalObjectiveMetricValue",
            "SortOrder": "Descending" if config["Type"] == "Maximize" else "Ascending",
        }
        description |= perform("ListTrainingJobsForHyperParameterTuningJob", best_first)
    return description


@dataclass(frozen=True, slots=True)
class Progress:
    """How what a step has made stands: ``status`` is ``Executing`` or one of the ends of a step."""

    status: str
    reason: str = ""


def progress_of(run: StepRun, perform: Perform) -> Progress:
    kind = KINDS[run.kind]
    if kind.status is None:
        return Progress("Succeeded")
    description = perform(kind.describe, {kind.name: run.resource})
    status = description[kind.status]
    if status in DONE:
        return Progress("Succeeded")
    if status in (*FAILED, *STOPPED):
        return Progress("Failed" if status in FAILED else "Stopped", str(description.get("FailureReason", "")))
    return Progress("Executing")


def stop(run: StepRun, perform: Perform) -> None:
    """Asks for the end of what a step has made; one that has ended by now is left as it is."""
    kind = KINDS[run.kind]
    if kind.stop is None:
        return
    try:
        perform(kind.stop, {kind.name: run.resource})
    except ServiceError as error:
        if error.code != "ValidationException":
            raise


def output_uri(properties: Json, output: str) -> str | None:
    """Where an output of a processing job goes."""
    outputs: list[dict[str, Any]] = properties.get("ProcessingOutputConfig", {}).get("Outputs", [])
    for item in outputs:
        if item.get("OutputName") == output:
            uri: str | None = item.get("S3Output", {}).get("S3Uri")
            return uri
    return None
