"""`[role]`, packages of CodeArtifact, shared subnets, and the policy for callers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.conftest import SAMPLES, Synthesise, Synthesised
from tests.infra.rights.test_execution_role import as_list, resources, statements
from tests.infra.stacks.test_endpoint import text
from tests.infra.templates import lint_template

ROLE = "AWS::IAM::Role"
POLICY = "AWS::IAM::ManagedPolicy"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
MANAGED = "arn:aws:iam::aws:policy/AmazonDynamoDBReadOnlyAccess"
EXISTING = "arn:aws:iam::123456789012:role/service/inference"
ITEM = "arn:aws:dynamodb:eu-central-1:123456789012:table/features"
OWN = {
    "permissions_boundary": BOUNDARY,
    "managed_policies": [MANAGED],
    "statements": [
        {"actions": ["dynamodb:GetItem"], "resources": [ITEM, f"{ITEM}/index/*"]},
        {
            "actions": ["dynamodb:ListTables"],
            "resources": ["*"],
            "conditions": {"StringEquals": {"aws:RequestedRegion": "eu-central-1"}},
        },
    ],
}


@pytest.fixture(scope="module")
def own(synthesise: Synthesise) -> Synthesised:
    """A stage with all stacks, and a role as its account wants it."""
    return synthesise(stage=str(SAMPLES / "realtime.toml"), changes={"role": OWN})


@pytest.fixture(scope="module")
def existing(synthesise: Synthesise) -> Synthesised:
    """The same with a role that is there."""
    return synthesise(stage=str(SAMPLES / "realtime.toml"), changes={"role": {"arn": EXISTING}})


def test_what_the_stage_file_says_is_allowed_beside_what_serving_needs(own: Synthesised) -> None:
    allowed = statements(own)

    assert as_list(allowed["Own1"]["Action"]) == ["dynamodb:GetItem"]
    assert as_list(allowed["Own1"]["Resource"]) == [ITEM, f"{ITEM}/index/*"]
    assert allowed["Own2"]["Condition"] == {"StringEquals": {"aws:RequestedRegion": "eu-central-1"}}
    assert {"ReadModels", "WriteLogs", "PullImage"} <= allowed.keys()
    assert own.only("endpoint", ROLE)["ManagedPolicyArns"] == [MANAGED]


def test_a_permissions_boundary_is_on_every_role_of_the_stage(own: Synthesised) -> None:
    """An account that demands one demands it of state machines too."""
    roles = [role for unit in own.templates for role in own.properties(unit, ROLE).values()]

    assert len(roles) > 4
    assert {role.get("PermissionsBoundary") for role in roles} == {BOUNDARY}


def test_a_role_that_is_there_is_used_and_none_is_made(existing: Synthesised) -> None:
    models = existing.properties("endpoint", "AWS::SageMaker::Model").values()

    assert not existing.properties("endpoint", ROLE)
    assert {model["ExecutionRoleArn"] for model in models} == {EXISTING}
    assert existing.templates["endpoint"].to_json()["Outputs"]["ExecutionRoleArn"]["Value"] == EXISTING


def test_what_an_existing_role_must_be_allowed_is_in_the_template(
    existing: Synthesised, samples: dict[str, Synthesised]
) -> None:
    """It is what the stage's own role would have had, word by word."""
    told = existing.templates["endpoint"].to_json()["Metadata"]["ExecutionPolicy"]
    (policy,) = samples["realtime"].only("endpoint", ROLE)["Policies"]

    assert told == policy["PolicyDocument"]


@pytest.mark.parametrize("name", ["own", "existing"])
def test_such_stages_pass_cdk_nag_and_cfn_lint(name: str, request: pytest.FixtureRequest) -> None:
    stage: Synthesised = request.getfixturevalue(name)

    assert "AwsSolutions" not in stage.report
    assert [lint_template(stage.directory / f"{unit}.template.json") for unit in stage.templates] == [""] * len(
        stage.templates
    )


def test_packages_come_from_codeartifact_with_the_rights_and_the_ways_that_they_need(
    samples: dict[str, Synthesised],
) -> None:
    stage = samples["repository"]
    allowed, codeartifact = statements(stage), "arn:aws:codeartifact:eu-central-1:123456789012"

    assert resources(allowed["LogInToPackages"]) == [f"{codeartifact}:domain/team"]
    assert resources(allowed["ReadPackages"]) == [f"{codeartifact}:repository/team/python"]
    assert set(allowed["ReadPackages"]["Action"]) == {
        "codeartifact:GetRepositoryEndpoint",
        "codeartifact:ReadFromRepository",
    }
    assert allowed["TakeToken"]["Condition"] == {"StringEquals": {"sts:AWSServiceName": "codeartifact.amazonaws.com"}}
    services = {
        text(endpoint["ServiceName"]).removeprefix("com.amazonaws.eu-central-1.")
        for endpoint in stage.properties("network", "AWS::EC2::VPCEndpoint").values()
        if endpoint.get("VpcEndpointType") == "Interface"
    }
    assert {"codeartifact.api", "codeartifact.repositories", "sts"} <= services


def test_without_codeartifact_there_is_neither_right_nor_way(samples: dict[str, Synthesised]) -> None:
    endpoints = samples["private"].properties("network", "AWS::EC2::VPCEndpoint").values()

    assert not [one for one in endpoints if "codeartifact" in str(one["ServiceName"])]
    assert "LogInToPackages" not in statements(samples["private"])


def test_shared_subnets_are_named_with_the_number_of_their_owner(synthesise: Synthesise) -> None:
    """The interfaces in them and the security groups are the stage's own account's."""
    changes = {"network": {"subnets_owner": "210987654321"}}
    stage = synthesise(stage=str(SAMPLES / "async.toml"), changes=changes)

    arns = [arn.replace("AWS::", "") for arn in resources(statements(stage)["JoinNetwork"])]
    assert {arn.split(":")[5].partition("/")[0]: arn.split(":")[4] for arn in arns} == {
        "network-interface": "${AccountId}",
        "subnet": "210987654321",
        "security-group": "${AccountId}",
    }


def caller(stage: Synthesised) -> dict[str, dict[str, Any]]:
    """The statements of the policy for callers."""
    (policy,) = stage.properties("endpoint", POLICY).values()
    assert not {"Roles", "Users", "Groups"} & policy.keys()
    return {one["Sid"]: one for one in policy["PolicyDocument"]["Statement"]}


@pytest.mark.parametrize(
    ("sample", "kinds"),
    [
        ("realtime", ["endpoint"]),
        ("serverless", ["endpoint"]),
        ("multimodel", ["endpoint"]),
        ("component", ["endpoint", "inference-component"]),
    ],
)
def test_a_caller_may_ask_this_endpoint_and_no_other(
    sample: str, kinds: list[str], samples: dict[str, Synthesised]
) -> None:
    allowed = caller(samples[sample])

    assert allowed.keys() == {"Ask"}
    assert set(allowed["Ask"]["Action"]) == {
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointWithResponseStream",
    }
    assert [arn.rpartition(":")[2] for arn in resources(allowed["Ask"])] == [
        f"{kind}/tidegate-{sample}" for kind in kinds
    ]


def test_a_caller_may_hold_conversations_where_the_stage_has_them(samples: dict[str, Synthesised]) -> None:
    allowed = caller(samples["reserved"])

    assert set(allowed["Ask"]["Action"]) == {
        "sagemaker:InvokeEndpoint",
        "sagemaker:InvokeEndpointWithResponseStream",
        "sagemaker:InvokeEndpointWithBidirectionalStream",
    }


def test_a_caller_of_an_asynchronous_endpoint_puts_requests_and_gets_answers(samples: dict[str, Synthesised]) -> None:
    allowed = caller(samples["repository"])

    assert as_list(allowed["AskLater"]["Action"]) == ["sagemaker:InvokeEndpointAsync"]
    assert [arn.partition("/")[2] for arn in resources(allowed["PutRequests"])] == ["async/input/*"]
    assert {arn.partition("/")[2] for arn in resources(allowed["GetAnswers"])} == {"async/output/*", "async/failure/*"}
    assert allowed["FindAnswers"]["Condition"] == {"StringLike": {"s3:prefix": ["async/output/*", "async/failure/*"]}}
    assert set(allowed["UseKey"]["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}


def test_the_policy_for_callers_is_an_output(stage: Synthesised) -> None:
    (name,) = stage.properties("endpoint", POLICY)

    assert stage.templates["endpoint"].to_json()["Outputs"]["InvokePolicyArn"]["Value"] == {"Ref": name}
