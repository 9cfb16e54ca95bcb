"""`mode = "component"`: an inference component, whose copies share instances; both may go down to none."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.configuration.hosting import ComponentHosting
from tidegate.infra.configuration.scaling import ComponentScaling
from tidegate.infra.hosting.autoscaling import CONCURRENT_REQUESTS_PER_COPY, COPIES, Capacity, of_component
from tidegate.infra.hosting.deployment import Deployment, wait_for
from tidegate.infra.hosting.endpoint import SCRAPED, Endpoint
from tidegate.infra.hosting.rollback_alarms import watch_component
from tidegate.infra.hosting.rollout import component_deployment_config
from tidegate.infra.hosting.variant_plans import ONLY_VARIANT, StartTimeouts, host_image
from tidegate.infra.hosting.variants import BY_LOAD
from tidegate.infra.hosting.volumes import volume_gb


class ComponentEndpoint(Endpoint):
    """Instances without a model, and a component that puts copies of it there.

    SageMaker adds instances where a copy finds no room and removes empty ones. A new model or image is an update of the
    component, copy by copy; the endpoint itself only changes with the instances. Without a copy a request fails, which
    starts the first one; a client that is to cope waits and asks again.
    """

    def __init__(self, scope: Construct, id_: str, *, hosting: ComponentHosting, deployment: Deployment) -> None:
        super().__init__(scope, id_, deployment=deployment)
        starts = StartTimeouts.of(hosting, deployment.size_gib)
        self._configure(
            [
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=ONLY_VARIANT,
                    instance_type=hosting.instance_type,
                    # The API takes no 0; without a copy the instance goes again.
                    initial_instance_count=max(1, hosting.min_instances),
                    managed_instance_scaling=sagemaker.CfnEndpointConfig.ManagedInstanceScalingProperty(
                        status="ENABLED",
                        min_instance_count=hosting.min_instances,
                        max_instance_count=hosting.max_instances,
                    ),
                    volume_size_in_gb=volume_gb(hosting, hosting.instance_type, deployment.size_gib),
                    inference_ami_version=host_image(hosting, hosting.instance_type),
                    routing_config=BY_LOAD,
                )
            ],
            models=[],
            # Where instances are shared, these belong to the endpoint and not to a model.
            execution_role_arn=deployment.role_arn,
            enable_network_isolation=hosting.network_isolation or None,
            vpc_config=sagemaker.CfnEndpointConfig.VpcConfigProperty(
                subnets=list(deployment.subnets), security_group_ids=list(deployment.security_groups)
            )
            if deployment.subnets
            else None,
            metrics_config=SCRAPED,
        )
        self._serve()
        self.variant_names = (ONLY_VARIANT,)
        self.component_name = self.name
        self.model_name = deployment.model.name
        self._served_by = self._component(hosting, starts)
        if hosting.scaling is not None:
            self._scale(hosting.scaling, starts, after=self._served_by)

    @property
    def serves(self) -> cdk.CfnResource:
        """The component, which has the model."""
        return self._served_by

    def _component(self, hosting: ComponentHosting, starts: StartTimeouts) -> sagemaker.CfnInferenceComponent:
        model = self.deployment.model
        alarms = self._alarms(watch_component(self.name, gpu=hosting.copies.gpus > 0), hosting.rollout)
        copies = hosting.copies
        component = sagemaker.CfnInferenceComponent(
            self,
            "Component",
            # It can be changed in place, so its name stays, and with it what clients send.
            inference_component_name=self.name,
            endpoint_name=self.name,
            variant_name=ONLY_VARIANT,
            specification=sagemaker.CfnInferenceComponent.InferenceComponentSpecificationProperty(
                model_name=model.name,
                startup_parameters=sagemaker.CfnInferenceComponent.InferenceComponentStartupParametersProperty(
                    model_data_download_timeout_in_seconds=starts.download_s,
                    container_startup_health_check_timeout_in_seconds=starts.startup_s,
                ),
                compute_resource_requirements=(
                    sagemaker.CfnInferenceComponent.InferenceComponentComputeResourceRequirementsProperty(
                        number_of_accelerator_devices_required=copies.gpus or None,
                        number_of_cpu_cores_required=copies.cpu_cores,
                        min_memory_required_in_mb=copies.min_memory_mib,
                        max_memory_required_in_mb=copies.max_memory_mib,
                    )
                ),
            ),
            runtime_config=sagemaker.CfnInferenceComponent.InferenceComponentRuntimeConfigProperty(
                copy_count=max(copies.count, hosting.scaling.min_copies if hosting.scaling else 1)
            ),
            deployment_config=None
            if hosting.rollout is None
            else component_deployment_config(
                hosting.rollout, alarm_names=alarms.names if alarms else [], starts=starts
            ),
        )
        wait_for(component, model.resource, name=model.name)
        component.add_resource_dependency(self.resource)
        for alarm in alarms.alarms if alarms else ():
            component.add_resource_dependency(alarm)
        return component

    def _scale(
        self, scaling: ComponentScaling, starts: StartTimeouts, *, after: sagemaker.CfnInferenceComponent
    ) -> None:
        capacity = Capacity(
            self,
            "Scaling",
            of=of_component(self.name),
            dimension=COPIES,
            minimum=scaling.min_copies,
            maximum=scaling.max_copies,
            after=after,
            out_cooldown_s=scaling.scale_out_cooldown_s,
            in_cooldown_s=scaling.scale_in_cooldown_s,
        )
        capacity.track(CONCURRENT_REQUESTS_PER_COPY, target=scaling.concurrent_requests)
        if scaling.min_copies == 0:
            capacity.wake(
                "NoCapacityInvocationFailures",
                dimension=("InferenceComponentName", self.name),
                statistic="Sum",
                start_s=starts.total_s,
            )
