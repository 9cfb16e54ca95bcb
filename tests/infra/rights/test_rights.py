"""No role or policy of any stage may do more than a documented call needs, and docs/infrastructure.md names each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.infra.conftest import SAMPLES, STAGE_NAMES, Synthesised
from tests.infra.rights.test_execution_role import as_list
from tests.infra.test_documentation import DOCUMENT

# Actions for which AWS defines no resource, or none that is known when the policy is written: CloudWatch, the login to
# ECR and to CodeArtifact, the Describe… of EC2, log delivery and X-Ray. Source: service authorization reference.
WITHOUT_RESOURCES = (
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "ec2:Describe",
    "logs:",
    "sts:GetServiceBearerToken",
    "xray:",
)
# Whom a policy that nobody has is for, by how its description begins.
LENT = {"Asks": "reader", "Puts": "writer", "Invokes": "caller"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """`who` may do `action` on `resources`."""

    who: str
    action: str
    resources: list[Any]


def documented() -> set[tuple[str, str]]:
    """The rows `who | action | call` of the page."""
    rows = (
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in DOCUMENT.splitlines() if "| `" in line
    )
    found = {(row[0], row[1]) for row in rows if len(row) == 3 and re.fullmatch(r"[a-z0-9-]+:\w+", row[1]) and row[2]}
    assert len(found) > 50, "the table of rights was not found"
    return found


def rights(stage: Synthesised) -> Iterator[Right]:
    """Everything that every role of `stage` may do, whichever way its policy is written, and whoever is given one."""
    for template in stage.templates.values():
        resources = template.to_json()["Resources"]
        roles = {name: item["Properties"] for name, item in resources.items() if item["Type"] == "AWS::IAM::Role"}
        for role in roles.values():
            assert "ManagedPolicyArns" not in role, "a managed policy says more than we know"
            for policy in role.get("Policies", []):
                yield from _allowed(role, policy["PolicyDocument"])
        for item in resources.values():
            if item["Type"] == "AWS::IAM::ManagedPolicy":
                assert not {"Roles", "Users", "Groups"} & item["Properties"].keys(), "it is given to nobody by itself"
                description, document = item["Properties"]["Description"], item["Properties"]["PolicyDocument"]
                yield from _statements(LENT[description.partition(" ")[0]], document)
            if item["Type"] == "AWS::IAM::Policy":
                for role_name in item["Properties"]["Roles"]:
                    yield from _allowed(roles[role_name["Ref"]], item["Properties"]["PolicyDocument"])


def _allowed(role: dict[str, Any], document: dict[str, Any]) -> Iterator[Right]:
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    return _statements(trust["Principal"]["Service"].removesuffix(".amazonaws.com"), document)


def _statements(who: str, document: dict[str, Any]) -> Iterator[Right]:
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert "NotAction" not in statement
        for action in as_list(statement["Action"]):
            yield Right(who=who, action=action, resources=as_list(statement["Resource"]))


@pytest.fixture(scope="module")
def everything(all_stages: dict[str, Synthesised], samples: dict[str, Synthesised]) -> dict[str, list[Right]]:
    """The rights of every stage of the project and of every full stage of a mode."""
    return {name: list(rights(stage)) for name, stage in (all_stages | samples).items()}


@pytest.mark.parametrize("name", [*STAGE_NAMES, *sorted(path.stem for path in SAMPLES.glob("*.toml"))])
def test_no_role_has_an_action_that_no_documented_call_needs(name: str, everything: dict[str, list[Right]]) -> None:
    undocumented = {(right.who, right.action) for right in everything[name]} - documented()

    assert not undocumented


def test_no_documented_action_is_one_that_no_role_has(everything: dict[str, list[Right]]) -> None:
    granted = {(right.who, right.action) for found in everything.values() for right in found}

    assert not documented() - granted


def test_no_action_is_a_wildcard_and_a_resource_only_where_aws_knows_none(everything: dict[str, list[Right]]) -> None:
    for found in everything.values():
        for right in found:
            assert "*" not in right.action
            if "*" in right.resources:
                assert right.action.startswith(WITHOUT_RESOURCES), right


def test_the_network_s_actions_are_given_only_where_there_is_a_network(everything: dict[str, list[Right]]) -> None:
    with_network = {
        name for name, found in everything.items() if any(right.action.startswith("ec2:") for right in found)
    }

    assert with_network == {"async", "component", "pipeline", "private", "repository", "fallback", "reserved"}


def test_the_key_s_actions_are_given_only_where_there_is_a_key(everything: dict[str, list[Right]]) -> None:
    with_key = {name for name, found in everything.items() if any(right.action.startswith("kms:") for right in found)}

    assert with_key == {"pipeline", "private", "repository", "fallback"}
