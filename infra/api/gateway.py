"""The REST API: one method, which API Gateway answers by calling InvokeEndpoint in a role of its own.

There is no code of ours between the two. HTTP APIs have no integration with SageMaker.
Sources: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-aws-services-reference.html,
https://docs.aws.amazon.com/apigateway/latest/api/API_Integration.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from tidegate.infra.api import passage
from tidegate.infra.api.passage import Passage
from tidegate.infra.configuration.api import Api
from tidegate.infra.rights.acknowledgements import acknowledge_wildcard

PATH = "invocations"
_BY_JWT = "JWT"

# Of each request; neither its body nor its token.
# Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-variables-for-access-logging.html
_LOGGED = {
    "requestId": "$context.requestId",
    "extendedRequestId": "$context.extendedRequestId",
    "requestTime": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "caller": "$context.identity.userArn",
    "subject": "$context.authorizer.claims.sub",
    "status": "$context.status",
    "responseLength": "$context.responseLength",
    "responseLatency": "$context.responseLatency",
    "integrationStatus": "$context.integration.status",
    "integrationLatency": "$context.integration.latency",
    "error": "$context.error.messageString",
}

# What AWS's own policy for that role has.
# Source: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonAPIGatewayPushToCloudWatchLogs.html
_LOG_ACTIONS = (
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogGroups",
    "logs:DescribeLogStreams",
    "logs:FilterLogEvents",
    "logs:GetLogEvents",
    "logs:PutLogEvents",
)


class Gateway(Construct):
    """`POST /invocations`, with bodies as they are."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        api: Api,
        name: str,
        stage_name: str,
        endpoint_name: str,
        components: Sequence[str],
        headers: Passage,
    ) -> None:
        super().__init__(scope, id_)
        self._api = api
        self.log_group = self._log_group(name) if api.logs_days is not None else None
        self.rest = apigateway.RestApi(
            self,
            "Api",
            rest_api_name=name,
            description=f"InvokeEndpoint of {endpoint_name}",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            # Any body is passed on byte for byte, in both directions. Source:
            # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-payload-encodings-workflow.html
            binary_media_types=["*/*"],
            cloud_watch_role=False,
            deploy_options=self._deployment(stage_name),
        )
        # The CDK's own output, whose name nobody can foresee.
        self.rest.node.try_remove_child("Endpoint")
        role = self._role(endpoint_name, components)
        self.method = self.rest.root.add_resource(PATH).add_method(
            "POST",
            apigateway.AwsIntegration(
                service="runtime.sagemaker",
                path=f"endpoints/{endpoint_name}/invocations",
                integration_http_method="POST",
                options=apigateway.IntegrationOptions(
                    credentials_role=role,
                    passthrough_behavior=apigateway.PassthroughBehavior.WHEN_NO_MATCH,
                    request_parameters=_mapped(headers),
                    integration_responses=_responses(),
                ),
            ),
            request_parameters={_of_request(name): name in headers.required for name in _given(headers)},
            request_validator_options=apigateway.RequestValidatorOptions(validate_request_parameters=True),
            method_responses=[
                apigateway.MethodResponse(
                    status_code=status,
                    response_parameters={f"method.response.header.{name}": True for name in passage.ANSWER_HEADERS},
                )
                for status in passage.statuses()
            ],
            authorization_type=apigateway.AuthorizationType.IAM,
        )
        resource = cast("apigateway.CfnMethod", self.method.node.default_child)
        # The CDK takes no time above the default quota, whatever the account has.
        resource.add_property_override("Integration.TimeoutInMillis", api.timeout_s * 1000)
        if api.issuer is not None:
            self._authorize_by_token(resource, api.issuer)
        # The CDK makes a new deployment where what it knows of the API changes, and it does not know of these.
        deployment = cast("apigateway.Deployment", self.rest.latest_deployment)
        deployment.add_to_logical_id(api.model_dump(mode="json"))
        self._acknowledge()

    @property
    def url(self) -> str:
        """Where requests go."""
        return self.rest.url_for_path(f"/{PATH}")

    @property
    def call_arn(self) -> str:
        """What a caller must be allowed `execute-api:Invoke` on."""
        return self.method.method_arn

    def make_account_role(self) -> None:
        """Let API Gateway write into CloudWatch: one setting for the account and Region, which stays.

        Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-apigateway-account.html
        """
        statement = iam.PolicyStatement(sid="WriteLogs", actions=list(_LOG_ACTIONS), resources=["*"])
        role = iam.Role(
            self,
            "AccountLogRole",
            assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"),
            description="API Gateway writes into CloudWatch Logs, for every API of the account in this Region",
            inline_policies={"logs": iam.PolicyDocument(statements=[statement])},
        )
        acknowledge_wildcard(role, "*", "one role for every log group that an API of the account may name")
        account = apigateway.CfnAccount(self, "Account", cloud_watch_role_arn=role.role_arn)
        # After the API, as where the CDK makes it: the account may never have had one.
        account.add_resource_dependency(cast("cdk.CfnResource", self.rest.node.default_child))
        # Other APIs write with it by the time this stack goes.
        role.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
        account.apply_removal_policy(cdk.RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE)
        self.rest.deployment_stage.node.add_dependency(account)

    def _deployment(self, stage_name: str) -> apigateway.StageOptions:
        return apigateway.StageOptions(
            stage_name=stage_name,
            access_log_destination=(
                None if self.log_group is None else apigateway.LogGroupLogDestination(self.log_group)
            ),
            access_log_format=(
                None if self.log_group is None else apigateway.AccessLogFormat.custom(json.dumps(_LOGGED))
            ),
            throttling_rate_limit=self._api.rate_per_s,
            throttling_burst_limit=self._api.burst,
        )

    def _log_group(self, name: str) -> logs.ILogGroup:
        days = self._api.logs_days
        group = logs.CfnLogGroup(self, "AccessLogs", log_group_name=f"/aws/apigateway/{name}", retention_in_days=days)
        return logs.LogGroup.from_log_group_arn(self, "AccessLogGroup", group.attr_arn)

    def _role(self, endpoint_name: str, components: Sequence[str]) -> iam.Role:
        """Whom SageMaker sees: it may ask this endpoint, and do nothing else."""
        stack = cdk.Stack.of(self)
        asked = [("endpoint", endpoint_name), *(("inference-component", component) for component in components)]
        statement = iam.PolicyStatement(
            sid="Ask",
            actions=["sagemaker:InvokeEndpoint"],
            resources=[
                stack.format_arn(service="sagemaker", resource=kind, resource_name=name) for kind, name in asked
            ],
        )
        return iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"),
            description=f"API Gateway invokes the endpoint {endpoint_name}",
            inline_policies={"invoke": iam.PolicyDocument(statements=[statement])},
        )

    def _authorize_by_token(self, method: apigateway.CfnMethod, issuer: str) -> None:
        """API Gateway checks issuer, audience, signature and times of a token, and its scopes, by itself.

        The CDK and cfn-lint do not know of it yet. Sources:
        https://docs.aws.amazon.com/apigateway/latest/developerguide/rest-api-jwt-authorizer.html,
        https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-apigateway-authorizer-jwtissuer.html
        """
        authorizer = apigateway.CfnAuthorizer(
            self,
            "Authorizer",
            name="jwt",
            rest_api_id=self.rest.rest_api_id,
            type=_BY_JWT,
            identity_source=_of_request("Authorization"),
        )
        configuration = {
            "DefaultAlgorithms": list(self._api.algorithms),
            "Issuers": [{"Issuer": issuer, "Audiences": list(self._api.audience)}],
        }
        authorizer.add_property_override("JwtConfiguration", configuration)
        method.authorization_type = _BY_JWT
        method.authorizer_id = authorizer.ref
        method.authorization_scopes = list(self._api.scopes) or None
        reason = "a property of CloudFormation that this check does not have yet"
        authorizer.add_metadata("cfn-lint", {"config": {"ignore_checks": ["E3002"]}})
        accepted = cdk.Acknowledgment(id="CloudFormation-Validate::F3002", reason=reason)
        cdk.Validations.of(authorizer).acknowledge(accepted)

    def _acknowledge(self) -> None:
        _accept(self.rest, "APIG2", "headers are validated; what a body may be, the model says")
        _accept(self.rest, "APIG3", "a web ACL is the account's to choose; attach one to the stage of the API")
        _accept(self.rest, "APIG6", "an execution log may hold bodies; the access log has status and error of each")
        if self._api.logs_days is None:
            _accept(self.rest, "APIG1", "the stage file says so")
        _accept(self.rest, "COG4", "IAM checks signatures, and API Gateway the tokens of an issuer, Cognito or not")


def _accept(construct: Construct, rule: str, reason: str) -> None:
    cdk.Validations.of(construct).acknowledge(cdk.Acknowledgment(id=f"AwsSolutions-{rule}", reason=reason))


def _given(headers: Passage) -> tuple[str, ...]:
    return (*headers.optional, *headers.required)


def _of_request(name: str) -> str:
    return f"method.request.header.{name}"


def _mapped(headers: Passage) -> dict[str, str]:
    given = {name: _of_request(name) for name in _given(headers)}
    # A text that is not a reference stands in single quotes.
    fixed = {name: f"'{value}'" for name, value in headers.fixed}
    return {f"integration.request.header.{name}": value for name, value in (given | fixed).items()}


def _responses() -> list[apigateway.IntegrationResponse]:
    passed_on = {
        f"method.response.header.{name}": f"integration.response.header.{name}" for name in passage.ANSWER_HEADERS
    }
    return [
        apigateway.IntegrationResponse(status_code=status, selection_pattern=pattern, response_parameters=passed_on)
        for status, pattern in passage.statuses().items()
    ]
