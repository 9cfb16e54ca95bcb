"""What a cloud has of SageMaker's, asked of it as any client would: for `status`, `logs` and tests that clean up.

What runs (endpoints, inference components, jobs, pipelines) is told one by one, what is only a record as a number.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

_AT_REST = frozenset({"Completed", "Failed", "Stopped", "Succeeded", "Deleted"})
_LAST_JOBS = 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of thing: how its operations and their members are called, and the folder of its logs."""

    name: str
    resource: str  # as the operations have it: List{resource}s, Describe{resource}
    summaries: str
    folder: str | None = None

    @property
    def name_member(self) -> str:
        return f"{self.resource}Name"

    @property
    def status_member(self) -> str:
        return f"{self.resource}Status"


ENDPOINT = Kind(name="endpoint", resource="Endpoint", summaries="Endpoints", folder="endpoints")
COMPONENT = Kind(
    name="inference-component",
    resource="InferenceComponent",
    summaries="InferenceComponents",
    folder="inference-components",
)
TRANSFORM_JOB = Kind(
    name="transform-job", resource="TransformJob", summaries="TransformJobSummaries", folder="transform-jobs"
)
TRAINING_JOB = Kind(
    name="training-job", resource="TrainingJob", summaries="TrainingJobSummaries", folder="training-jobs"
)
PROCESSING_JOB = Kind(
    name="processing-job", resource="ProcessingJob", summaries="ProcessingJobSummaries", folder="processing-jobs"
)
TUNING_JOB = Kind(name="tuning-job", resource="HyperParameterTuningJob", summaries="HyperParameterTuningJobSummaries")
PIPELINE = Kind(name="pipeline", resource="Pipeline", summaries="PipelineSummaries")
JOBS = (TRAINING_JOB, PROCESSING_JOB, TUNING_JOB, TRANSFORM_JOB)
WITH_LOGS = (ENDPOINT, COMPONENT, TRAINING_JOB, PROCESSING_JOB, TRANSFORM_JOB, PIPELINE)

_RECORDS = {
    # what `status` calls them: (operation, member)
    "models": ("list_models", "Models"),
    "endpoint configurations": ("list_endpoint_configs", "EndpointConfigs"),
    "model package groups": ("list_model_package_groups", "ModelPackageGroupSummaryList"),
    "monitoring schedules": ("list_monitoring_schedules", "MonitoringScheduleSummaries"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LastExit:
    """That servers died in service: how often one was replaced, and how and when the last one ended."""

    restarts: int
    code: int
    time: str

    def __str__(self) -> str:
        times = "once" if self.restarts == 1 else f"{self.restarts} times"
        return f"a server died and was replaced {times}; the last exit code is {self.code}, at {self.time}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A production variant and what it serves; ``data`` is where its archive lies, "" for none."""

    name: str
    instances: int | None
    model: str
    image: str
    data: str
    exit: LastExit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointThere:
    """An endpoint; one without variants serves inference components alone, or is not there any more."""

    name: str
    status: str
    reason: str = ""
    variants: list[Variant] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Anything else that runs."""

    kind: str
    name: str
    status: str
    of: str = ""  # the endpoint of a component, the pipeline and execution of a job
    exit: LastExit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All of it, the newest of ``jobs`` first: at most 20 of each kind, and those of 20 executions of pipelines."""

    endpoints: list[EndpointThere]
    components: list[Thing]
    jobs: list[Thing]
    pipelines: list[Thing]
    recorded: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def take(sagemaker: Any) -> Inventory:
    """What there is; ``sagemaker`` is a boto3 client."""
    exits = _exits(sagemaker)
    of_endpoints, of_components = exits["Endpoints"], exits["InferenceComponents"]
    executions = {
        item["PipelineName"]: _executions(sagemaker, item["PipelineName"]) for item in listed(sagemaker, PIPELINE)
    }
    return Inventory(
        endpoints=[_endpoint(sagemaker, item, of_endpoints) for item in listed(sagemaker, ENDPOINT)],
        components=[
            Thing(
                kind=COMPONENT.name,
                name=item[COMPONENT.name_member],
                status=item[COMPONENT.status_member],
                of=item["EndpointName"],
                exit=next(iter(of_components.get(item[COMPONENT.name_member], {}).values()), None),
            )
            for item in listed(sagemaker, COMPONENT)
        ],
        jobs=_jobs(sagemaker, executions),
        pipelines=[
            Thing(kind=PIPELINE.name, name=name, status=_last_status(found) or "") for name, found in executions.items()
        ],
        recorded={
            words: len(list(_pages(sagemaker, operation, member))) for words, (operation, member) in _RECORDS.items()
        },
    )


def _jobs(sagemaker: Any, executions: Mapping[str, list[dict[str, Any]] | None]) -> list[Thing]:
    """Those that pipelines have started are told by the ID of the execution in their names (steps.py)."""
    begun = [(execution, name) for name, found in executions.items() for execution in found or []]
    begun.sort(key=lambda pair: pair[0]["StartTime"], reverse=True)
    places = {
        identity: f"{name}/{identity}"
        for execution, name in begun[:_LAST_JOBS]
        for identity in [execution["PipelineExecutionArn"].rpartition("/")[2]]
    }
    older = {execution["PipelineExecutionArn"].rpartition("/")[2] for execution, _ in begun} - set(places)
    jobs: list[Thing] = []
    for kind in JOBS:
        alone = 0
        for item in listed(sagemaker, kind):
            words = set(item[kind.name_member].split("-"))
            of = next((places[word] for word in words if word in places), "")
            alone += not of
            if of or (alone <= _LAST_JOBS and not words & older):
                jobs.append(Thing(kind=kind.name, name=item[kind.name_member], status=item[kind.status_member], of=of))
    return jobs


def listed(sagemaker: Any, kind: Kind) -> list[dict[str, Any]]:
    """The summaries of all things of a kind, the newest first; none where this cloud does not have the kind."""
    operation = xform_name(f"List{kind.resource}s")
    try:
        return list(_pages(sagemaker, operation, kind.summaries))
    except ClientError as error:
        if error.response["Error"]["Code"] == "UnknownOperationException":
            return []
        raise


def status(sagemaker: Any, kind: Kind, name: str) -> str | None:
    """The status of one thing; None where there is none of that name (an endpoint that was deleted, say)."""
    if kind is PIPELINE:
        return _last_status(_executions(sagemaker, name))
    for item in listed(sagemaker, kind):
        if item[kind.name_member] == name:
            found: str = item[kind.status_member]
            return found
    return None


def is_at_rest(its_status: str | None) -> bool:
    """Whether nothing more will be written: jobs that ended, endpoints that failed or are gone."""
    return its_status is None or its_status in _AT_REST


def steps(sagemaker: Any, pipeline: str) -> list[tuple[Kind, str]]:
    """The jobs of a pipeline's last execution."""
    executions = sagemaker.list_pipeline_executions(PipelineName=pipeline)["PipelineExecutionSummaries"]
    if not executions:
        return []
    arn = executions[0]["PipelineExecutionArn"]
    answer = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn, SortOrder="Ascending")
    kinds = (TRAINING_JOB, PROCESSING_JOB, TRANSFORM_JOB)
    # The name in an ARN is in small letters.
    names = {item[f"{kind.resource}Arn"]: item[kind.name_member] for kind in kinds for item in listed(sagemaker, kind)}
    arns = [
        (kind, step.get("Metadata", {}).get(kind.resource, {}).get("Arn"))
        for step in answer["PipelineExecutionSteps"]
        for kind in kinds
    ]
    return [(kind, names[arn]) for kind, arn in arns if arn in names]


def _exits(sagemaker: Any) -> dict[str, dict[str, dict[str, LastExit]]]:
    """Of endpoints and of components, by name and variant: what AWS has no operation for."""
    url = f"{sagemaker.meta.endpoint_url}/local/exits"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=_TIMEOUT_S) as answer:
        found = json.load(answer)
    return {
        kind: {
            name: {
                variant: LastExit(restarts=last["Restarts"], code=last["ExitCode"], time=last["ExitTime"])
                for variant, last in variants.items()
            }
            for name, variants in things.items()
        }
        for kind, things in found.items()
    }


def _endpoint(sagemaker: Any, item: dict[str, Any], exits: dict[str, dict[str, LastExit]]) -> EndpointThere:
    name, its_status = item["EndpointName"], item["EndpointStatus"]
    try:
        described = sagemaker.describe_endpoint(EndpointName=name)
        config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    except ClientError:  # deleted in the meantime, or its configuration was
        return EndpointThere(name=name, status=its_status)
    running = {variant["VariantName"]: variant for variant in described.get("ProductionVariants", [])}
    return EndpointThere(
        name=name,
        status=described["EndpointStatus"],
        reason=described.get("FailureReason", ""),
        variants=[
            replace(
                _variant(
                    sagemaker, variant["VariantName"], variant["ModelName"], running.get(variant["VariantName"], {})
                ),
                exit=exits.get(name, {}).get(variant["VariantName"]),
            )
            for variant in config["ProductionVariants"]
            if "ModelName" in variant
        ],
    )


def _variant(sagemaker: Any, name: str, model: str, running: dict[str, Any]) -> Variant:
    try:
        described = sagemaker.describe_model(ModelName=model)
    except ClientError:  # a model may go while its endpoint stays
        described = {}
    containers = [described["PrimaryContainer"]] if "PrimaryContainer" in described else described.get("Containers", [])
    sources = [
        container.get("ModelDataUrl") or container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri", "")
        for container in containers
    ]
    return Variant(
        name=name,
        instances=running.get("CurrentInstanceCount"),
        model=model,
        image=", ".join(container["Image"] for container in containers if "Image" in container),
        data=", ".join(source for source in sources if source),
    )


def _executions(sagemaker: Any, pipeline: str) -> list[dict[str, Any]] | None:
    """The newest first; None where the pipeline is gone."""
    try:
        return list(_pages(sagemaker, "list_pipeline_executions", "PipelineExecutionSummaries", PipelineName=pipeline))
    except ClientError:
        return None


def _last_status(executions: list[dict[str, Any]] | None) -> str | None:
    if executions is None:
        return None
    return executions[0]["PipelineExecutionStatus"] if executions else "never started"


def _pages(sagemaker: Any, operation: str, member: str, **of: str) -> Iterator[dict[str, Any]]:
    token: dict[str, str] = {}
    while True:
        answer = getattr(sagemaker, operation)(SortBy="CreationTime", SortOrder="Descending", **of, **token)
        yield from answer[member]
        if "NextToken" not in answer:
            return
        token = {"NextToken": answer["NextToken"]}
