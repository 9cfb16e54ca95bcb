"""Who a caller of the local cloud is, and what the policies of a role say about an action."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import Account
from tidegate.local_cloud.access.policy_decisions import decide

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": "s3:GetObject", "Resource": "*"} | elements


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([], "implicitDeny"),
        ([statement()], "allowed"),
        ([statement(Action="S3:getobject")], "allowed"),
        ([statement(Action=["ec2:*", "s3:Get*"])], "allowed"),
        ([statement(Action="*")], "allowed"),
        ([statement(Action="s3:PutObject")], "implicitDeny"),
        ([statement(Action="s3:GetObjec?")], "allowed"),
        ([statement(Action="s3:[A-Z]etObject")], "implicitDeny"),
        ([statement(Resource="arn:aws:s3:::b/*")], "allowed"),
        ([statement(Resource=["arn:aws:s3:::other/*", "arn:aws:s3:::b"])], "implicitDeny"),
        ([statement(Resource="arn:aws:s3:::B/*")], "implicitDeny"),
        ([statement(), statement("Deny", Action="s3:*")], "explicitDeny"),
        ([statement("Deny", Resource="arn:aws:s3:::other/*"), statement()], "allowed"),
        ([statement(Condition={"Bool": {"aws:SecureTransport": "true"}})], "implicitDeny"),
        ([statement(), statement("Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})], "allowed"),
        ([{"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::other/*"}], "allowed"),
        ([{"Effect": "Allow", "NotAction": ["s3:*"], "Resource": "*"}], "implicitDeny"),
        ([{"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::b/*"}], "implicitDeny"),
    ],
)
def test_a_denial_wins_over_a_permission_and_without_either_the_action_is_denied(
    statements: list[dict[str, Any]], decision: str
) -> None:
    documents = [{"Statement": one} for one in statements]
    assert decide("s3:GetObject", "arn:aws:s3:::b/key", documents) == decision
    assert decide("s3:GetObject", "arn:aws:s3:::b/key", [{"Statement": statements}]) == decision


def document(**elements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement(**elements)]})


def decisions(iam: Any, arn: str, *actions: str, **options: Any) -> list[str]:
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=arn, ActionNames=list(actions), **options
    )
    return [result["EvalDecision"] for page in pages for result in page["EvaluationResults"]]


def test_a_role_may_what_its_own_and_its_attached_policies_allow(account: Account) -> None:
    iam = account.cloud.client("iam")
    role = iam.create_role(RoleName="simulated", Path="/service-role/", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    asked = ("s3:GetObject", "sagemaker:CreateModel", "iam:GetUser")
    assert decisions(iam, role, *asked) == ["implicitDeny"] * 3
    iam.put_role_policy(RoleName="simulated", PolicyName="own", PolicyDocument=document())
    iam.attach_role_policy(RoleName="simulated", PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")
    assert decisions(iam, role, *asked) == ["allowed", "allowed", "implicitDeny"]
    own = iam.create_policy(
        PolicyName="narrow", PolicyDocument=document(effect="Deny", Resource="arn:aws:s3:::locked/*")
    )["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="simulated", PolicyArn=own)
    resources = ["arn:aws:s3:::locked/a", "arn:aws:s3:::open/a"]
    assert decisions(iam, role, "s3:GetObject", ResourceArns=resources) == ["explicitDeny", "allowed"]
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=document(Action="s3:*"))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName="simulated", PermissionsBoundary=boundary)
    assert decisions(iam, role, *asked) == ["allowed", "implicitDeny", "implicitDeny"]
    iam.close()


def test_a_user_may_what_the_policies_of_its_groups_allow(account: Account) -> None:
    iam = account.cloud.client("iam")
    user = iam.create_user(UserName="someone")["User"]["Arn"]
    iam.create_group(GroupName="readers")
    iam.put_group_policy(GroupName="readers", PolicyName="read", PolicyDocument=document())
    assert decisions(iam, user, "s3:GetObject") == ["implicitDeny"]
    iam.add_user_to_group(UserName="someone", GroupName="readers")
    assert decisions(iam, user, "s3:GetObject") == ["allowed"]
    iam.close()


@pytest.mark.parametrize(
    ("arn", "options", "code", "words"),
    [
        ("arn:aws:iam::123456789012:role/nobody", {}, "NoSuchEntity", "nobody not found"),
        ("arn:aws:sts::123456789012:assumed-role/r/s", {}, "InvalidInput", "must be the ARN of a role"),
        ("not-an-arn-at-all-but-long-enough", {}, "InvalidInput", "must be the ARN of a role"),
        (
            "arn:aws:iam::123456789012:role/r",
            {"ContextEntries": [{"ContextKeyName": "aws:x", "ContextKeyType": "string", "ContextKeyValues": ["1"]}]},
            "InvalidInput",
            "does not have ContextEntries",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(
    account: Account, arn: str, options: dict[str, Any], code: str, words: str
) -> None:
    iam = account.cloud.client("iam")
    with pytest.raises(ClientError, match=words) as caught:
        iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["s3:GetObject"], **options)
    assert caught.value.response["Error"]["Code"] == code
    iam.close()


def test_the_caller_is_a_session_of_a_role_that_sagemaker_may_assume_and_that_may_do_everything(
    account: Account,
) -> None:
    sts, iam = account.cloud.client("sts"), account.cloud.client("iam")
    caller = sts.get_caller_identity()
    assert caller["Account"] == "123456789012"
    _, name, session = caller["Arn"].rpartition(":")[2].split("/")
    role = iam.get_role(RoleName=name)["Role"]
    assert (session, name in caller["Arn"]) == ("local", True)
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert decisions(iam, role["Arn"], "sagemaker:CreateEndpoint", "iam:PassRole") == ["allowed", "allowed"]
    sts.close()
    iam.close()
