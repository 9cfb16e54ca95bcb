"""The properties of an endpoint configuration: variants, a shadow, where answers go, what is kept of them."""

from __future__ import annotations

from typing import Any

from aws_cdk import aws_sagemaker as sagemaker

from tidegate.infra.configuration.hosting import AsyncHosting, Capture
from tidegate.infra.hosting import instance_types
from tidegate.infra.hosting.deployment import Deployment
from tidegate.infra.hosting.plan import EndpointPlan, InstancesPlan, VariantPlan
from tidegate.infra.hosting.result_topics import ResultTopics

_Config = sagemaker.CfnEndpointConfig

# The times of requests to a model differ with their bodies; random routing, the default, would queue behind a slow one
# while another instance is idle.
_BY_LOAD = _Config.RoutingConfigProperty(routing_strategy="LEAST_OUTSTANDING_REQUESTS")
# Our server's own series, through the platform's scraping of /metrics; written out, because what SageMaker takes for
# granted depends on how old the configuration is.
_SCRAPED = _Config.MetricsConfigProperty(enable_detailed_observability=True, metric_publish_frequency_in_seconds=60)
_CAPTURED = {"input": ("Input",), "output": ("Output",), "input_and_output": ("Input", "Output")}


def properties(plan: EndpointPlan, deployment: Deployment, topics: ResultTopics | None) -> dict[str, Any]:
    """All but the name."""
    has_model = plan.component is None
    found: dict[str, Any] = {
        "production_variants": [_variant(variant, deployment, has_model=has_model) for variant in plan.variants]
    }
    if plan.shadow is not None:
        found["shadow_production_variants"] = [_variant(plan.shadow, deployment, has_model=has_model)]
    if plan.capture is not None:
        found["data_capture_config"] = _capture(plan.capture, deployment)
    if plan.results is not None:
        found["async_inference_config"] = _results(plan.results, deployment, topics)
    if plan.scraped:
        found["metrics_config"] = _SCRAPED
    if plan.component is not None:
        # Where instances are shared, these belong to the endpoint and not to a model.
        found["execution_role_arn"] = deployment.role_arn
        if plan.component.network_isolation:
            found["enable_network_isolation"] = True
        if deployment.subnets:
            found["vpc_config"] = _Config.VpcConfigProperty(
                subnets=list(deployment.subnets), security_group_ids=list(deployment.security_groups)
            )
    # Serverless variants and local disks have no volume that a key of ours could encrypt.
    if deployment.key_arn is not None and not all(
        instance_types.has_local_storage(fleet.instance_type) for fleet in plan.fleets
    ):
        found["kms_key_id"] = deployment.key_arn
    return found


def _variant(
    variant: VariantPlan, deployment: Deployment, *, has_model: bool
) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
    found: dict[str, Any] = {}
    if has_model:
        found |= {"model_name": deployment.model_of(variant.name).name, "initial_variant_weight": variant.weight}
    if variant.by_load:
        found["routing_config"] = _BY_LOAD
    if (fleet := variant.instances) is not None:
        found |= _capacity(fleet) | {
            "initial_instance_count": fleet.first,
            "volume_size_in_gb": fleet.volume_gb,
            "inference_ami_version": fleet.host_image,
        }
        if has_model:
            found |= {
                "model_data_download_timeout_in_seconds": fleet.starts.download_s,
                "container_startup_health_check_timeout_in_seconds": fleet.starts.startup_s,
            }
        if fleet.managed:
            found["managed_instance_scaling"] = _Config.ManagedInstanceScalingProperty(
                status="ENABLED", min_instance_count=fleet.least, max_instance_count=fleet.most
            )
    if (serverless := variant.serverless) is not None:
        found["serverless_config"] = _Config.ServerlessConfigProperty(
            memory_size_in_mb=serverless.memory_mib,
            max_concurrency=serverless.max_concurrency,
            provisioned_concurrency=serverless.provisioned_concurrency,
        )
    return _Config.ProductionVariantProperty(variant_name=variant.name, **found)


def _capacity(fleet: InstancesPlan) -> dict[str, Any]:
    """Of which type the instances are, and where they come from. With several types `InstanceType` has no place.

    Source: SageMaker guide, instance pools; training plans for inference endpoints.
    """
    found: dict[str, Any] = {"variant_instance_provision_timeout_in_seconds": fleet.provision_timeout_s}
    if fleet.reservation is not None:
        found["capacity_reservation_config"] = _Config.CapacityReservationConfigProperty(
            capacity_reservation_preference="capacity-reservations-only", ml_reservation_arn=fleet.reservation
        )
    if not fleet.fallbacks:
        return found | {"instance_type": fleet.instance_type}
    return found | {
        "instance_pools": [
            _Config.InstancePoolProperty(instance_type=instance_type, priority=priority)
            for priority, instance_type in enumerate(fleet.types, start=1)
        ]
    }


def _capture(capture: Capture, deployment: Deployment) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
    """Requests and answers, kept as JSON lines. SageMaker adds endpoint, variant and hour to the path.

    Only real-time endpoints have it: serverless ones do not support it, and an asynchronous one keeps every request and
    answer in S3 anyway. Source: SageMaker guide, serverless endpoints, feature exclusions.
    """
    return _Config.DataCaptureConfigProperty(
        enable_capture=True,
        initial_sampling_percentage=capture.percent,
        destination_s3_uri=deployment.below(capture.prefix.rstrip("/")),
        kms_key_id=deployment.key_arn,
        capture_options=[_Config.CaptureOptionProperty(capture_mode=mode) for mode in _CAPTURED[capture.what]],
        # As text where it is text; everything else is base64.
        capture_content_type_header=_Config.CaptureContentTypeHeaderProperty(
            csv_content_types=["text/csv"], json_content_types=["application/json", "application/jsonlines"]
        ),
    )


def _results(
    hosting: AsyncHosting, deployment: Deployment, topics: ResultTopics | None
) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty:
    most = hosting.max_concurrent_invocations_per_instance
    return _Config.AsyncInferenceConfigProperty(
        output_config=_Config.AsyncInferenceOutputConfigProperty(
            s3_output_path=deployment.below(hosting.output_prefix),
            s3_failure_path=deployment.below(hosting.failure_prefix),
            kms_key_id=deployment.key_arn,
            notification_config=None
            if topics is None
            else _Config.AsyncInferenceNotificationConfigProperty(
                success_topic=topics.success.topic_arn, error_topic=topics.failure.topic_arn
            ),
        ),
        client_config=None
        if most is None
        else _Config.AsyncInferenceClientConfigProperty(max_concurrent_invocations_per_instance=most),
    )
