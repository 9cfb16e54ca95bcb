"""Endpoint: the model, the instances that serve it, and the role they run under."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from infra import validation
from infra.configuration import Stage
from infra.execution_role import ExecutionRole
from infra.image import resolve_image
from infra.model import Model
from infra.names import BATCH_INPUT_PREFIX, BATCH_OUTPUT_PREFIX, MODELS_PREFIX
from infra.realtime_endpoint import RealtimeEndpoint
from infra.stage_stack import StageStack


class EndpointStack(StageStack):
    """One model behind one endpoint; batch transform jobs run the same model by its name."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage) -> None:
        super().__init__(scope, unit, stage=stage, description=f"Endpoint of {stage.prefix} {stage.name}")
        names = self.names
        bucket = names.bucket(self)
        image = resolve_image(self, stage.image, repository_name=names.repository)
        role = ExecutionRole(self, "ExecutionRole", endpoint_name=names.endpoint)
        role.may_list(self._s3_arn(bucket))
        role.may_read("ReadModels", self._s3_arn(bucket, f"{MODELS_PREFIX}*"))
        role.may_read("ReadBatchInput", self._s3_arn(bucket, f"{BATCH_INPUT_PREFIX}*"))
        role.may_write("WriteBatchOutput", self._s3_arn(bucket, f"{BATCH_OUTPUT_PREFIX}*"))
        if stage.model_data_url is not None:
            # It may lie in any bucket.
            role.may_read("ReadThisModel", self._s3_arn(stage.model_data_url.removeprefix("s3://")))
        if image.repository_arn is not None:
            role.may_pull_from(image.repository_arn)
        model = Model(
            self,
            "Model",
            prefix=names.endpoint,
            image_uri=image.uri,
            model_data_url=stage.model_data_url or f"s3://{bucket}/{MODELS_PREFIX}model.tar.gz",
            environment=validation.container_environment(stage),
            role_arn=role.role.role_arn,
            network_isolation=stage.hosting.network_isolation,
        )
        endpoint = RealtimeEndpoint(self, "Endpoint", name=names.endpoint, model=model, hosting=stage.hosting)
        if stage.model_data_url is None:
            self._warn_about_the_default_archive(stage)

        self.output("EndpointName", names.endpoint, "For invoke_endpoint")
        self.output("EndpointConfigName", endpoint.config_name, "What the endpoint runs now")
        self.output("ModelName", model.name, "For create_transform_job")
        self.output("ExecutionRoleArn", role.role.role_arn, "The role of the endpoint and of transform jobs")
        self.output("BucketName", bucket, "models/, batch/input/ and batch/output/ are what the role may touch")

    def _s3_arn(self, *parts: str) -> str:
        return self.format_arn(service="s3", region="", account="", resource="/".join(parts))

    def _warn_about_the_default_archive(self, stage: Stage) -> None:
        cdk.Annotations.of(self).add_warning_v2(
            "tidegate:default-model",
            f"no model archive is named, so {self.names.endpoint} takes {MODELS_PREFIX}model.tar.gz of its bucket, and "
            "a new archive at that key would not reach it; give -c model_data_url=s3://… or write "
            f"{stage.name}'s model_data_url in infra/stages.py",
        )
