"""The endpoint of any mode: a configuration beside the old one, then the move to it."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.hosting import component, endpoint_config
from tidegate.infra.hosting.adapters import Adapters
from tidegate.infra.hosting.autoscaling import COPIES, INSTANCES, Capacity, of_component, of_variant
from tidegate.infra.hosting.deployment import Deployment, wait_for
from tidegate.infra.hosting.plan import EndpointPlan
from tidegate.infra.hosting.result_topics import result_topics
from tidegate.infra.hosting.rollback_alarms import RollbackAlarms, watch_component, watch_variants
from tidegate.infra.hosting.rollout import deployment_config
from tidegate.infra.stage.names import content_name


class Endpoint(Construct):
    """A name that clients keep, and what is behind it now.

    Models and configurations cannot be changed, so a change of the stage file makes new ones under new names; SageMaker
    starts the instances of the new configuration, moves the traffic when they answer /ping, and only then stops the old
    ones; CloudFormation removes the old model and configuration last. If the new version does not become healthy, or an
    alarm sends it back, the old one has never stopped serving.
    """

    def __init__(self, scope: Construct, id_: str, *, plan: EndpointPlan, deployment: Deployment) -> None:
        super().__init__(scope, id_)
        self.plan = plan
        self.name = deployment.endpoint_name
        # What a transform job can run; None where its model is not one that it can.
        self.model_name = deployment.model_of(plan.variants[0].name).name if plan.runs_in_jobs else None
        # What clients send as InferenceComponentName; None where there is no component.
        self.component_name = None if plan.component is None else self.name
        topics = None
        if plan.results is not None and plan.results.notify:
            topics = result_topics(self, endpoint_name=self.name, email=plan.results.email, key_arn=deployment.key_arn)
        # Topics that the execution role publishes to.
        self.publishes_to: tuple[str, ...] = () if topics is None else topics.arns
        config = self._configuration(endpoint_config.properties(plan, deployment, topics), deployment)
        # The configuration that the endpoint runs; a token where CloudFormation names it.
        self.config_name: str = config.endpoint_config_name or config.attr_endpoint_config_name
        alarms = self._alarms(deployment)
        # Alarms that the execution role must be able to describe.
        self.rollback_alarm_arns: tuple[str, ...] = () if alarms is None else alarms.arns
        # What must exist before anything that names the endpoint.
        self.resource = self._endpoint([] if alarms is None else alarms.names)
        wait_for(self.resource, config, name=self.config_name)
        # What has changed when a new model is served.
        self.serves: cdk.CfnResource = self.resource
        if plan.component is not None:
            self.serves = base = component.render(
                self,
                plan.component,
                deployment,
                variant_name=plan.variants[0].name,
                alarm_names=[] if alarms is None else alarms.names,
            )
            self.serves.add_resource_dependency(self.resource)
            Adapters(self, "Adapters", adapters=plan.component.adapters, endpoint_name=self.name, base=base)
        for alarm in () if alarms is None else alarms.alarms:
            self.serves.add_resource_dependency(alarm)
        self._scale()

    def _configuration(self, properties: dict[str, object], deployment: Deployment) -> sagemaker.CfnEndpointConfig:
        """Its name changes with its content, see `content_name`.

        A model that CloudFormation names has no content that we know, so its configuration is named by CloudFormation
        too, which then replaces it with the model.
        """
        models = []
        if self.plan.component is None:
            models = [deployment.model_of(variant.name) for variant in self.plan.all_variants]
        named = not any(cdk.Token.is_unresolved(model.name) for model in models)
        content = [properties, deployment.network_content if "vpc_config" in properties else None]
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            endpoint_config_name=content_name(cdk.Stack.of(self), self.name, content) if named else None,
            **properties,  # type: ignore[arg-type]  # keywords of CfnEndpointConfig
        )
        for model in models:
            wait_for(config, model.resource, name=model.name)
        return config

    def _alarms(self, deployment: Deployment) -> RollbackAlarms | None:
        """The alarms of a roll-out that has some."""
        of_component = self.plan.component
        rollout = self.plan.rollout if of_component is None else of_component.rollout
        if rollout is None or rollout.rollback is None:
            return None
        return RollbackAlarms(
            self,
            "Rollback",
            prefix=self.name,
            watched=watch_variants(self.name, self.config_name, self.plan)
            if of_component is None
            else watch_component(self.name, gpu=of_component.copies.gpus > 0),
            rollback=rollout.rollback,
            topic_arn=deployment.alarm_topic_arn,
        )

    def _endpoint(self, alarm_names: list[str]) -> sagemaker.CfnEndpoint:
        """Weights are those of the stage file in any case."""
        keeps = self.plan.keeps_counts
        weight = sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DesiredWeight")
        return sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=self.name,
            endpoint_config_name=self.config_name,
            deployment_config=deployment_config(self, self.plan, alarm_names=alarm_names),
            retain_all_variant_properties=True if keeps else None,
            exclude_retained_variant_properties=[weight] if keeps else None,
        )

    def _scale(self) -> None:
        for variant in self.plan.variants:
            if variant.scaling is not None:
                Capacity(
                    self,
                    f"Scaling-{variant.name}",
                    of=of_variant(self.name, variant.name),
                    dimension=INSTANCES,
                    plan=variant.scaling,
                    waiting=("EndpointName", self.name),
                    after=self.resource,
                )
        if self.plan.component is not None and self.plan.component.scaling is not None:
            Capacity(
                self,
                "Scaling",
                of=of_component(self.name),
                dimension=COPIES,
                plan=self.plan.component.scaling,
                waiting=("InferenceComponentName", self.name),
                after=self.serves,
            )
