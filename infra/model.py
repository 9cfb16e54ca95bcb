"""The model: an image, an archive and an environment under one name."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.names import content_name


class Model(Construct):
    """What endpoints and transform jobs run. Its name changes with its content; see `content_name`."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        prefix: str,
        image_uri: str,
        model_data_url: str,
        environment: Mapping[str, str],
        role_arn: str,
        network_isolation: bool,
    ) -> None:
        super().__init__(scope, id_)
        content = {
            "image": image_uri,
            "data": model_data_url,
            "environment": dict(environment),
            "role": role_arn,
            "isolation": network_isolation,
        }
        self.name = content_name(cdk.Stack.of(self), prefix, content)
        # L1, because the L2 of SageMaker is experimental and knows only a part of what later stages need.
        self.resource = sagemaker.CfnModel(
            self,
            "Model",
            model_name=self.name,
            execution_role_arn=role_arn,
            enable_network_isolation=network_isolation,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image_uri,
                model_data_url=model_data_url,
                environment=dict(environment),
            ),
        )
