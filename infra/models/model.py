"""The model: an image, what it serves and an environment under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.models.model_source import ModelSource
from tidegate.infra.stage.names import content_name

_CfnModel = sagemaker.CfnModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A container in front of the model's own, or behind it. Texts may be tokens."""

    hostname: str
    source: ModelSource
    image_uri: str
    environment: Mapping[str, str]
    # Not in Amazon ECR: pulled through the VPC.
    foreign_registry: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """All containers of a model: its own, by its name, and those before and after it."""

    hostname: str
    before: Sequence[Beside]
    after: Sequence[Beside]
    # A request names the container that answers it, and passes no other.
    direct: bool


class Model(Construct):
    """What endpoints and transform jobs run. Its name changes with its content; see `content_name`.

    A package that is only known as a parameter is content that synthesis does not see, so CloudFormation names that
    model, and makes a new one when the parameter changes.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        prefix: str,
        source: ModelSource,
        # None where the source is a package, which brings its own.
        image_uri: str | None,
        environment: Mapping[str, str],
        role_arn: str,
        network_isolation: bool = False,
        subnets: Sequence[str] = (),
        security_groups: Sequence[str] = (),
        # Changes with the network, whose ids are known at the deploy only.
        network_content: Any = None,
        # Not in Amazon ECR: pulled through the VPC.
        foreign_registry: bool = False,
        # None: one model. Else archives below a prefix, kept in memory or not.
        cache_models: bool | None = None,
        # None: its own container is all.
        pipeline: Pipeline | None = None,
    ) -> None:
        super().__init__(scope, id_)
        container: dict[str, Any] = {
            "image": image_uri,
            "image_config": _image_config(foreign_registry),
            "environment": dict(environment),
            "model_data_url": source.data_url,
            "model_data_source": None if source.files_url is None else _files(source.files_url),
            "model_package_name": source.package_arn,
            "mode": None if cache_models is None else "MultiModel",
            "multi_model_config": None if cache_models is None else _multi_model(cache_models),
        }
        # With its id, so that two variants of the same content are two models.
        content = [id_, container, role_arn, network_isolation, network_content]
        containers: dict[str, Any] = {"primary_container": _CfnModel.ContainerDefinitionProperty(**container)}
        if pipeline is not None:
            containers = _containers(pipeline, container)
            content.append(containers)
        named = not cdk.Token.is_unresolved(source.package_arn)
        # L1, because the L2 of SageMaker is experimental and knows only a part of this.
        self.resource = _CfnModel(
            self,
            "Model",
            model_name=content_name(cdk.Stack.of(self), prefix, content) if named else None,
            execution_role_arn=role_arn,
            enable_network_isolation=network_isolation or None,
            **containers,
            vpc_config=_CfnModel.VpcConfigProperty(subnets=list(subnets), security_group_ids=list(security_groups))
            if subnets
            else None,
        )
        self._name = self.resource.model_name or self.resource.attr_model_name
        # The one archive that this model runs; None where it runs something else.
        self.archive = source.data_url if cache_models is None else None

    @property
    def name(self) -> str:
        """The model's name; a token where CloudFormation chooses it."""
        return self._name


def _containers(pipeline: Pipeline, own: Mapping[str, Any]) -> dict[str, Any]:
    """Every container has a name, or none may: API reference, ContainerDefinition.ContainerHostname."""
    definition = _CfnModel.ContainerDefinitionProperty
    return {
        "containers": [
            *(_beside(each) for each in pipeline.before),
            definition(container_hostname=pipeline.hostname, **own),
            *(_beside(each) for each in pipeline.after),
        ],
        "inference_execution_config": _CfnModel.InferenceExecutionConfigProperty(
            mode="Direct" if pipeline.direct else "Serial"
        ),
    }


def _beside(container: Beside) -> sagemaker.CfnModel.ContainerDefinitionProperty:
    return _CfnModel.ContainerDefinitionProperty(
        container_hostname=container.hostname,
        image=container.image_uri,
        image_config=_image_config(container.foreign_registry),
        environment=dict(container.environment) or None,
        model_data_url=container.source.data_url,
    )


def _image_config(foreign_registry: bool) -> sagemaker.CfnModel.ImageConfigProperty | None:
    return _CfnModel.ImageConfigProperty(repository_access_mode="Vpc") if foreign_registry else None


def _files(url: str) -> sagemaker.CfnModel.ModelDataSourceProperty:
    return _CfnModel.ModelDataSourceProperty(
        s3_data_source=_CfnModel.S3DataSourceProperty(s3_uri=url, s3_data_type="S3Prefix", compression_type="None")
    )


def _multi_model(cache: bool) -> sagemaker.CfnModel.MultiModelConfigProperty:
    return _CfnModel.MultiModelConfigProperty(model_cache_setting="Enabled" if cache else "Disabled")
