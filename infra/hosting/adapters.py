"""Adapter components: fine-tuned variants of the model of another component, without resources of their own.

Source: SageMaker guide, "Fine-tune models with adapter inference components".
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.configuration.hosting import Adapter, ComponentHosting, Hosting


def component_of(endpoint_name: str, adapter: Adapter) -> str:
    """What clients send as InferenceComponentName: at most 63 characters, for an endpoint's name has at most 27."""
    return f"{endpoint_name}-{adapter.name}"


def components_of(endpoint_name: str, hosting: Hosting) -> list[str]:
    """The components that a client may ask, the base first; none in other modes."""
    if not isinstance(hosting, ComponentHosting):
        return []
    return [endpoint_name, *(component_of(endpoint_name, adapter) for adapter in hosting.adapters)]


class Adapters(Construct):
    """One component for each adapter, made after the base that it changes and deleted before it."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        adapters: Sequence[Adapter],
        endpoint_name: str,
        base: sagemaker.CfnInferenceComponent,
    ) -> None:
        super().__init__(scope, id_)
        for adapter in adapters:
            component = sagemaker.CfnInferenceComponent(
                self,
                adapter.name,
                inference_component_name=component_of(endpoint_name, adapter),
                endpoint_name=endpoint_name,
                specification=sagemaker.CfnInferenceComponent.InferenceComponentSpecificationProperty(
                    base_inference_component_name=base.inference_component_name,
                    container=sagemaker.CfnInferenceComponent.InferenceComponentContainerSpecificationProperty(
                        artifact_url=adapter.archive
                    ),
                ),
            )
            component.add_resource_dependency(base)
