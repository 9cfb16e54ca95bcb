"""What conditions, variables, boundaries and the policies of resources make of a call; pure rules."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.local_cloud.access.call_resources import action_of, action_of_s3, resources_of
from tidegate.local_cloud.access.policy_conditions import holds
from tidegate.local_cloud.access.policy_decisions import Call, Policies, Principal, decide, denial, may_assume

CONTEXT = {
    "s3:prefix": "batch/in/",
    "aws:principalarn": "arn:aws:iam::123456789012:role/team/serve",
    "aws:sourceip": "10.1.2.3",
    "aws:securetransport": "true",
    "aws:currenttime": "2026-11-30T12:00:00Z",
    "aws:tagkeys": ["team", "cost"],
    "aws:principaltag/team": "red*",
    "s3:max-keys": "10",
}


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "expected"),
    [
        ("StringEquals", "s3:prefix", "batch/in/", True),
        ("StringEquals", "S3:Prefix", ["other", "batch/in/"], True),
        ("StringEquals", "s3:prefix", "batch/*", False),
        ("StringEqualsIgnoreCase", "s3:prefix", "BATCH/in/", True),
        ("StringNotEquals", "s3:prefix", ["a", "batch/in/"], False),
        ("StringNotEquals", "s3:delimiter", "/", True),
        ("StringLike", "s3:prefix", "batch/*", True),
        ("StringLike", "s3:prefix", "batch/[a-z]*", False),
        ("StringNotLike", "s3:prefix", "batch/*", False),
        ("StringLike", "aws:principaltag/team", "red${*}", True),
        ("StringEquals", "aws:principaltag/team", "${aws:PrincipalTag/team}", True),
        ("StringEquals", "s3:prefix", "${aws:username}/", False),
        ("StringEquals", "s3:prefix", "${aws:username, 'batch/in'}/", True),
        ("StringEquals", "s3:delimiter", "/", False),
        ("StringEqualsIfExists", "s3:delimiter", "/", True),
        ("StringEqualsIfExists", "s3:prefix", "other/", False),
        ("ArnLike", "aws:principalarn", "arn:aws:iam::*:role/team/*", True),
        ("ArnLike", "aws:principalarn", "arn:aws:*:role/team/*", False),
        ("ArnNotLike", "aws:principalarn", "arn:aws:iam::*:role/other", True),
        ("ArnEquals", "aws:principalarn", "arn:aws:iam::123456789012:role/team/s*", True),
        ("Bool", "aws:SecureTransport", "true", True),
        ("Bool", "aws:SecureTransport", False, False),
        ("IpAddress", "aws:SourceIp", ["192.168.0.0/16", "10.0.0.0/8"], True),
        ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", False),
        ("IpAddress", "aws:SourceIp", "no address", False),
        ("NumericLessThanEquals", "s3:max-keys", "10", True),
        ("NumericLessThan", "s3:max-keys", 10, False),
        ("NumericGreaterThan", "s3:max-keys", "nine", False),
        ("DateGreaterThan", "aws:CurrentTime", "2026-11-30T11:59:59Z", True),
        ("DateLessThan", "aws:CurrentTime", "2026-11-30T14:00:00+03:00", False),
        ("Null", "s3:delimiter", "true", True),
        ("Null", "s3:prefix", True, False),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["team", "cost", "more"], True),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["team"], False),
        ("ForAllValues:StringEquals", "aws:Nothing", ["team"], True),
        ("ForAnyValue:StringEquals", "aws:TagKeys", ["team"], True),
        ("ForAnyValue:StringEquals", "aws:Nothing", ["team"], False),
    ],
)
def test_a_condition_holds_as_its_operator_says(operator: str, key: str, wanted: Any, expected: bool) -> None:
    assert holds({operator: {key: wanted}}, CONTEXT) is expected


def test_all_conditions_of_a_statement_must_hold() -> None:
    block = {"StringLike": {"s3:prefix": "batch/*"}, "Bool": {"aws:SecureTransport": "false"}}
    assert not holds(block, CONTEXT)
    with pytest.raises(ValueError, match="StringIs"):
        holds({"StringIs": {"s3:prefix": "a"}}, CONTEXT)


def allow(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    return {"Statement": {"Effect": effect, "Action": "s3:GetObject", "Resource": "*"} | elements}


ROLE = "arn:aws:iam::123456789012:role/serve"
SESSION = "arn:aws:sts::123456789012:assumed-role/serve/SageMaker"
CALLER = Principal(account="123456789012", role_arn=ROLE, session_arn=SESSION)
TO_ROLE = {"AWS": ROLE}
NOBODY_ALLOWS = "because no identity-based policy allows the s3:GetObject action"


@pytest.mark.parametrize(
    ("policies", "reason"),
    [
        (Policies(identity=[]), NOBODY_ALLOWS),
        (Policies(identity=[allow()]), None),
        (Policies(identity=[allow(), allow("Deny")]), "with an explicit deny in an identity-based policy"),
        (Policies(identity=[allow(Resource="arn:aws:s3:::b/${aws:PrincipalTag/x}/*")]), NOBODY_ALLOWS),
        (Policies(identity=[], resource=[allow(Principal=TO_ROLE)]), None),
        (Policies(identity=[], resource=[allow(Principal="*")]), None),
        (Policies(identity=[], resource=[allow(Principal={"AWS": "123456789012"})]), None),
        (Policies(identity=[], resource=[allow(Principal={"AWS": "arn:aws:iam::999999999999:root"})]), NOBODY_ALLOWS),
        (Policies(identity=[], resource=[allow(Principal={"Service": "sagemaker.amazonaws.com"})]), NOBODY_ALLOWS),
        (
            Policies(identity=[allow()], resource=[allow("Deny", Principal="*")]),
            "with an explicit deny in a resource-based policy",
        ),
        (
            Policies(
                identity=[allow()],
                resource=[allow("Deny", Principal="*", Condition={"Bool": {"aws:SecureTransport": "false"}})],
            ),
            None,
        ),
        (Policies(identity=[allow()], resource=[allow("Deny", NotPrincipal=TO_ROLE)]), None),
        (
            Policies(identity=[allow()], boundary=[allow(Action="s3:Put*")]),
            "because no permissions boundary allows the s3:GetObject action",
        ),
        (
            Policies(identity=[], boundary=[allow(Action="s3:Put*")], resource=[allow(Principal=TO_ROLE)]),
            "because no permissions boundary allows the s3:GetObject action",
        ),
        (
            Policies(identity=[], boundary=[allow(Action="s3:Put*")], resource=[allow(Principal={"AWS": SESSION})]),
            None,
        ),
        (Policies(identity=[allow()], boundary=[allow("Deny")]), "with an explicit deny in a permissions boundary"),
        (
            Policies(identity=[allow()], session=[allow(Action="s3:ListBucket")]),
            "because no session policy allows the s3:GetObject action",
        ),
        (Policies(identity=[allow(Resource=["arn:aws:s3:*:*:b/*", "arn:aws:s3:::none"])]), None),
        (Policies(identity=[allow(Resource="arn:aws:s3:::?/K")]), NOBODY_ALLOWS),
        (Policies(identity=[allow(), allow("Deny", NotResource=["arn:aws:s3:::b/*", "arn:aws:s3:::c"])]), None),
        (
            Policies(identity=[allow(), allow("Deny", NotResource="arn:aws:s3:::c/*")]),
            "with an explicit deny in an identity-based policy",
        ),
        (
            Policies(identity=[allow(Condition={"StringEquals": {"s3:max-keys": ["1", "10"], "s3:prefix": "other"}})]),
            NOBODY_ALLOWS,
        ),
    ],
)
def test_a_call_is_allowed_as_all_its_policies_say_together(policies: Policies, reason: str | None) -> None:
    call = Call(action="s3:GetObject", resource="arn:aws:s3:::b/k", context=CONTEXT)
    denied = denial(call, policies, CALLER)
    assert (denied and denied.reason) == reason
    if denied is not None:
        begins = f'User: {SESSION} is not authorized to perform: s3:GetObject on resource: "arn:aws:s3:::b/k" '
        assert denied.sentence(SESSION, quoted=True) == begins + str(reason)


@pytest.mark.parametrize(
    ("principal", "conditions", "expected"),
    [
        ({"Service": "sagemaker.amazonaws.com"}, {}, True),
        ({"Service": ["ec2.amazonaws.com", "sagemaker.amazonaws.com"], "AWS": "arn:aws:iam::1:root"}, {}, True),
        ({"Service": "ec2.amazonaws.com"}, {}, False),
        ({"AWS": "arn:aws:iam::123456789012:root"}, {}, False),
        ({"Service": "sagemaker.amazonaws.com"}, {"StringEquals": {"aws:SourceAccount": "1"}}, True),
        ({"Service": "sagemaker.amazonaws.com"}, {"StringEquals": {"aws:SourceAccount": "2"}}, False),
    ],
)
def test_a_service_takes_on_a_role_whose_trust_policy_names_it(
    principal: dict[str, Any], conditions: dict[str, Any], expected: bool
) -> None:
    trust = {"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}
    if conditions:
        trust["Statement"][0]["Condition"] = conditions
    service = Principal(service="sagemaker.amazonaws.com")
    assert may_assume(trust, service, {"aws:sourceaccount": "1"}) is expected


def test_of_a_resource_that_nobody_knows_only_a_denial_of_all_counts() -> None:
    narrow = allow(Action="lambda:*", Resource="arn:aws:lambda:*:*:function:a")
    assert decide("lambda:GetPolicy", "", [narrow]) == "allowed"
    denied = allow("Deny", Action="lambda:*", Resource="arn:aws:lambda:*:*:function:b")
    assert decide("lambda:GetPolicy", "", [narrow, denied]) == "allowed"
    assert decide("lambda:GetPolicy", "", [narrow, allow("Deny", Action="lambda:*")]) == "explicitDeny"


@pytest.mark.parametrize(
    ("action", "members", "resources"),
    [
        ("sns:Publish", {"TopicArn": "arn:aws:sns:r:1:t"}, ["arn:aws:sns:r:1:t"]),
        ("sqs:SendMessage", {"QueueUrl": "http://127.0.0.1:1/1/q"}, ["arn:aws:sqs:r:1:q"]),
        ("ssm:GetParameter", {"Name": "/a/b"}, ["arn:aws:ssm:r:1:parameter/a/b"]),
        ("ssm:GetParameters", {"Names": ["a", "b"]}, ["arn:aws:ssm:r:1:parameter/a", "arn:aws:ssm:r:1:parameter/b"]),
        ("logs:CreateLogGroup", {"logGroupName": "/g"}, ["arn:aws:logs:r:1:log-group:/g:log-stream:"]),
        (
            "logs:PutLogEvents",
            {"logGroupName": "/g", "logStreamName": "s"},
            ["arn:aws:logs:r:1:log-group:/g:log-stream:s"],
        ),
        ("cloudwatch:PutMetricData", {"Namespace": "n"}, ["*"]),
        ("cloudformation:UpdateStack", {"StackName": "s"}, ["arn:aws:cloudformation:r:1:stack/s/*"]),
        ("states:StartExecution", {"stateMachineArn": "arn:x"}, ["arn:x"]),
        ("ecr:BatchGetImage", {"repositoryName": "a/b"}, ["arn:aws:ecr:r:1:repository/a/b"]),
        (
            "glue:GetTable",
            {"DatabaseName": "d", "Name": "t"},
            ["arn:aws:glue:r:1:catalog", "arn:aws:glue:r:1:database/d", "arn:aws:glue:r:1:table/d/t"],
        ),
        ("lambda:InvokeFunction", {}, [""]),
    ],
)
def test_a_call_names_its_resources_as_policies_do(action: str, members: dict[str, Any], resources: list[str]) -> None:
    assert list(resources_of(action, members, account="1", region="r")) == resources


def test_actions_are_called_as_policies_call_them() -> None:
    assert action_of("monitoring", "PutMetricData") == "cloudwatch:PutMetricData"
    assert action_of("lambda", "Invoke") == "lambda:InvokeFunction"
    assert action_of_s3("HeadBucket", "HEAD", {}) == "s3:ListBucket"
    assert action_of_s3("ListBucket", "GET", {"encryption": [""]}) == "s3:GetEncryptionConfiguration"
    assert action_of_s3("CreateBucket", "PUT", {"ownershipControls": [""]}) == "s3:PutBucketOwnershipControls"
