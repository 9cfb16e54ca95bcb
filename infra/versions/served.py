"""Whether an endpoint serves what its stack names.

An endpoint whose alarms send a new version back is InService again, with its old configuration. Whether CloudFormation
then calls its own update failed, AWS does not say, so nothing here relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.models.account import asked
from tidegate.infra.stage.names import Names

_MOVING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One thing that serves: an endpoint by its configuration, or an inference component by its model."""

    what: str
    status: str
    found: str
    # What the stack names in its outputs.
    wanted: str
    # What SageMaker says of the last failure; empty where there was none.
    why: str = ""

    @property
    def is_moving(self) -> bool:
        """Whether it will be something else by itself. Source: API reference, DescribeEndpoint, EndpointStatus."""
        return self.status in _MOVING

    @property
    def divergence(self) -> str | None:
        """Why that is not what the stack names; None where it is."""
        because = f" ({self.why.rstrip('.')})" if self.why else ""
        if self.status != "InService":
            return f"{self.what} is {self.status}{because}; wait for it, or see its log"
        if self.found != self.wanted:
            return (
                f"{self.what} serves {self.found}, and its stack names {self.wanted}: it was rolled back{because}; "
                "deploy or approve another version, and then this one again"
            )
        return None


def look(stage: Stage) -> tuple[Served, ...]:
    """The endpoint of `stage` and its component, if it has one. Raises `ConfigurationError` where there is none."""
    names = Names(prefix=stage.prefix, stage=stage.name)
    outputs = _outputs(stage)
    if "EndpointConfigName" not in outputs:
        raise ConfigurationError(f"stack {names.stack('endpoint')} has no endpoint yet; approve a package first")
    sagemaker = _client(stage, "sagemaker")
    with asked(f"endpoint {names.endpoint}"):
        endpoint = sagemaker.describe_endpoint(EndpointName=names.endpoint)
    seen = [of_endpoint(endpoint, outputs)]
    if (component := outputs.get("InferenceComponentName")) is not None:
        with asked(f"inference component {component}"):
            seen.append(of_component(sagemaker.describe_inference_component(InferenceComponentName=component), outputs))
    return tuple(seen)


def has_endpoint(stage: Stage) -> bool:
    """Whether the stack names one: one that serves what is approved has none before the first approval."""
    return "EndpointConfigName" in _outputs(stage)


def of_endpoint(description: Mapping[str, Any], outputs: Mapping[str, str]) -> Served:
    """`description` is that of DescribeEndpoint; `outputs` are the stack's."""
    return Served(
        what=f"endpoint {description['EndpointName']}",
        status=description["EndpointStatus"],
        found=description["EndpointConfigName"],
        wanted=outputs["EndpointConfigName"],
        why=description.get("FailureReason", ""),
    )


def of_component(description: Mapping[str, Any], outputs: Mapping[str, str]) -> Served:
    """`description` is that of DescribeInferenceComponent; the configuration of its endpoint has no model."""
    return Served(
        what=f"inference component {description['InferenceComponentName']}",
        status=description["InferenceComponentStatus"],
        found=description["Specification"]["ModelName"],
        wanted=outputs["ModelName"],
        why=description.get("FailureReason", ""),
    )


def demand(stage: Stage) -> tuple[Served, ...]:
    """What `look` sees, where all of it is what the stack names; else `ConfigurationError` says what is not."""
    seen = look(stage)
    for one in seen:
        if (reason := one.divergence) is not None:
            raise ConfigurationError(reason)
    return seen


def _outputs(stage: Stage) -> dict[str, str]:
    stack = Names(prefix=stage.prefix, stage=stage.name).stack("endpoint")
    with asked(f"stack {stack}"):
        (found,) = _client(stage, "cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def _client(stage: Stage, service: str) -> Any:
    return boto3.client(service, region_name=stage.region)
