"""What the endpoint and its transform jobs may do in the account."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.acknowledgements import acknowledge_wildcard


class ExecutionRole(Construct):
    """The role that SageMaker takes to pull the image, fetch the archive, run transform jobs, log and publish metrics.

    Statements are explicit instead of `grant_*`, which allow `s3:GetObject*`, `s3:List*` and the like.
    They are inline, so that the role is complete when the model that needs it is made.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        bucket_arn: str,
        readable_prefixes: Sequence[str],
        writable_prefixes: Sequence[str],
        foreign_model_arn: str | None,
        repository_arn: str | None,
        endpoint_name: str,
    ) -> None:
        """`foreign_model_arn` is the archive's own ARN where it lies in another bucket."""
        super().__init__(scope, id_)
        readable = [f"{bucket_arn}/{prefix}*" for prefix in readable_prefixes]
        writable = [f"{bucket_arn}/{prefix}*" for prefix in writable_prefixes]
        log_groups = [
            cdk.Stack.of(self).format_arn(
                service="logs",
                resource="log-group",
                resource_name=name,
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            for name in (f"/aws/sagemaker/Endpoints/{endpoint_name}", "/aws/sagemaker/TransformJobs")
        ]
        streams = [f"{group}:*" for group in log_groups]
        statements = [
            _allow("ReadModelsAndBatchInput", ["s3:GetObject"], [*readable, *_present(foreign_model_arn)]),
            _allow("WriteBatchOutput", ["s3:PutObject", "s3:AbortMultipartUpload"], writable),
            # Without it a missing archive is reported as forbidden.
            _allow("ListBucket", ["s3:ListBucket"], [bucket_arn]),
            _allow(
                "WriteLogs",
                ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                [*log_groups, *streams],
            ),
            # PutMetricData and GetAuthorizationToken know no resources: AWS offers only "*" for them.
            _allow("PublishMetrics", ["cloudwatch:PutMetricData"], ["*"]),
        ]
        if repository_arn is not None:
            statements += [
                _allow("LogInToRegistry", ["ecr:GetAuthorizationToken"], ["*"]),
                _allow(
                    "PullImage",
                    ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                    [repository_arn],
                ),
            ]
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"),
            description=f"Endpoint {endpoint_name} and its batch transform jobs",
            inline_policies={"inference": iam.PolicyDocument(statements=statements)},
        )
        self._acknowledge_wildcards([*readable, *writable], streams)

    def _acknowledge_wildcards(self, objects: Sequence[str], streams: Sequence[str]) -> None:
        reasons = {"*": "cloudwatch:PutMetricData and ecr:GetAuthorizationToken know no resources"}
        reasons |= dict.fromkeys(objects, "archives and batch records below one prefix of the stage's own bucket")
        reasons |= dict.fromkeys(streams, "SageMaker chooses the names of the log streams")
        for resource, reason in reasons.items():
            acknowledge_wildcard(self.role, resource, reason)


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid=sid, effect=iam.Effect.ALLOW, actions=actions, resources=resources)


def _present(value: str | None) -> list[str]:
    return [] if value is None else [value]
