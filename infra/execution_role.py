"""What the endpoint and its transform jobs may do in the account."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.acknowledgements import acknowledge_wildcard


class ExecutionRole(Construct):
    """The role that SageMaker takes on. It may write its logs and metrics; everything else is given by `may_…`.

    Statements are explicit instead of the CDK's grants, which allow `s3:GetObject*`, `s3:List*` and the like. They are
    in the role itself, so that it is complete when the model that needs it is made.
    """

    def __init__(self, scope: Construct, id_: str, *, endpoint_name: str) -> None:
        super().__init__(scope, id_)
        self._policy = iam.PolicyDocument()
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
            description=f"Endpoint {endpoint_name} and its batch transform jobs",
            inline_policies={"inference": self._policy},
        )
        self._may_write_logs(f"/aws/sagemaker/Endpoints/{endpoint_name}", "/aws/sagemaker/TransformJobs")
        self._allow("PublishMetrics", ["cloudwatch:PutMetricData"], ["*"])
        acknowledge_wildcard(self.role, "*", "cloudwatch:PutMetricData and ecr:GetAuthorizationToken know no resources")

    def may_list(self, bucket_arn: str) -> None:
        """Without it a missing object is reported as a forbidden one."""
        self._allow("ListBucket", ["s3:ListBucket"], [bucket_arn])

    def may_read(self, sid: str, *object_arns: str) -> None:
        """Objects of a bucket, by their key or by a prefix that ends in `*`."""
        self._allow(sid, ["s3:GetObject"], object_arns)
        self._acknowledge(object_arns, "models and records of one prefix, whose keys are not known beforehand")

    def may_write(self, sid: str, *object_arns: str) -> None:
        """Objects of a bucket, in parts where they are large."""
        self._allow(sid, ["s3:PutObject", "s3:AbortMultipartUpload"], object_arns)
        self._acknowledge(object_arns, "results below one prefix; SageMaker names each after its input")

    def may_pull_from(self, repository_arn: str) -> None:
        """Images of one repository."""
        self._allow("LogInToRegistry", ["ecr:GetAuthorizationToken"], ["*"])
        self._allow(
            "PullImage",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [repository_arn],
        )

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

    def _allow(self, sid: str, actions: list[str], resources: list[str] | tuple[str, ...]) -> None:
        self._policy.add_statements(
            iam.PolicyStatement(sid=sid, effect=iam.Effect.ALLOW, actions=actions, resources=list(resources))
        )

    def _acknowledge(self, resources: list[str] | tuple[str, ...], reason: str) -> None:
        for resource in resources:
            if resource.endswith("*"):
                acknowledge_wildcard(self.role, resource, reason)
