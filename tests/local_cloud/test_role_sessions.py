"""A cloud that enforces IAM: who is no role may nothing, and a session ends with its time, its role or its policies."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, Account
from tests.local_cloud.test_rights import ALL, IMAGE, LOGS, TRUST, client_with, document, in_role, may, role
from tidegate.local_cloud import LocalCloud

pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

SERVER = (sys.executable, str(Path(__file__).parent / "asking_server.py"))
READS = may(["s3:GetObject", "s3:ListBucket"], ALL, f"{ALL}/*")
PULL = may("ecr:GetAuthorizationToken")
OPENER = build_opener(ProxyHandler({}))
NO_ROLE = "No role was passed to SageMaker in which it could"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    directory = tmp_path_factory.mktemp("sessions") / "state"
    with LocalCloud(directory, container_command=SERVER, enforce_iam=True) as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def model(account: Account, role_arn: str | None, *, image: str = "serve", data: bool = False) -> str:
    name = account.name("model")
    container = {"Image": image} | ({"ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"} if data else {})
    passed = {} if role_arn is None else {"ExecutionRoleArn": role_arn}
    account.sagemaker.create_model(ModelName=name, PrimaryContainer=container, **passed)
    return name


def asked(account: Account, endpoint: str, service: str, operation: str, **members: Any) -> str:
    """What comes of a call that the running server makes."""
    body = json.dumps({"service": service, "operation": operation, "members": members}).encode()
    return account.invoke(endpoint, body).decode()


def reads(account: Account, endpoint: str) -> str:
    return asked(account, endpoint, "s3", "get_object", Bucket=BUCKET, Key="model.tar.gz")


def remove(account: Account, role_arn: str) -> None:
    iam, name = account.cloud.client("iam"), role_arn.rpartition("/")[2]
    iam.delete_role_policy(RoleName=name, PolicyName="own")
    iam.delete_role(RoleName=name)
    iam.close()


def refused(act: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        act(**members)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_a_model_without_a_role_gets_no_data_no_image_and_no_credentials(account: Account) -> None:
    reason = account.failed_endpoint(model(account, None, data=True))
    assert f"{NO_ROLE} call s3: the model has no ExecutionRoleArn." in reason
    assert f"{NO_ROLE} do ecr:GetAuthorizationToken" in account.failed_endpoint(model(account, None, image=IMAGE))
    data = account.put(f"{account.name('place')}/in.csv", b"1\n")
    _, message = refused(
        account.sagemaker.create_transform_job,
        TransformJobName=account.name("transform"),
        ModelName=model(account, None),
        TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}}},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    assert f"{NO_ROLE} call s3" in message
    endpoint = account.endpoint(model(account, None))
    assert reads(account, endpoint) == "Unable to locate credentials"
    account.delete(endpoint)


def test_sessions_end_with_their_role_and_one_of_that_name_is_another_role(account: Account) -> None:
    arn = role(account, READS, PULL, LOGS)
    endpoint = account.endpoint(model(account, arn, data=True))
    own, sagemaker, sts = (in_role(account, arn, service) for service in ("s3", "sagemaker", "sts"))
    assert reads(account, endpoint) == "done"
    assert own.get_object(Bucket=BUCKET, Key="model.tar.gz")["ContentLength"] > 0

    iam = account.cloud.client("iam")
    iam.update_assume_role_policy(
        RoleName=arn.rpartition("/")[2],
        PolicyDocument=document({**TRUST, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}),
    )
    assert reads(account, endpoint) == "done"  # a trust policy is for who takes the role on
    assert refused(own.put_object, Bucket=BUCKET, Key="new")[0] == "AccessDenied"
    iam.close()

    remove(account, arn)
    for _ in range(2):
        assert "(InvalidToken)" in reads(account, endpoint)
        assert refused(own.get_object, Bucket=BUCKET, Key="model.tar.gz")[0] == "InvalidToken"
        assert refused(sts.get_caller_identity)[0] == "InvalidClientTokenId"
        assert refused(sagemaker.list_models)[0] == "UnrecognizedClientException"
        iam, name = account.cloud.client("iam"), arn.rpartition("/")[2]
        if not [each for each in iam.list_roles()["Roles"] if each["RoleName"] == name]:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(TRUST))
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(READS))
        iam.close()
    again = in_role(account, arn, "s3")
    assert again.get_object(Bucket=BUCKET, Key="model.tar.gz")["ContentLength"] > 0
    account.cloud.advance(3600)
    assert reads(account, endpoint) == "done"  # its credentials were to be renewed, and are those of the new role
    for client in (own, sagemaker, sts, again):
        client.close()
    account.delete(endpoint)


def test_a_session_lasts_as_long_as_was_asked_for_on_the_cloud_s_clock(account: Account) -> None:
    arn = role(account, READS, may("sagemaker:ListModels"))
    endpoint = account.endpoint(model(account, arn))
    own, sagemaker, sts = (
        in_role(account, arn, service, DurationSeconds=900) for service in ("s3", "sagemaker", "sts")
    )
    account.cloud.advance(600)
    assert own.get_object(Bucket=BUCKET, Key="model.tar.gz")["ContentLength"] > 0
    assert "Models" in sagemaker.list_models()
    account.cloud.advance(600)
    expired = "The security token included in the request is expired"
    got = refused(own.get_object, Bucket=BUCKET, Key="model.tar.gz")
    assert got == ("ExpiredToken", "The provided token has expired.")
    assert refused(sagemaker.list_models) == ("ExpiredTokenException", expired)
    assert refused(sts.get_caller_identity) == ("ExpiredToken", expired)
    account.cloud.advance(4 * 3600)
    assert reads(account, endpoint) == "done"
    caller = account.cloud.client("sts")
    too_long = {"RoleArn": arn, "RoleSessionName": "somebody", "DurationSeconds": 3601}
    assert "exceeds the MaxSessionDuration" in refused(caller.assume_role, **too_long)[1]
    for client in (own, sagemaker, sts, caller):
        client.close()
    account.delete(endpoint)


def test_sessions_from_before_a_moment_can_be_revoked(account: Account) -> None:
    """As the console does it: "Revoke IAM role temporary security credentials"."""
    arn, iam = role(account, READS), account.cloud.client("iam")
    before = in_role(account, arn, "s3")
    moment = account.cloud.advance(10).isoformat()
    account.cloud.advance(10)
    older = {"DateLessThan": {"aws:TokenIssueTime": moment}}
    revokes = document(may("*", effect="Deny", Condition=older))
    iam.put_role_policy(RoleName=arn.rpartition("/")[2], PolicyName="AWSRevokeOlderSessions", PolicyDocument=revokes)
    after = in_role(account, arn, "s3")
    assert after.get_object(Bucket=BUCKET, Key="model.tar.gz")["ContentLength"] > 0
    message = refused(before.get_object, Bucket=BUCKET, Key="model.tar.gz")[1]
    assert "with an explicit deny in an identity-based policy" in message
    for client in (before, after, iam):
        client.close()


def test_a_role_takes_on_another_that_trusts_it(account: Account) -> None:
    first = role(account, may("sts:AssumeRole", "arn:aws:iam::123456789012:role/*"))
    lazy = role(account)
    of_account = {**TRUST, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}
    by_name = {**TRUST, "Principal": {"AWS": lazy, "Service": "sagemaker.amazonaws.com"}}
    trusting, naming, closed = role(account, trust=of_account), role(account, READS, trust=by_name), role(account)

    def takes(who: str, other: str) -> dict[str, Any]:
        sts = in_role(account, who, "sts")
        try:
            return dict(sts.assume_role(RoleArn=other, RoleSessionName="chained")["Credentials"])
        finally:
            sts.close()

    takes(first, trusting)
    s3 = client_with(account, takes(lazy, naming), "s3")  # who is named needs no policy of his own
    assert s3.get_object(Bucket=BUCKET, Key="model.tar.gz")["ContentLength"] > 0
    assert refused(s3.put_object, Bucket=BUCKET, Key="new")[0] == "AccessDenied"
    s3.close()
    for who, other, why in (
        (lazy, trusting, "no identity-based policy allows"),
        (first, closed, "no role trust policy allows"),
        (first, "arn:aws:iam::123456789012:role/nobody", "no role trust policy allows"),
    ):
        code, message = refused(takes, who=who, other=other)
        assert (code, why in message) == ("AccessDenied", True), message


def test_a_session_s_own_policies_and_a_boundary_narrow_it_until_they_are_gone(account: Account) -> None:
    arn, iam = role(account, may("s3:*")), account.cloud.client("iam")
    only = iam.create_policy(PolicyName=account.name("only"), PolicyDocument=document(READS))["Policy"]["Arn"]
    narrow = in_role(account, arn, "s3", Policy=document(may("s3:PutObject", f"{ALL}/mine/*")))
    managed = in_role(account, arn, "s3", PolicyArns=[{"arn": only}])
    nothing = in_role(account, arn, "s3", PolicyArns=[{"arn": "arn:aws:iam::123456789012:policy/none"}])
    narrow.put_object(Bucket=BUCKET, Key="mine/a", Body=b"a")
    managed.get_object(Bucket=BUCKET, Key="mine/a")
    for client in (narrow, managed, nothing):
        message = refused(client.put_object, Bucket=BUCKET, Key="yours/a")[1]
        assert "because no session policy allows the s3:PutObject action" in message
    name = arn.rpartition("/")[2]
    iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=only)
    assert "no permissions boundary" in refused(narrow.put_object, Bucket=BUCKET, Key="mine/b")[1]
    iam.delete_role_permissions_boundary(RoleName=name)
    narrow.put_object(Bucket=BUCKET, Key="mine/b", Body=b"b")
    for client in (narrow, managed, nothing, iam):
        client.close()


@pytest.mark.parametrize("policy", ["no json", "[]", '{"Version": "2012-10-17"}'])
def test_a_policy_that_is_none_is_refused_or_allows_nothing(account: Account, policy: str) -> None:
    arn, bucket = role(account, may("s3:*")), account.name("malformed")
    with pytest.raises(ClientError) as caught:
        in_role(account, arn, "s3", Policy=policy)
    assert caught.value.response["Error"]["Code"] == "MalformedPolicyDocument"
    account.s3.create_bucket(Bucket=bucket)
    account.s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    s3 = in_role(account, arn, "s3")
    assert "because a policy that counts is malformed (" in refused(s3.list_objects_v2, Bucket=bucket)[1]
    s3.close()


def test_objects_are_known_by_their_names_whatever_letters_they_have(account: Account) -> None:
    place = account.name("place")
    mine = f"{ALL}/{place}/für ä&<b>/*"
    own = in_role(account, role(account, may(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], mine)), "s3")
    mine_key, other = f"{place}/für ä&<b>/ü +%.csv", f"{place}/für ä/a.csv"
    account.put(other, b"1")
    own.put_object(Bucket=BUCKET, Key=mine_key, Body=b"1")
    own.copy_object(Bucket=BUCKET, Key=f"{mine_key}.2", CopySource={"Bucket": BUCKET, "Key": mine_key})
    source = {"Bucket": BUCKET, "Key": other}
    assert other in refused(own.copy_object, Bucket=BUCKET, Key=f"{mine_key}.3", CopySource=source)[1]
    assert other in refused(own.delete_objects, Bucket=BUCKET, Delete={"Objects": [{"Key": other}]})[1]
    own.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": mine_key}, {"Key": f"{mine_key}.2"}]})
    assert account.keys(f"{place}/") == [other]
    own.close()


def test_whoever_signs_is_known_by_every_way_to_sign(account: Account) -> None:
    """Signatures of version 2 and presigned addresses too, and the bearer tokens of chat completions."""
    sts = account.cloud.client("sts")
    given = sts.assume_role(RoleArn=role(account, READS), RoleSessionName="somebody")["Credentials"]
    own = client_with(account, given, "s3")
    of_version_2 = client_with(account, given, "s3", config=Config(signature_version="s3"))
    with pytest.raises(ClientError, match="s3:PutObject"):
        of_version_2.put_object(Bucket=BUCKET, Key="new", Body=b"1")
    for signer in (own, of_version_2):
        address = signer.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "new"})
        with pytest.raises(HTTPError) as caught:
            OPENER.open(Request(address, b"1", method="PUT"), timeout=60)  # noqa: S310 - of this cloud
        assert b"is not authorized to perform: s3:PutObject" in caught.value.read()
    endpoint = account.endpoint(model(account, None))
    signed = (
        f"sagemaker.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Credential={given['AccessKeyId']}%2F20260101%2Fr"
    )
    token = base64.b64encode(signed.encode()).decode()
    chat = f"{account.cloud.environment['AWS_ENDPOINT_URL_SAGEMAKER']}/endpoints/{endpoint}/openai/v1/chat/completions"
    headers = {"Authorization": f"Bearer sagemaker-api-key-{token}"}
    with pytest.raises(HTTPError) as caught:
        OPENER.open(Request(chat, b"{}", headers, method="POST"), timeout=60)  # noqa: S310 - of this cloud
    assert b"is not authorized to perform: sagemaker:CallWithBearerToken on resource: *" in caught.value.read()
    account.delete(endpoint)
    for client in (own, of_version_2, sts):
        client.close()


def test_what_is_denied_without_a_resource_names_what_a_list_is_about(account: Account) -> None:
    arn = role(account)
    iam = in_role(account, arn, "iam")
    assert "iam:ListRoles on resource: arn:aws:iam::123456789012:role/ because" in refused(iam.list_roles)[1]
    assert "iam:GetAccountSummary on resource: * because" in refused(iam.get_account_summary)[1]
    iam.close()


def test_a_missing_right_to_logs_is_one_sentence_of_the_cloud_s_log(account: Account) -> None:
    arn = role(account, READS)
    endpoint = account.endpoint(model(account, arn))
    account.delete(endpoint)
    log = (account.cloud.directory / "supervisor.log").read_text(encoding="utf-8").splitlines()
    (line,) = (place for place, text in enumerate(log) if f"the log group /aws/sagemaker/Endpoints/{endpoint} " in text)
    assert "is not authorized to perform: logs:CreateLogGroup" in log[line]
    assert not any(text.startswith(("Traceback", "  File")) for text in log[line + 1 : line + 2])


def test_a_role_of_a_stack_has_what_its_template_says_now(account: Account) -> None:
    """Inline and managed policies, boundary and trust, and not what the template said before."""
    name, iam = account.name("stack"), account.cloud.client("iam")
    managed = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
    bound = iam.create_policy(PolicyName=account.name("bound"), PolicyDocument=document(may("s3:*")))["Policy"]["Arn"]

    def deployed(waits: str, **properties: Any) -> None:
        given = {"RoleName": name, "AssumeRolePolicyDocument": json.loads(document(TRUST)), **properties}
        template = json.dumps({"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": given}}})
        act = account.cloudformation.create_stack if waits == "create" else account.cloudformation.update_stack
        act(StackName=name, TemplateBody=template, Capabilities=["CAPABILITY_NAMED_IAM"])
        waiter = account.cloudformation.get_waiter(f"stack_{waits}_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 1})

    def inline(called: str, *statements: dict[str, Any]) -> dict[str, Any]:
        return {"PolicyName": called, "PolicyDocument": json.loads(document(*statements))}

    deployed("create", Policies=[inline("old", may("s3:PutObject"))], ManagedPolicyArns=[managed])
    s3 = in_role(account, f"arn:aws:iam::123456789012:role/{name}", "s3")
    s3.get_object(Bucket=BUCKET, Key="model.tar.gz")
    s3.put_object(Bucket=BUCKET, Key="of-a-stack", Body=b"1")
    iam.put_role_policy(RoleName=name, PolicyName="of-somebody", PolicyDocument=document(may("s3:ListBucket")))

    deployed("update", Policies=[inline("new", may("s3:DeleteObject"))], PermissionsBoundary=bound)
    s3.delete_object(Bucket=BUCKET, Key="of-a-stack")
    s3.list_objects_v2(Bucket=BUCKET)
    for call in (s3.get_object, s3.put_object):
        assert refused(call, Bucket=BUCKET, Key="model.tar.gz")[0] == "AccessDenied"
    assert iam.get_role(RoleName=name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == bound

    deployed("update", ManagedPolicyArns=[managed], MaxSessionDuration=7200)
    assert iam.get_role(RoleName=name)["Role"]["MaxSessionDuration"] == 7200
    assert "PermissionsBoundary" not in iam.get_role(RoleName=name)["Role"]
    assert s3.get_object(Bucket=BUCKET, Key="model.tar.gz")["ContentLength"] > 0
    assert refused(s3.delete_object, Bucket=BUCKET, Key="of-a-stack")[0] == "AccessDenied"
    account.cloudformation.delete_stack(StackName=name)
    account.cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    assert name not in {each["RoleName"] for each in iam.list_roles()["Roles"]}
    for client in (s3, iam):
        client.close()
