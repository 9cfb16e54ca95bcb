"""`mode = "async"`: requests wait in a queue, bodies come from S3 and answers go there; may scale to no instance."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from tidegate.infra.configuration.hosting import AsyncHosting
from tidegate.infra.hosting.deployment import Deployment
from tidegate.infra.hosting.endpoint import Endpoint
from tidegate.infra.hosting.variant_plans import StartTimeouts, only_plan, smallest_fleet
from tidegate.infra.hosting.variants import production_variant
from tidegate.infra.stage.names import ASYNC_INPUT_PREFIX


class AsynchronousEndpoint(Endpoint):
    """`invoke_endpoint_async` only. Without an instance requests wait, and the first one starts an instance."""

    def __init__(self, scope: Construct, id_: str, *, hosting: AsyncHosting, deployment: Deployment) -> None:
        super().__init__(scope, id_, deployment=deployment)
        # At least one, whatever the scaling: a new version must start and answer before it replaces an old one.
        variant = only_plan(hosting.instance_type, hosting.instance_count)
        starts = StartTimeouts.of(hosting, deployment.size_gib)
        self._configure(
            # An instance fetches requests from the queue when it has room, so nothing is routed.
            [
                production_variant(
                    variant,
                    model_name=deployment.model.name,
                    hosting=hosting,
                    starts=starts,
                    size_gib=deployment.size_gib,
                )
            ],
            models=[deployment.model],
            async_inference_config=sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty(
                output_config=sagemaker.CfnEndpointConfig.AsyncInferenceOutputConfigProperty(
                    s3_output_path=self._below(hosting.output_prefix),
                    s3_failure_path=self._below(hosting.failure_prefix),
                    kms_key_id=deployment.key_arn,
                    notification_config=self._notifications(hosting),
                ),
                client_config=None
                if hosting.max_concurrent_invocations_per_instance is None
                else sagemaker.CfnEndpointConfig.AsyncInferenceClientConfigProperty(
                    max_concurrent_invocations_per_instance=hosting.max_concurrent_invocations_per_instance
                ),
            ),
        )
        scaling = hosting.scaling
        # Where the minimum is 0 there may be no instance now, and an update that kept the count would start none: the
        # new version would replace the old one unseen. It starts with the stage file's count instead, and scales in.
        keep = scaling is not None and scaling.min_instances > 0
        self._serve_variants(
            [variant],
            rollout=hosting.rollout,
            starts=starts,
            smallest_fleet=smallest_fleet(hosting),
            keep_instance_counts=keep,
        )
        if scaling is not None:
            capacity = self._instances(variant.name, scaling)
            capacity.track_endpoint(
                "ApproximateBacklogSizePerInstance", endpoint_name=self.name, target=scaling.backlog
            )
            if scaling.min_instances == 0:
                capacity.wake(
                    "HasBacklogWithoutCapacity",
                    dimension=("EndpointName", self.name),
                    statistic="Average",
                    start_s=starts.total_s,
                )
        self.model_name = deployment.model.name
        self.reads_below = (ASYNC_INPUT_PREFIX,)
        self.writes_below = (hosting.output_prefix, hosting.failure_prefix)

    def _below(self, prefix: str) -> str:
        return f"s3://{self.deployment.bucket}/{prefix}"

    def _notifications(
        self, hosting: AsyncHosting
    ) -> sagemaker.CfnEndpointConfig.AsyncInferenceNotificationConfigProperty | None:
        if not hosting.notify:
            return None
        success, failure = (self._topic(kind, hosting.email) for kind in ("success", "failure"))
        # By name, so that the role does not depend on topics that a condition may leave out.
        stack = cdk.Stack.of(self)
        self.publishes_to = tuple(
            stack.format_arn(service="sns", resource=self._topic_name(kind)) for kind in ("success", "failure")
        )
        return sagemaker.CfnEndpointConfig.AsyncInferenceNotificationConfigProperty(
            success_topic=success.topic_arn, error_topic=failure.topic_arn
        )

    def _topic(self, kind: str, email: str | None) -> sns.Topic:
        # SageMaker publishes as the execution role, which the key that AWS manages for SNS lets through.
        key_arn = self.deployment.key_arn
        key = (
            kms.Alias.from_alias_name(self, f"{kind}-key", "alias/aws/sns")
            if key_arn is None
            else kms.Key.from_key_arn(self, f"{kind}-key", key_arn)
        )
        topic = sns.Topic(self, kind, topic_name=self._topic_name(kind), enforce_ssl=True, master_key=key)
        if email is not None:
            topic.add_subscription(subscriptions.EmailSubscription(email))
        return topic

    def _topic_name(self, kind: str) -> str:
        return f"{self.name}-async-{kind}"
