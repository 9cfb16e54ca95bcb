"""APIs of API Gateway in stacks: described as they were deployed, changed under one address, and gone at the end."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tests.local_cloud.conftest import Account
from tests.local_cloud.test_stacks import stack_of

Json = dict[str, Any]


def template(*, name: str = "mine", timeout_ms: int = 29_000, rate: int = 50) -> Json:
    """A method that calls SageMaker, a token for it, and a stage with limits and a log."""
    api = {"RestApiId": {"Ref": "Api"}}
    jwt = {"DefaultAlgorithms": ["RS256"], "Issuers": [{"Issuer": "https://a.example/", "Audiences": ["b"]}]}
    integration = {
        "Type": "AWS",
        "IntegrationHttpMethod": "POST",
        "Uri": "arn:aws:apigateway:us-east-1:runtime.sagemaker:path/endpoints/mine/invocations",
        "Credentials": "arn:aws:iam::123456789012:role/api",
        "RequestParameters": {"integration.request.header.Accept": "method.request.header.Accept"},
        "IntegrationResponses": [{"StatusCode": "200"}, {"StatusCode": "424", "SelectionPattern": "424"}],
        "TimeoutInMillis": timeout_ms,
    }
    method = {
        "ResourceId": {"Ref": "Path"},
        "HttpMethod": "POST",
        "AuthorizationType": "JWT",
        "AuthorizerId": {"Ref": "Token"},
        "AuthorizationScopes": ["invoke"],
        "RequestParameters": {"method.request.header.Accept": True},
        "RequestValidatorId": {"Ref": "Validator"},
        "MethodResponses": [{"StatusCode": "200"}, {"StatusCode": "424"}],
        "Integration": integration,
    }
    stage = {
        "StageName": "live",
        "DeploymentId": {"Ref": "Deployed"},
        "AccessLogSetting": {"DestinationArn": "arn:aws:logs:us-east-1:123456789012:log-group:a", "Format": "{}"},
        "MethodSettings": [
            {"ResourcePath": "/*", "HttpMethod": "*", "ThrottlingRateLimit": rate, "ThrottlingBurstLimit": 100}
        ],
    }
    path = {"ParentId": {"Fn::GetAtt": ["Api", "RootResourceId"]}, "PathPart": "invocations"}
    token = {"Name": "t", "Type": "JWT", "IdentitySource": "method.request.header.Authorization"}
    parts: Json = {
        "Path": ("Resource", api | path),
        "Token": ("Authorizer", api | token | {"JwtConfiguration": jwt}),
        "Validator": ("RequestValidator", api | {"ValidateRequestParameters": True}),
        "Method": ("Method", api | method),
        "Deployed": ("Deployment", api),
        "Stage": ("Stage", api | stage),
    }
    resources: Json = {
        name: {"Type": f"AWS::ApiGateway::{kind}", "Properties": properties}
        for name, (kind, properties) in parts.items()
    }
    resources["Api"] = {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": name}}
    resources["Deployed"]["DependsOn"] = ["Method"]
    return {
        "Resources": resources,
        "Outputs": {"Id": {"Value": {"Ref": "Api"}}, "Stage": {"Value": {"Ref": "Stage"}}},
    }


def test_an_api_is_described_as_it_was_deployed_and_changes_under_its_address(account: Account) -> None:
    with closing(account.cloud.client("apigateway")) as gateway:
        with stack_of(account) as stack:
            assert stack.create(template()) == "CREATE_COMPLETE", stack.events("Method")
            found = stack.outputs()
            assert found["Stage"] == "live"
            made = stack.resources()
            place = {"restApiId": found["Id"], "resourceId": made["Path"], "httpMethod": "POST"}
            method = gateway.get_method(**place)
            assert (method["authorizationType"], method["authorizerId"]) == ("JWT", made["Token"])
            assert method["requestParameters"] == {"method.request.header.Accept": True}
            assert method["requestValidatorId"] == made["Validator"]
            integration = method["methodIntegration"]
            assert integration["credentials"] == "arn:aws:iam::123456789012:role/api"
            assert integration["integrationResponses"]["424"]["selectionPattern"] == "424"

            assert stack.update(template(name="yours", timeout_ms=40_000, rate=70)) == "UPDATE_COMPLETE", stack.events(
                "Method"
            )
            assert stack.outputs() == found
            assert gateway.get_rest_api(restApiId=found["Id"])["name"] == "yours"
            assert gateway.get_method(**place)["methodIntegration"]["timeoutInMillis"] == 40_000
            stage = gateway.get_stage(restApiId=found["Id"], stageName="live")
            assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] == 70
            assert stage["accessLogSettings"]["format"] == "{}"
        assert found["Id"] not in [item["id"] for item in gateway.get_rest_apis()["items"]]


def test_the_account_s_role_for_logs_stays_when_its_stack_goes(account: Account) -> None:
    role = "arn:aws:iam::123456789012:role/logs"
    properties = {"CloudWatchRoleArn": role}
    with closing(account.cloud.client("apigateway")) as gateway:
        with stack_of(account) as stack:
            resources = {"It": {"Type": "AWS::ApiGateway::Account", "Properties": properties}}
            assert stack.create({"Resources": resources}) == "CREATE_COMPLETE"
        assert gateway.get_account()["cloudwatchRoleArn"] == role
