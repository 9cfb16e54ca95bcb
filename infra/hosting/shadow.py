"""The shadow variant: it gets a copy of the requests, and nobody sees its answers."""

from __future__ import annotations

from aws_cdk import aws_sagemaker as sagemaker

from tidegate.infra.configuration.hosting import RealtimeHosting, Shadow
from tidegate.infra.hosting.variant_plans import StartTimeouts, VariantPlan
from tidegate.infra.hosting.variants import BY_LOAD, production_variant


def shadow_variant(
    shadow: Shadow,
    *,
    production: VariantPlan,
    model_name: str,
    hosting: RealtimeHosting,
    starts: StartTimeouts,
    size_gib: float | None,
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    """Beside exactly one production variant: SageMaker copies to one shadow of one variant.

    Its part of the requests is the ratio of its weight to the production variant's. Source: SageMaker guide, shadow
    variants; API reference, CreateEndpointConfig.ShadowProductionVariants.
    """
    plan = VariantPlan(
        name=shadow.name,
        instance_type=shadow.instance_type or hosting.instance_type,
        instance_count=shadow.instance_count,
        weight=production.weight * shadow.percent / 100,
    )
    return production_variant(
        plan, model_name=model_name, hosting=hosting, starts=starts, size_gib=size_gib, routing_config=BY_LOAD
    )
