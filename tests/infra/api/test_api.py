"""`[api]`: a REST API that calls InvokeEndpoint, for callers who sign or bring a token."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import botocore.session
import pytest

from tests.infra.conftest import SAMPLES, Synthesise, Synthesised, merged
from tests.infra.stacks.test_endpoint import text
from tidegate.infra import validation
from tidegate.infra.api import passage
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.stage import stage_file

METHOD = "AWS::ApiGateway::Method"
STAGE = "AWS::ApiGateway::Stage"
OWN = "X-Amzn-SageMaker-"
SIGNED = {"authorization": "iam", "logs_days": False}
BY_TOKEN = SIGNED | {"authorization": "jwt", "issuer": "https://identity.example.com/", "audience": ["tidegate"]}


@pytest.fixture
def signed(samples: dict[str, Synthesised]) -> Synthesised:
    return samples["multimodel"]


@pytest.fixture
def by_token(samples: dict[str, Synthesised]) -> Synthesised:
    return samples["adapters"]


def parsed(name: str, **changes: Any) -> Stage:
    """A sample with `changes`."""
    table = tomllib.loads((SAMPLES / f"{name}.toml").read_text(encoding="utf-8"))
    return stage_file.parse({"name": name} | merged(table, changes))


def headers(name: str, **changes: Any) -> passage.Passage:
    return passage.of_stage(parsed(name, **changes), "tidegate-test")


def test_the_method_calls_the_endpoint_and_passes_bodies_on_as_they_are(signed: Synthesised) -> None:
    method, api = signed.only("api", METHOD), signed.only("api", "AWS::ApiGateway::RestApi")
    integration = method["Integration"]

    assert (method["HttpMethod"], integration["Type"], integration["IntegrationHttpMethod"]) == ("POST", "AWS", "POST")
    assert text(integration["Uri"]) == (
        "arn:${AWS::Partition}:apigateway:${AWS::Region}:runtime.sagemaker:path/endpoints/tidegate-multimodel/invocations"
    )
    assert api["BinaryMediaTypes"] == ["*/*"]
    assert (integration["PassthroughBehavior"], integration["TimeoutInMillis"]) == ("WHEN_NO_MATCH", 29_000)
    assert "ContentHandling" not in integration
    assert "RequestTemplates" not in integration


def test_every_header_that_goes_through_is_one_that_invoke_endpoint_has() -> None:
    """In both directions, by the service's own model."""
    operation = botocore.session.get_session().get_service_model("sagemaker-runtime").operation_model("InvokeEndpoint")
    known = [
        {member.serialization.get("name", "").lower() for member in shape.members.values()}
        for shape in (operation.input_shape, operation.output_shape)
    ]
    asked = {
        name.lower()
        for stage in ("realtime", "variants", "serverless", "component", "adapters", "multimodel", "pipeline")
        for found in [headers(stage, api=SIGNED)]
        for name in (*found.optional, *found.required, *(fixed for fixed, _ in found.fixed))
    }

    assert asked <= known[0]
    assert {name.lower() for name in passage.ANSWER_HEADERS} <= known[1]


def test_every_error_of_invoke_endpoint_goes_out_with_its_own_status(signed: Synthesised) -> None:
    service = botocore.session.get_session().get_service_model("sagemaker-runtime")
    errors = service.operation_model("InvokeEndpoint").error_shapes
    responses = signed.only("api", METHOD)["Integration"]["IntegrationResponses"]
    patterns = {found["StatusCode"]: found.get("SelectionPattern") for found in responses}

    def answers(status: int) -> list[str]:
        """More than one would leave the choice to API Gateway."""
        return [name for name, pattern in patterns.items() if pattern and re.fullmatch(pattern, str(status))]

    assert [name for name, pattern in patterns.items() if pattern is None] == ["200"]
    for error in errors:
        status = error.metadata["error"]["httpStatusCode"]
        assert answers(status) == [str(status)], error.name
    assert all(len(answers(status)) == 1 for status in range(400, 600))
    assert (answers(413), answers(504), answers(200)) == (["400"], ["500"], [])


def test_each_answer_that_the_integration_gives_is_one_that_the_method_has(signed: Synthesised) -> None:
    method = signed.only("api", METHOD)
    declared = {found["StatusCode"]: found["ResponseParameters"].keys() for found in method["MethodResponses"]}

    for found in method["Integration"]["IntegrationResponses"]:
        assert found["ResponseParameters"].keys() == declared[found["StatusCode"]]


def test_what_a_mode_needs_beside_the_body_is_required_or_given_by_the_api(
    signed: Synthesised, by_token: Synthesised
) -> None:
    target, component = f"{OWN}Target-Model", f"{OWN}Inference-Component"

    assert signed.only("api", METHOD)["RequestParameters"][f"method.request.header.{target}"] is True
    assert by_token.only("api", METHOD)["RequestParameters"][f"method.request.header.{component}"] is True
    assert by_token.only("api", "AWS::ApiGateway::RequestValidator")["ValidateRequestParameters"] is True
    assert headers("component").fixed == ((component, "tidegate-test"),)
    assert headers("component").required == ()
    assert headers("pipeline", model={"invocation": "direct"}, hosting={"monitor": None}, batch=None).required == (
        f"{OWN}Target-Container-Hostname",
    )
    assert f"{OWN}Target-Variant" in headers("variants").optional
    assert f"{OWN}Target-Variant" not in headers("serverless").optional


def test_the_role_of_the_api_may_ask_this_endpoint_and_its_components_alone(by_token: Synthesised) -> None:
    role = by_token.only("api", "AWS::IAM::Role")
    (statement,) = role["Policies"][0]["PolicyDocument"]["Statement"]

    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert statement["Action"] == "sagemaker:InvokeEndpoint"
    assert [text(found).rpartition(":")[2] for found in statement["Resource"]] == [
        "endpoint/tidegate-adapters",
        "inference-component/tidegate-adapters",
        "inference-component/tidegate-adapters-french",
        "inference-component/tidegate-adapters-legal-german",
    ]


def test_who_signs_gets_a_policy_for_this_one_method(signed: Synthesised) -> None:
    outputs = signed.templates["api"].to_json()["Outputs"]
    (statement,) = signed.only("api", "AWS::IAM::ManagedPolicy")["PolicyDocument"]["Statement"]

    assert signed.only("api", METHOD)["AuthorizationType"] == "AWS_IAM"
    assert outputs.keys() == {"InvocationsUrl", "CallPolicyArn"}
    assert statement["Action"] == "execute-api:Invoke"
    assert text(statement["Resource"]).endswith("/POST/invocations")
    assert text(outputs["InvocationsUrl"]["Value"]).endswith("/invocations")


def test_tokens_are_checked_by_issuer_audience_algorithm_and_scope(by_token: Synthesised) -> None:
    method, authorizer = by_token.only("api", METHOD), by_token.only("api", "AWS::ApiGateway::Authorizer")

    assert (method["AuthorizationType"], method["AuthorizationScopes"]) == ("JWT", ["tidegate/invoke"])
    assert method["AuthorizerId"] == {"Ref": next(iter(by_token.properties("api", "AWS::ApiGateway::Authorizer")))}
    assert (authorizer["Type"], authorizer["IdentitySource"]) == ("JWT", "method.request.header.Authorization")
    assert authorizer["JwtConfiguration"] == {
        "DefaultAlgorithms": ["ES256"],
        "Issuers": [{"Issuer": "https://identity.example.com/", "Audiences": ["tidegate"]}],
    }
    assert by_token.templates["api"].to_json()["Outputs"].keys() == {"InvocationsUrl"}


def test_the_authorizer_is_as_the_api_s_own_model_has_it(by_token: Synthesised) -> None:
    """The CDK and cfn-lint do not know its configuration, so this is what it is held against."""
    authorizer = by_token.only("api", "AWS::ApiGateway::Authorizer")
    service = botocore.session.get_session().get_service_model("apigateway")
    shape = service.operation_model("CreateAuthorizer").input_shape
    configuration = shape.members["jwtConfiguration"]
    (issuer,) = authorizer["JwtConfiguration"]["Issuers"]

    assert authorizer["Type"] in shape.members["type"].enum
    assert {name[0].lower() + name[1:] for name in authorizer["JwtConfiguration"]} == set(configuration.members)
    wanted = configuration.members["issuers"].member
    assert set(wanted.required_members) == {name.lower() for name in issuer}
    algorithms = set(configuration.members["defaultAlgorithms"].member.enum)
    for algorithm in algorithms:
        assert parsed("adapters", api={"algorithms": [algorithm]}).api is not None


def test_a_stage_says_how_long_it_waits_how_much_it_lets_through_and_what_it_logs(
    signed: Synthesised, by_token: Synthesised
) -> None:
    (settings,) = signed.only("api", STAGE)["MethodSettings"]
    group = signed.only("api", "AWS::Logs::LogGroup")

    assert by_token.only("api", METHOD)["Integration"]["TimeoutInMillis"] == 55_000
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == (50, 100)
    assert (group["LogGroupName"], group["RetentionInDays"]) == ("/aws/apigateway/tidegate-multimodel", 30)
    assert "$context.requestId" in signed.only("api", STAGE)["AccessLogSetting"]["Format"]
    assert "AccessLogSetting" not in by_token.only("api", STAGE)
    assert not by_token.properties("api", "AWS::Logs::LogGroup")


def test_the_account_s_role_for_logs_outlives_the_stack_and_is_there_before_the_stage(
    signed: Synthesised, by_token: Synthesised
) -> None:
    ((name, account),) = signed.templates["api"].find_resources("AWS::ApiGateway::Account").items()
    ((_, stage),) = signed.templates["api"].find_resources(STAGE).items()

    assert account["DeletionPolicy"] == "RetainExceptOnCreate"
    assert name in stage["DependsOn"]
    assert [*signed.properties("api", "AWS::ApiGateway::RestApi")] == account["DependsOn"]
    assert not by_token.properties("api", "AWS::ApiGateway::Account")


def test_what_changes_in_the_api_makes_a_new_deployment(by_token: Synthesised, synthesise: Synthesise) -> None:
    """API Gateway serves what was deployed, whatever became of its resources since."""
    kind = "AWS::ApiGateway::Deployment"
    changes = {"api": {"audience": ["another"]}}
    changed = synthesise(stage=str(SAMPLES / "adapters.toml"), changes=changes)

    assert by_token.properties("api", kind).keys() != changed.properties("api", kind).keys()


@pytest.mark.parametrize(
    ("sample", "api", "sentence"),
    [
        ("async", SIGNED, "[api] does not go with hosting.mode='async', whose requests and answers are objects in S3"),
        ("serverless", {"authorization": "iam"}, "account_log_role = 'there' where `aws apigateway get-account`"),
        ("serverless", {"authorization": "none"}, "api.authorization='none' is not one of 'iam', 'jwt'"),
        ("serverless", {"logs_days": False}, "api.authorization is missing"),
        ("serverless", SIGNED | {"account_log_role": "new"}, "api.account_log_role='new' is for access logs"),
        ("serverless", SIGNED | {"rate_per_s": 5}, "api.rate_per_s=5 is one half of a limit; write api.burst too"),
        ("serverless", SIGNED | {"burst": 5}, "api.burst=5 is one half of a limit; write api.rate_per_s too"),
        ("serverless", SIGNED | {"issuer": "https://a.example"}, "about tokens, and authorization is 'iam'"),
        ("serverless", SIGNED | {"scopes": ["a"]}, "api.scopes=['a'] is about tokens"),
        ("serverless", SIGNED | {"algorithms": ["RS256"]}, "api.algorithms=['RS256'] is about tokens"),
        ("serverless", SIGNED | {"timeout_s": 61}, "api.timeout_s=61 is not a whole number from 1 to 60"),
        ("serverless", SIGNED | {"logs_days": 31}, "api.logs_days=31 is not a retention of CloudWatch"),
        (
            "serverless",
            SIGNED | {"authorization": "jwt"},
            "api.authorization='jwt' is without issuer, by which tokens are checked; write issuer =",
        ),
        ("serverless", BY_TOKEN | {"audience": []}, "not a list of 1 to 50 audiences"),
        (
            "serverless",
            BY_TOKEN | {"issuer": "http://identity.example.com"},
            "is not an issuer; write an https address",
        ),
        ("serverless", BY_TOKEN | {"issuer": "https://a.example/?b=c"}, "is not an issuer; write an https address"),
        ("serverless", BY_TOKEN | {"issuer": "https://user@a.example/"}, "is not an issuer; write an https address"),
        ("serverless", BY_TOKEN | {"scopes": ["a b"]}, "is not a scope; write one like 'tidegate/invoke'"),
        ("serverless", BY_TOKEN | {"algorithms": ["HS256"]}, "'HS256' is not one of"),
        ("serverless", BY_TOKEN | {"algorithms": ["RS256", "RS256"]}, "api.algorithms='RS256' is given twice"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(sample: str, api: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        validation.check(parsed(sample, api=api))
