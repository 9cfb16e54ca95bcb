"""Models: the stage's model package group and, where the stage asks for it, promotion by approval."""

from __future__ import annotations

from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.operations import ModelRegistry
from tidegate.infra.promotion.promotion import Promotion
from tidegate.infra.sharing import statements
from tidegate.infra.stacks.stage_stack import StageStack


class ModelsStack(StageStack):
    """Versions of the stage's model, each with what it was measured at and who approved it."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage, registry: ModelRegistry) -> None:
        super().__init__(
            scope, unit, stage=stage, holds_data=True, description=f"Model registry of {stage.prefix} {stage.name}"
        )
        group = registry.group or self.names.model_group
        resource = sagemaker.CfnModelPackageGroup(
            self,
            "Group",
            model_package_group_name=group,
            model_package_group_description=f"Models of {stage.prefix} {stage.name}",
            model_package_group_policy=statements.deploy_versions(stage.shared_with, self, group)
            if stage.shared_with
            else None,
        )
        resource.apply_removal_policy(self.removal_policy)
        self.output(
            "ModelPackageGroupName",
            group,
            "For `tidegate models register`; `… models delete --all` before the stack is destroyed",
        )
        if registry.promotion:
            promotion = Promotion(
                self,
                "Promotion",
                names=self.names,
                group=group,
                component=stage.hosting.mode == "component",
                email=registry.email,
                key_arn=self.key_arn,
            )
            self.output("PromotionMachineArn", promotion.machine.arn, "Its executions are the roll-outs")
            self.output("TopicArn", promotion.topic.arn, "Says how each roll-out ended")
