"""A managed policy that nobody has by itself: the account's people give it to their roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from aws_cdk import aws_iam as iam
from constructs import Construct

from tidegate.infra.rights.acknowledgements import acknowledge_wildcard


class LentPolicy(Construct):
    """It allows what `may` says."""

    def __init__(self, scope: Construct, id_: str, description: str) -> None:
        super().__init__(scope, id_)
        self._document = iam.PolicyDocument()
        self._policy = iam.ManagedPolicy(self, "Policy", description=description, document=self._document)
        self.arn = self._policy.managed_policy_arn

    def has_actions_that_no_list_has(self) -> None:
        """Have cfn-lint take actions that are not in AWS's service authorization reference."""
        policy = cast("iam.CfnManagedPolicy", self._policy.node.default_child)
        policy.add_metadata("cfn-lint", {"config": {"ignore_checks": ["W3037"]}})

    def may(
        self,
        sid: str,
        actions: Sequence[str],
        resources: Sequence[str],
        *,
        below: str | None = None,
        conditions: Mapping[str, object] | None = None,
        any_because: str | None = None,
    ) -> None:
        """Allow `actions` on `resources`; `below` is a prefix of keys, for who may list a bucket."""
        if below is not None:
            conditions = {"StringLike": {"s3:prefix": [f"{below}*"]}}
        self._document.add_statements(
            iam.PolicyStatement(
                sid=sid,
                effect=iam.Effect.ALLOW,
                actions=list(actions),
                resources=list(resources),
                conditions=conditions,
            )
        )
        if any_because is not None:
            for resource in resources:
                acknowledge_wildcard(self._policy, resource, any_because)
