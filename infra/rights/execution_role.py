"""What the endpoint and its transform jobs may do in the account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from tidegate.infra.configuration.role import Role as RoleWanted
from tidegate.infra.rights.acknowledgements import acknowledge_wildcard


class ExecutionRole(Construct):
    """The role that SageMaker takes on. It may write its logs and metrics; everything else is given by `may_…`.

    Statements are explicit instead of the CDK's grants, which allow `s3:GetObject*`, `s3:List*` and the like. They are
    in the role itself, so that it is complete when the model that needs it is made.

    Where the stage file names a role that is there, none is made; what it must be allowed is in the template's metadata
    under `metadata`, for whoever looks after it.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        purpose: str,
        log_groups: Sequence[str],
        wanted: RoleWanted,
        metadata: str = "ExecutionPolicy",
    ) -> None:
        super().__init__(scope, id_)
        self._policy = iam.PolicyDocument()
        self._role: iam.Role | None = None
        if wanted.arn is not None:
            self.arn = wanted.arn
            cdk.Stack.of(self).add_metadata(metadata, self._policy)
        else:
            self._role = self._make(purpose, wanted)
            self.arn = self._role.role_arn
        self._may_write_logs(*log_groups)
        self._allow("PublishMetrics", ["cloudwatch:PutMetricData"], ["*"])
        self._accept("*", "PutMetricData, GetAuthorizationToken and ec2:Describe… know no resources")
        for number, statement in enumerate(wanted.statements, start=1):
            self._allow(f"Own{number}", statement.actions, statement.resources, statement.conditions or None)
            self._acknowledge(statement.resources, "the stage file says so")

    def _make(self, purpose: str, wanted: RoleWanted) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
            description=purpose,
            inline_policies={"inference": self._policy},
            managed_policies=[
                iam.ManagedPolicy.from_managed_policy_arn(self, f"Policy{number}", arn)
                for number, arn in enumerate(wanted.managed_policies, start=1)
            ],
        )
        for arn in wanted.managed_policies:
            accepted = cdk.Acknowledgment(id=f"AwsSolutions-IAM4[Policy::{arn}]", reason="the stage file says so")
            cdk.Validations.of(role).acknowledge(accepted)
        return role

    def may_list(self, sid: str, bucket_arn: str, *, below: str | None = None) -> None:
        """Find the objects of a bucket, or with `below` only those whose keys begin so.

        Without it a missing object is reported as a forbidden one.
        """
        conditions = {"StringLike": {"s3:prefix": [f"{below}*"]}} if below else None
        self._allow(sid, ["s3:ListBucket"], [bucket_arn], conditions)

    def may_read(self, sid: str, *object_arns: str) -> None:
        """Objects of a bucket, by their key or by a prefix that ends in `*`."""
        self._allow(sid, ["s3:GetObject"], object_arns)
        self._acknowledge(object_arns, "models and records of one prefix, whose keys are not known beforehand")

    def may_write(self, sid: str, *object_arns: str) -> None:
        """Objects of a bucket, in parts where they are large."""
        self._allow(sid, ["s3:PutObject", "s3:AbortMultipartUpload"], object_arns)
        self._acknowledge(object_arns, "results below one prefix; SageMaker names each after its input")

    def may_pull_from(self, *repository_arns: str) -> None:
        """Images of these repositories."""
        self._allow("LogInToRegistry", ["ecr:GetAuthorizationToken"], ["*"])
        self._allow(
            "PullImage",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            repository_arns,
        )

    def may_publish_to(self, topic_arns: Sequence[str]) -> None:
        """Say that an asynchronous answer is there, or why there is none."""
        self._allow("Notify", ["sns:Publish"], topic_arns)

    def may_describe_alarms(self, alarm_arns: Sequence[str]) -> None:
        """Look at the alarms that send a new version back. Source: SageMaker guide, auto-rollback configuration."""
        self._allow("WatchRollout", ["cloudwatch:DescribeAlarms"], alarm_arns)

    def may_decrypt(self, sid: str, key_arn: str) -> None:
        """Read objects of S3 that are encrypted with this key. Source: KMS guide, kms:ViaService."""
        region = key_arn.split(":")[3]
        conditions = {"StringLike": {"kms:ViaService": [f"s3.{region}.amazonaws.com*"]}}
        self._allow(sid, ["kms:Decrypt"], [key_arn], conditions)

    def may_use_key(self, key_arn: str) -> None:
        """Read and write what is encrypted with the stage's key, and let the hosts' volumes be encrypted with it."""
        self._allow("UseKey", ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], [key_arn])
        conditions = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
        self._allow("LendKeyToVolumes", ["kms:CreateGrant"], [key_arn], conditions)

    def may_install_from(self, repository_arn: str) -> None:
        """Packages of a CodeArtifact repository: the login to its domain, its address, and what it holds.

        Source: CodeArtifact guide, "Using IAM", and IAM guide, "Service bearer tokens".
        """
        service, name = repository_arn.rsplit(":", 1)
        domain = f"{service}:domain/{name.split('/')[1]}"
        self._allow("LogInToPackages", ["codeartifact:GetAuthorizationToken"], [domain])
        self._allow(
            "ReadPackages", ["codeartifact:GetRepositoryEndpoint", "codeartifact:ReadFromRepository"], [repository_arn]
        )
        conditions = {"StringEquals": {"sts:AWSServiceName": "codeartifact.amazonaws.com"}}
        self._allow("TakeToken", ["sts:GetServiceBearerToken"], ["*"], conditions)

    def may_join_network(self, *, subnets_owner: str | None = None) -> None:
        """Put the containers' network interfaces into a VPC. Source: SageMaker guide, roles, CreateModel with a VPC.

        `subnets_owner` is the account that shares the subnets, where that is another one.
        """
        stack = cdk.Stack.of(self)
        owners = {"network-interface": None, "subnet": subnets_owner, "security-group": None}
        interfaces, subnets, groups = (
            stack.format_arn(service="ec2", resource=kind, resource_name="*", account=owner)
            for kind, owner in owners.items()
        )
        self._allow("JoinNetwork", ["ec2:CreateNetworkInterface"], [interfaces, subnets, groups])
        self._allow(
            "ManageInterfaces",
            [
                "ec2:CreateNetworkInterfacePermission",
                "ec2:DeleteNetworkInterface",
                "ec2:DeleteNetworkInterfacePermission",
            ],
            [interfaces],
        )
        self._allow(
            "SeeNetwork",
            [
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ],
            ["*"],
        )
        self._acknowledge([interfaces, subnets, groups], "SageMaker makes the interfaces, and AWS chose the other ids")

    def _may_write_logs(self, *group_names: str) -> None:
        groups = [
            cdk.Stack.of(self).format_arn(
                service="logs",
                resource="log-group",
                resource_name=name,
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            for name in group_names
        ]
        streams = [f"{group}:*" for group in groups]
        self._allow(
            "WriteLogs",
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [*groups, *streams],
        )
        self._acknowledge(streams, "SageMaker chooses the names of the log streams")

    def _allow(
        self, sid: str, actions: Sequence[str], resources: Sequence[str], conditions: Mapping[str, object] | None = None
    ) -> None:
        self._policy.add_statements(
            iam.PolicyStatement(
                sid=sid,
                effect=iam.Effect.ALLOW,
                actions=list(actions),
                resources=list(resources),
                conditions=conditions,
            )
        )

    def _acknowledge(self, resources: Sequence[str], reason: str) -> None:
        for resource in resources:
            if "*" in resource:
                self._accept(resource, reason)

    def _accept(self, resource: str, reason: str) -> None:
        if self._role is not None:
            acknowledge_wildcard(self._role, resource, reason)
