"""The endpoint that is always on: instances, how they start, and how requests are spread over them."""

from __future__ import annotations

from dataclasses import asdict

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra import instance_types
from infra.configuration import Hosting
from infra.model import Model
from infra.names import content_name

# Deployment guardrails compare the old and the new configuration by this name, so it never changes.
VARIANT = "primary"


class RealtimeEndpoint(Construct):
    """One variant behind one name that clients keep.

    A new configuration is made beside the old one; SageMaker starts its instances, moves the traffic when they answer
    /ping, and only then stops the old ones.
    """

    def __init__(self, scope: Construct, id_: str, *, name: str, model: Model, hosting: Hosting) -> None:
        super().__init__(scope, id_)
        ami = hosting.inference_ami or instance_types.default_ami(hosting.instance_type)
        content = {"model": model.name, "variant": VARIANT, "ami": ami, "hosting": asdict(hosting)}
        self.config_name = content_name(cdk.Stack.of(self), name, content)
        config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            endpoint_config_name=self.config_name,
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=VARIANT,
                    model_name=model.name,
                    instance_type=hosting.instance_type,
                    initial_instance_count=hosting.instance_count,
                    initial_variant_weight=1,
                    inference_ami_version=ami,
                    container_startup_health_check_timeout_in_seconds=hosting.startup_timeout_s,
                    model_data_download_timeout_in_seconds=hosting.model_download_timeout_s,
                    # The times of requests to a model differ with their bodies; random routing, the default, would
                    # queue behind a slow one while another instance is idle.
                    routing_config=sagemaker.CfnEndpointConfig.RoutingConfigProperty(
                        routing_strategy="LEAST_OUTSTANDING_REQUESTS"
                    ),
                )
            ],
        )
        config.add_resource_dependency(model.resource)
        endpoint = sagemaker.CfnEndpoint(self, "Endpoint", endpoint_name=name, endpoint_config_name=self.config_name)
        endpoint.add_resource_dependency(config)
