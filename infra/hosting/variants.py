"""Production variants: a model on instances, and its share of the requests."""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_sagemaker as sagemaker

from tidegate.infra.configuration.hosting import Instances
from tidegate.infra.hosting.variant_plans import StartTimeouts, VariantPlan, host_image
from tidegate.infra.hosting.volumes import volume_gb

# The times of requests to a model differ with their bodies; random routing, the default, would queue behind a slow one
# while another instance is idle.
BY_LOAD = sagemaker.CfnEndpointConfig.RoutingConfigProperty(routing_strategy="LEAST_OUTSTANDING_REQUESTS")


def production_variant(
    plan: VariantPlan,
    *,
    model_name: str,
    hosting: Instances,
    starts: StartTimeouts,
    size_gib: float | None,
    **further: Any,
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    """The property of an endpoint configuration; `further` are properties that only some modes have."""
    return sagemaker.CfnEndpointConfig.ProductionVariantProperty(
        variant_name=plan.name,
        model_name=model_name,
        instance_type=plan.instance_type,
        initial_instance_count=plan.instance_count,
        initial_variant_weight=plan.weight,
        volume_size_in_gb=volume_gb(hosting, plan.instance_type, size_gib),
        inference_ami_version=host_image(hosting, plan.instance_type),
        model_data_download_timeout_in_seconds=starts.download_s,
        container_startup_health_check_timeout_in_seconds=starts.startup_s,
        **further,
    )
