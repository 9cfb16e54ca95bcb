"""The base of our stacks: a stack belongs to a stage, and the stage knows its name, place, key and fate."""

from __future__ import annotations

from functools import cached_property

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from tidegate.infra.configuration import Stage
from tidegate.infra.stage.names import Names


class StageStack(cdk.Stack):
    """One deployable unit of one stage.

    The construct's id is the unit (`cdk deploy storage`), the stack's name carries the stage (`tidegate-dev-storage`),
    so that the commands are the same for every stage.
    """

    def __init__(
        self, scope: Construct, unit: str, *, stage: Stage, description: str, holds_data: bool = False
    ) -> None:
        self.names = Names(prefix=stage.prefix, stage=stage.name)
        self._key = stage.encryption.key
        super().__init__(
            scope,
            unit,
            stack_name=self.names.stack(unit),
            description=description,
            env=cdk.Environment(account=stage.account, region=stage.region),
            termination_protection=holds_data and stage.retention.keep_data,
            synthesizer=None if stage.bootstrapped else cdk.BootstraplessSynthesizer(),
            tags={"project": stage.prefix, "stage": stage.name} | dict(stage.tags),
        )
        if (boundary := stage.role.permissions_boundary) is not None:
            policy = iam.ManagedPolicy.from_managed_policy_arn(self, "PermissionsBoundary", boundary)
            iam.PermissionsBoundary.of(self).apply(policy)
        # Of what holds data. A creation that fails takes it away again, or its name would stop the next one.
        self.removal_policy = (
            cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if stage.retention.keep_data else cdk.RemovalPolicy.DESTROY
        )

    @cached_property
    def key_arn(self) -> str | None:
        """The stage's KMS key; None for keys that AWS owns.

        That of a new key is known to the storage stack only, which keeps it in Parameter Store; this stack then has a
        parameter that CloudFormation fills in from there.
        """
        if self._key == "new":
            return ssm.StringParameter.value_for_string_parameter(self, self.names.key_parameter)
        return None if self._key == "aws" else self._key

    def output(self, name: str, value: str, description: str) -> cdk.CfnOutput:
        """Show `value` after a deploy, under exactly this name."""
        return cdk.CfnOutput(self, name, value=value, description=description)
