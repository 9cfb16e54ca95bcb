"""What the endpoints of all modes have in common: a configuration beside the old one, then the move to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.configuration.rollout import ComponentRollout, Rollout
from tidegate.infra.configuration.scaling import AsyncScaling, MultiModelScaling, Scaling
from tidegate.infra.hosting import instance_types
from tidegate.infra.hosting.autoscaling import INSTANCES, Capacity, of_variant
from tidegate.infra.hosting.deployment import Deployment, ServedModel, wait_for
from tidegate.infra.hosting.rollback_alarms import RollbackAlarms, Watched, watch_variants
from tidegate.infra.hosting.rollout import deployment_config
from tidegate.infra.hosting.variant_plans import StartTimeouts, VariantPlan
from tidegate.infra.stage.names import content_name

# Our server's own series, through the platform's scraping of /metrics; written out, because what SageMaker takes for
# granted depends on how old the configuration is.
SCRAPED = sagemaker.CfnEndpointConfig.MetricsConfigProperty(
    enable_detailed_observability=True, metric_publish_frequency_in_seconds=60
)


class Endpoint(Construct):
    """A name that clients keep, and what is behind it now.

    Models and configurations cannot be changed, so a change of the stage file makes new ones under new names; SageMaker
    starts the instances of the new configuration, moves the traffic when they answer /ping, and only then stops the old
    ones; CloudFormation removes the old model and configuration last. If the new version does not become healthy, or an
    alarm sends it back, the old one has never stopped serving.
    """

    # What the rest of the stage needs to know; a mode fills in what it has.
    variant_names: tuple[str, ...] = ()
    # What clients send as InferenceComponentName; None where there is no component.
    component_name: str | None = None
    # What a transform job can run; None where its model is not one that it can.
    model_name: str | None = None
    # Below the stage's own bucket.
    reads_below: tuple[str, ...] = ()
    writes_below: tuple[str, ...] = ()
    # Topics that the execution role publishes to.
    publishes_to: tuple[str, ...] = ()
    # Alarms that the execution role must be able to describe.
    rollback_alarm_arns: tuple[str, ...] = ()

    def __init__(self, scope: Construct, id_: str, *, deployment: Deployment) -> None:
        super().__init__(scope, id_)
        self.deployment = deployment
        self.name = deployment.endpoint_name

    @property
    def config_name(self) -> str:
        """The configuration that the endpoint runs; a token where CloudFormation names it."""
        return self._config_name

    @property
    def resource(self) -> sagemaker.CfnEndpoint:
        """What must exist before anything that names the endpoint."""
        return self._endpoint

    @property
    def serves(self) -> cdk.CfnResource:
        """What has changed when a new model is served."""
        return self._endpoint

    def _configure(
        self,
        variants: Sequence[sagemaker.CfnEndpointConfig.ProductionVariantProperty],
        *,
        models: Iterable[ServedModel],
        **properties: Any,
    ) -> None:
        """The configuration; its name changes with its content, see `content_name`.

        A model that CloudFormation names has no content that we know, so its configuration is named by CloudFormation
        too, which then replaces it with the model.
        """
        models = tuple(models)
        properties |= {"production_variants": list(variants)}
        shadows = properties.get("shadow_production_variants") or []
        if any(_has_a_volume(variant.instance_type) for variant in (*variants, *shadows)):
            properties["kms_key_id"] = self.deployment.key_arn
        named = not any(cdk.Token.is_unresolved(model.name) for model in models)
        content = [properties, self.deployment.network_content if "vpc_config" in properties else None]
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            endpoint_config_name=content_name(cdk.Stack.of(self), self.name, content) if named else None,
            **properties,
        )
        for model in models:
            wait_for(config, model.resource, name=model.name)
        self._config = config
        self._config_name = config.endpoint_config_name or config.attr_endpoint_config_name

    def _serve(
        self,
        *,
        deployment_config: sagemaker.CfnEndpoint.DeploymentConfigProperty | None = None,
        alarms: RollbackAlarms | None = None,
        keep_instance_counts: bool = False,
    ) -> None:
        """The endpoint. With `keep_instance_counts` an update starts as many new instances as there are old ones.

        Without it an update would fall back to the first count, in the middle of the day's load. Weights are those of
        the stage file in any case.
        """
        self._endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=self.name,
            endpoint_config_name=self._config_name,
            deployment_config=deployment_config,
            retain_all_variant_properties=True if keep_instance_counts else None,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DesiredWeight")
            ]
            if keep_instance_counts
            else None,
        )
        wait_for(self._endpoint, self._config, name=self._config_name)
        for alarm in alarms.alarms if alarms else ():
            self._endpoint.add_resource_dependency(alarm)

    def _alarms(self, watched: Watched, rollout: Rollout | ComponentRollout | None) -> RollbackAlarms | None:
        """The alarms of a roll-out that has some."""
        if rollout is None or rollout.rollback is None:
            return None
        alarms = RollbackAlarms(
            self,
            "Rollback",
            prefix=self.name,
            watched=watched,
            rollback=rollout.rollback,
            topic_arn=self.deployment.alarm_topic_arn,
        )
        self.rollback_alarm_arns = alarms.arns
        return alarms

    def _serve_variants(
        self,
        plans: Sequence[VariantPlan],
        *,
        rollout: Rollout | None,
        starts: StartTimeouts,
        smallest_fleet: int,
        keep_instance_counts: bool,
    ) -> None:
        """The endpoint of a mode with variants on instances, and its roll-out."""
        self.variant_names = tuple(plan.name for plan in plans)
        alarms = self._alarms(watch_variants(self.name, self._config_name, plans), rollout)
        self._serve(
            deployment_config=None
            if rollout is None
            else deployment_config(
                self,
                rollout,
                alarm_names=alarms.names if alarms else [],
                starts=starts,
                smallest_fleet=smallest_fleet,
            ),
            alarms=alarms,
            keep_instance_counts=keep_instance_counts,
        )

    def _instances(self, variant_name: str, scaling: Scaling | AsyncScaling | MultiModelScaling) -> Capacity:
        """The number of instances of a variant, to be scaled."""
        return Capacity(
            self,
            f"Scaling-{variant_name}",
            of=of_variant(self.name, variant_name),
            dimension=INSTANCES,
            minimum=scaling.min_instances,
            maximum=scaling.max_instances,
            after=self._endpoint,
            out_cooldown_s=scaling.scale_out_cooldown_s,
            in_cooldown_s=scaling.scale_in_cooldown_s,
        )


def _has_a_volume(instance_type: str | None) -> bool:
    """Whether there is a volume that a key of ours could encrypt: serverless variants and local disks have none."""
    return instance_type is not None and not instance_types.has_local_storage(instance_type)
