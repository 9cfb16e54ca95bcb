"""What a call of SageMaker's own API asks of a caller whose rights are checked: what runs in a role, and calls back.

Source: the service authorization reference, Amazon SageMaker. The exported credentials are not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tidegate.local_cloud.sagemaker.state import Identity, Json


class Refusal(NamedTuple):
    """What who signed a request is answered with: he may not do this, or his session is over."""

    code: str
    message: str


_KINDS = {
    "DataQualityJobDefinition": "data-quality-job-definition",
    "Endpoint": "endpoint",
    "EndpointConfig": "endpoint-config",
    "HyperParameterTuningJob": "hyper-parameter-tuning-job",
    "InferenceComponent": "inference-component",
    "Model": "model",
    "ModelPackage": "model-package",
    "ModelPackageGroup": "model-package-group",
    "MonitoringSchedule": "monitoring-schedule",
    "Pipeline": "pipeline",
    "ProcessingJob": "processing-job",
    "TrainingJob": "training-job",
    "TransformJob": "transform-job",
}
_NAMES = {"DataQualityJobDefinition": "JobDefinitionName"}
# Of operations that do not say it by their name: what they are about.
_SPECIAL = {
    "UpdateEndpointWeightsAndCapacities": "Endpoint",
    "UpdateInferenceComponentRuntimeConfig": "InferenceComponent",
    "PutModelPackageGroupPolicy": "ModelPackageGroup",
    "GetModelPackageGroupPolicy": "ModelPackageGroup",
    "DeleteModelPackageGroupPolicy": "ModelPackageGroup",
    "ListTrainingJobsForHyperParameterTuningJob": "HyperParameterTuningJob",
}
_VERBS = ("Create", "Describe", "Update", "Delete", "Stop", "Start")
_INVOCATIONS = {
    "invocations": "InvokeEndpoint",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "async-invocations": "InvokeEndpointAsync",
    "invocations-bidirectional-stream": "InvokeEndpointWithBidirectionalStream",
}
_COMPONENT_HEADER = "x-amzn-sagemaker-inference-component"


def rights_of_call(operation: str, members: Json, identity: Identity) -> Iterator[tuple[str, str]]:
    """Actions and resources: of the operation, of the tags that it sets, and of the role that it passes."""
    resource = _resource(operation, members, identity)
    yield f"sagemaker:{operation}", resource
    if operation.startswith("Create") and members.get("Tags"):
        yield "sagemaker:AddTags", resource
    for member in ("ExecutionRoleArn", "RoleArn"):
        if isinstance(members.get(member), str):
            yield "iam:PassRole", members[member]


def rights_of_invocation(path: str, headers: Mapping[str, str], identity: Identity) -> Iterator[tuple[str, str]]:
    """The same of a call of the runtime, below ``/endpoints/``."""
    name, _, action = path.removeprefix("/endpoints/").partition("/")
    if headers.get("authorization", "").lower().startswith("bearer "):
        yield "sagemaker:CallWithBearerToken", "*"
    allowed = f"sagemaker:{_INVOCATIONS.get(action, 'InvokeEndpoint')}"
    yield allowed, identity.arn("endpoint", name)
    if component := headers.get(_COMPONENT_HEADER):
        yield allowed, identity.arn("inference-component", component)


def _resource(operation: str, members: Json, identity: Identity) -> str:
    if isinstance(members.get("ResourceArn"), str):
        return str(members["ResourceArn"])
    verb = next((verb for verb in _VERBS if operation.startswith(verb)), "")
    kind = _SPECIAL.get(operation, operation.removeprefix(verb))
    if kind not in _KINDS or (not verb and operation not in _SPECIAL):
        return "*"
    name: Any = members.get(_NAMES.get(kind, f"{kind}Name")) or members.get(f"{kind}Arn")
    if kind == "ModelPackage" and not name:
        name = f"{members.get('ModelPackageGroupName', '')}/*"
    name = str(name)
    return name if name.startswith("arn:") else identity.arn(_KINDS[kind], name)
