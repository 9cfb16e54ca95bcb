"""One endpoint in a stack of its own, from a table of the stage file to the template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.infra.conftest import ROOT

if TYPE_CHECKING:
    import aws_cdk as cdk

    from tidegate.infra.hosting.endpoint import Endpoint

NAME = "tidegate-test"
BUCKET = "bucket"
ROLE = "arn:aws:iam::123456789012:role/inference"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-0000-4000-8000-000000000000"

CONFIG = "AWS::SageMaker::EndpointConfig"
ENDPOINT = "AWS::SageMaker::Endpoint"
COMPONENT = "AWS::SageMaker::InferenceComponent"
TARGET = "AWS::ApplicationAutoScaling::ScalableTarget"
POLICY = "AWS::ApplicationAutoScaling::ScalingPolicy"
ALARM = "AWS::CloudWatch::Alarm"

# One of each mode with everything that it can have; small enough to read, and what the rules are run on.
FULL: dict[str, dict[str, Any]] = {
    "realtime": {
        "mode": "realtime",
        "instance_count": 2,
        "scaling": {"min_instances": 2, "max_instances": 4},
        "rollout": {"strategy": "canary", "rollback": {"max_p99_ms": 500}},
        "shadow": {"percent": 20, "instance_type": "ml.m7i.large"},
        "capture": {"percent": 5},
    },
    "async": {
        "mode": "async",
        "scaling": {"max_instances": 3},
        "rollout": {"strategy": "all_at_once"},
        "notify": True,
        "email": "ml@example.com",
        "max_concurrent_invocations_per_instance": 4,
    },
    "serverless": {"mode": "serverless", "memory_mib": 3072, "max_concurrency": 20, "provisioned_concurrency": 2},
    "component": {
        "mode": "component",
        "copies": {"gpus": 1, "min_memory_mib": 4096},
        "min_instances": 0,
        "max_instances": 2,
        "scaling": {"min_copies": 0, "max_copies": 4},
        "rollout": {},
        "network_isolation": True,
    },
    "multi_model": {
        "mode": "multi_model",
        "instance_type": "ml.m7i.xlarge",
        "instance_count": 2,
        "scaling": {"min_instances": 2, "max_instances": 4, "invocations_per_minute": 600},
        "rollout": {"strategy": "linear"},
    },
}


@dataclass(frozen=True)
class Hosted:
    """The construct, and the resources that it became, by logical id."""

    endpoint: Endpoint
    resources: dict[str, dict[str, Any]]
    warnings: str

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of every resource of `kind`, by logical id."""
        return {name: one.get("Properties", {}) for name, one in self.resources.items() if one["Type"] == kind}

    def only(self, kind: str) -> dict[str, Any]:
        """The properties of the one resource of `kind`."""
        (properties,) = self.all(kind).values()
        return properties

    def comes_after(self, kind: str, earlier: str) -> bool:
        """Whether every resource of `kind` is told to wait for all of `earlier`."""
        first = self.all(earlier).keys()
        return all(first <= set(one.get("DependsOn", [])) for one in self.resources.values() if one["Type"] == kind)

    @property
    def variants(self) -> list[dict[str, Any]]:
        """The production variants of the configuration."""
        variants: list[dict[str, Any]] = self.only(CONFIG)["ProductionVariants"]
        return variants

    def policy(self, kind: str) -> dict[str, Any]:
        """The one scaling policy of that kind: TargetTrackingScaling or StepScaling."""
        (policy,) = (one for one in self.all(POLICY).values() if one["PolicyType"] == kind)
        (configuration,) = (value for name, value in policy.items() if name.endswith("PolicyConfiguration"))
        return dict(configuration)

    def alarm(self, ending: str) -> dict[str, Any]:
        """The alarm whose name ends so."""
        (alarm,) = (one for one in self.all(ALARM).values() if one["AlarmName"].endswith(ending))
        return alarm


def host(hosting: dict[str, Any], *, model_name: str | None = "model-1", **deployment: Any) -> Hosted:
    """`hosting` is the table as TOML would give it. Without a model's name CloudFormation chooses it."""
    return _host(json.dumps(hosting), model_name, json.dumps(deployment))


def change(mode: str, **keys: Any) -> dict[str, Any]:
    """The full table of a mode with other keys; None takes one away."""
    return {name: value for name, value in (FULL[mode] | keys).items() if value is not None}


def add_endpoint(
    stack: cdk.Stack, hosting: dict[str, Any], *, model_name: str | None = "model-1", **deployment: Any
) -> Endpoint:
    """Put the endpoint and the models that it names into `stack`."""
    from aws_cdk import aws_sagemaker as sagemaker
    from pydantic import TypeAdapter

    from tidegate.infra.configuration.hosting import Hosting
    from tidegate.infra.hosting.deployment import Deployment
    from tidegate.infra.hosting.endpoint import Endpoint
    from tidegate.infra.hosting.modes import plan

    class Model:
        def __init__(self, id_: str, name: str | None) -> None:
            self.resource = sagemaker.CfnModel(stack, id_, model_name=name, execution_role_arn=ROLE)
            self.name = name or self.resource.attr_model_name

    table: Any = TypeAdapter(Hosting).validate_python(hosting)
    own = {name: Model(f"Model-{name}", model) for name, model in deployment.pop("variant_models", {}).items()}
    return Endpoint(
        stack,
        "Endpoint",
        plan=plan(table, size_gib=deployment.pop("size_gib", None)),
        deployment=Deployment(
            endpoint_name=NAME,
            model=Model("Model", model_name),
            variant_models=own,
            role_arn=ROLE,
            bucket=BUCKET,
            **deployment,
        ),
    )


@cache
def _host(hosting: str, model_name: str | None, deployment: str) -> Hosted:
    import aws_cdk as cdk
    from aws_cdk.assertions import Annotations, Match, Template

    app = cdk.App(context=json.loads((ROOT / "cdk.json").read_text())["context"])
    stack = cdk.Stack(app, "endpoint")
    endpoint = add_endpoint(stack, json.loads(hosting), model_name=model_name, **json.loads(deployment))
    found = Annotations.from_stack(stack).find_warning("*", Match.any_value())
    return Hosted(
        endpoint=endpoint,
        resources=Template.from_stack(stack).to_json()["Resources"],
        warnings="\n".join(str(one.entry.data) for one in found),
    )
