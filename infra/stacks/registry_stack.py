"""Registry: the repository that the stage's serving image is pushed to."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_kms as kms
from constructs import Construct

from tidegate.infra.configuration import Stage
from tidegate.infra.sharing import statements
from tidegate.infra.stacks.stage_stack import StageStack


class RegistryStack(StageStack):
    """The stage's image repository: a tag names one image for ever, and every push is scanned."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage) -> None:
        super().__init__(
            scope, unit, stage=stage, holds_data=True, description=f"Serving images of {stage.prefix} {stage.name}"
        )
        key = None if self.key_arn is None else kms.Key.from_key_arn(self, "Key", self.key_arn)
        repository = ecr.Repository(
            self,
            "Images",
            repository_name=self.names.repository,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            image_scan_on_push=True,
            encryption=ecr.RepositoryEncryption.AES_256 if key is None else ecr.RepositoryEncryption.KMS,
            encryption_key=key,
            lifecycle_rules=[
                ecr.LifecycleRule(
                    rule_priority=1,
                    description="images without a tag",
                    tag_status=ecr.TagStatus.UNTAGGED,
                    max_image_age=cdk.Duration.days(7),
                ),
                ecr.LifecycleRule(
                    rule_priority=2,
                    description="all but the newest images",
                    tag_status=ecr.TagStatus.ANY,
                    max_image_count=stage.retention.images,
                ),
            ],
            empty_on_delete=not stage.retention.keep_data,
            removal_policy=self.removal_policy,
        )
        if stage.shared_with:
            repository.add_to_resource_policy(statements.pull_images(stage.shared_with))
        self.output("RepositoryUri", repository.repository_uri, "Push the serving image here")
