"""`mode = "serverless"`: no instance to choose, paid by the request, CPU only."""

from __future__ import annotations

from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.configuration.hosting import ServerlessHosting
from tidegate.infra.hosting.deployment import Deployment
from tidegate.infra.hosting.endpoint import Endpoint
from tidegate.infra.hosting.variant_plans import ONLY_VARIANT


class ServerlessEndpoint(Endpoint):
    """One variant with memory and a limit of concurrency.

    It has no GPU, VPC, network isolation, data capture, shadow, further variant, start-up time-outs (the model must be
    there and answer /ping within 3 minutes) or roll-out of ours: SageMaker starts the new version beside the old one
    and moves all traffic. Source: SageMaker guide, serverless endpoints, feature exclusions; deployment guardrails.
    """

    def __init__(self, scope: Construct, id_: str, *, hosting: ServerlessHosting, deployment: Deployment) -> None:
        super().__init__(scope, id_, deployment=deployment)
        self._configure(
            [
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name=ONLY_VARIANT,
                    model_name=deployment.model.name,
                    initial_variant_weight=1,
                    serverless_config=sagemaker.CfnEndpointConfig.ServerlessConfigProperty(
                        memory_size_in_mb=hosting.memory_mib,
                        max_concurrency=hosting.max_concurrency,
                        provisioned_concurrency=hosting.provisioned_concurrency,
                    ),
                )
            ],
            models=[deployment.model],
        )
        self._serve()
        self.variant_names = (ONLY_VARIANT,)
        self.model_name = deployment.model.name
