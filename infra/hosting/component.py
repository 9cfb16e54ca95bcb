"""The inference component: copies of a model that share the instances of an endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.hosting.deployment import Deployment, wait_for
from tidegate.infra.hosting.plan import ComponentPlan
from tidegate.infra.hosting.rollout import component_deployment_config

_Component = sagemaker.CfnInferenceComponent


def render(
    scope: Construct,
    plan: ComponentPlan,
    deployment: Deployment,
    *,
    variant_name: str,
    alarm_names: Sequence[str],
) -> sagemaker.CfnInferenceComponent:
    """It is called like its endpoint. It can be changed in place, so its name stays, and with it what clients send."""
    model, copies = deployment.model, plan.copies
    component = _Component(
        scope,
        "Component",
        inference_component_name=deployment.endpoint_name,
        endpoint_name=deployment.endpoint_name,
        variant_name=variant_name,
        specification=_Component.InferenceComponentSpecificationProperty(
            model_name=model.name,
            startup_parameters=_Component.InferenceComponentStartupParametersProperty(
                model_data_download_timeout_in_seconds=plan.starts.download_s,
                container_startup_health_check_timeout_in_seconds=plan.starts.startup_s,
            ),
            compute_resource_requirements=_Component.InferenceComponentComputeResourceRequirementsProperty(
                number_of_accelerator_devices_required=copies.gpus or None,
                number_of_cpu_cores_required=copies.cpu_cores,
                min_memory_required_in_mb=copies.min_memory_mib,
                max_memory_required_in_mb=copies.max_memory_mib,
            ),
            data_cache_config=None
            if plan.data_cache is None
            else _Component.InferenceComponentDataCacheConfigProperty(enable_caching=plan.data_cache),
        ),
        runtime_config=_Component.InferenceComponentRuntimeConfigProperty(copy_count=plan.count),
        deployment_config=None
        if plan.rollout is None
        else component_deployment_config(plan.rollout, alarm_names=alarm_names, starts=plan.starts),
    )
    wait_for(component, model.resource, name=model.name)
    return component
