"""What a caller of the endpoint may do: one policy that the account's people give to their roles."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from tidegate.infra.configuration.hosting import AsyncHosting, Hosting, RealtimeHosting
from tidegate.infra.hosting.adapters import components_of
from tidegate.infra.rights.lent_policy import LentPolicy
from tidegate.infra.stage.names import ASYNC_INPUT_PREFIX

_NAMES_UNKNOWN = "requests and answers of an asynchronous endpoint are named one by one"


class CallerRights(Construct):
    """Asking this endpoint, in the ways that its mode has, and no other.

    Sources: service authorization reference, Amazon SageMaker; docs/client.md, "Rights", has what is not in here.
    """

    def __init__(
        self, scope: Construct, id_: str, *, hosting: Hosting, endpoint_name: str, bucket: str, key_arn: str | None
    ) -> None:
        super().__init__(scope, id_)
        self._endpoint, self._bucket, self._key_arn = endpoint_name, bucket, key_arn
        self._policy = LentPolicy(self, "Invoke", f"Invokes the endpoint {endpoint_name}")
        self.arn = self._policy.arn
        if isinstance(hosting, AsyncHosting):
            self._policy.may("AskLater", ["sagemaker:InvokeEndpointAsync"], [self._sagemaker("endpoint")])
            self._exchange(hosting)
        else:
            components = components_of(endpoint_name, hosting)
            asked = [
                self._sagemaker("endpoint"),
                *(self._sagemaker("inference-component", name) for name in components),
            ]
            actions = ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"]
            if isinstance(hosting, RealtimeHosting) and hosting.bidirectional:
                # AWS's own samples allow it, and the service authorization reference lacks it.
                actions.append("sagemaker:InvokeEndpointWithBidirectionalStream")
                self._policy.has_actions_that_no_list_has()
            self._policy.may("Ask", actions, asked)

    def _exchange(self, hosting: AsyncHosting) -> None:
        """Requests and answers are objects in the stage's bucket."""
        may, answers = self._policy.may, (hosting.output_prefix, hosting.failure_prefix)
        may(
            "PutRequests",
            ["s3:AbortMultipartUpload", "s3:PutObject"],
            [self._s3(f"{ASYNC_INPUT_PREFIX}*")],
            any_because=_NAMES_UNKNOWN,
        )
        may("GetAnswers", ["s3:GetObject"], [self._s3(f"{each}*") for each in answers], any_because=_NAMES_UNKNOWN)
        # Without it S3 says of an answer that is not there yet that it is forbidden.
        prefixes = {"StringLike": {"s3:prefix": [f"{each}*" for each in answers]}}
        may("FindAnswers", ["s3:ListBucket"], [self._s3()], conditions=prefixes)
        if self._key_arn is not None:
            through_s3 = {"StringLike": {"kms:ViaService": f"s3.{cdk.Stack.of(self).region}.amazonaws.com*"}}
            may("UseKey", ["kms:Decrypt", "kms:GenerateDataKey"], [self._key_arn], conditions=through_s3)

    def _sagemaker(self, kind: str, name: str | None = None) -> str:
        return cdk.Stack.of(self).format_arn(service="sagemaker", resource=kind, resource_name=name or self._endpoint)

    def _s3(self, key: str | None = None) -> str:
        resource = self._bucket if key is None else f"{self._bucket}/{key}"
        return cdk.Stack.of(self).format_arn(service="s3", region="", account="", resource=resource)
