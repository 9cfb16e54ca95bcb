"""A cloud that enforces IAM: what runs in a role may do what the role's policies allow, and says what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.local_cloud import pipelines, test_processing_jobs, training
from tests.local_cloud.conftest import BUCKET, STAND_IN, Account, await_true
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.__main__ import main

pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
ALL = f"arn:aws:s3:::{BUCKET}"
TRUST = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
PULLS = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    directory = tmp_path_factory.mktemp("rights") / "state"
    with LocalCloud(directory, container_command=STAND_IN, enforce_iam=True) as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def may(actions: str | list[str], *resources: str, effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": actions, "Resource": list(resources) or "*", **elements}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


READS = may("s3:GetObject", f"{ALL}/*")
PULL = may([*PULLS, "ecr:GetAuthorizationToken"])


def role(account: Account, *statements: dict[str, Any], trust: dict[str, Any] = TRUST, **options: Any) -> str:
    """The ARN of a new role that may do this."""
    iam, name = account.cloud.client("iam"), account.name("role")
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust), **options)["Role"]["Arn"]
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(*statements))
    iam.close()
    return arn


def model(account: Account, role_arn: str, *, key: str = "model.tar.gz") -> str:
    name = account.name("model")
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{key}"}
    account.sagemaker.create_model(ModelName=name, ExecutionRoleArn=role_arn, PrimaryContainer=container)
    return name


def session_of(role_arn: str) -> str:
    return f"arn:aws:sts::123456789012:assumed-role/{role_arn.rpartition('/')[2]}/SageMaker"


def denied(role_arn: str, action: str, resource: str) -> str:
    return (
        f"User: {session_of(role_arn)} is not authorized to perform: {action} on resource: {resource}"
        f" because no identity-based policy allows the {action} action"
    )


def test_an_endpoint_serves_in_a_role_that_may_read_its_model_and_pull_its_image(account: Account) -> None:
    endpoint = account.endpoint(model(account, role(account, READS, PULL)))
    assert account.invoke(endpoint, b"{}")
    account.delete(endpoint)


def test_an_endpoint_fails_without_the_right_to_its_model_and_says_which(account: Account) -> None:
    arn = role(account, PULL)
    reason = account.failed_endpoint(model(account, arn))
    assert 'Failed to download model data for container "container_1" from URL: "s3://test-bucket/model' in reason
    assert "that the role passed to CreateModel has permissions to download the object." in reason
    assert denied(arn, "s3:GetObject", f'"{ALL}/model.tar.gz"') in reason


def test_an_endpoint_fails_without_the_right_to_its_image(account: Account) -> None:
    arn = role(account, READS, may("ecr:GetAuthorizationToken"), may(PULLS[0]))
    reason = account.failed_endpoint(model(account, arn))
    assert reason.startswith("Please make sure all images included in the model for the production variant variant-0")
    assert denied(arn, "ecr:BatchGetImage", "arn:aws:ecr:us-east-1:123456789012:repository/serve") in reason


def test_a_denial_of_the_bucket_and_a_boundary_bind_a_role_that_may_everything(account: Account) -> None:
    bucket, iam = account.name("bucket"), account.cloud.client("iam")
    arn = role(account, may("*"))
    account.s3.create_bucket(Bucket=bucket)
    account.s3.put_object(Bucket=bucket, Key="model.tar.gz", Body=account.get("model.tar.gz"))
    name = account.name("model")
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{bucket}/model.tar.gz"}
    account.sagemaker.create_model(ModelName=name, ExecutionRoleArn=arn, PrimaryContainer=container)
    forbids = may("s3:GetObject", f"arn:aws:s3:::{bucket}/*", effect="Deny", Principal={"AWS": arn})
    account.s3.put_bucket_policy(Bucket=bucket, Policy=document(forbids))
    assert "with an explicit deny in a resource-based policy" in account.failed_endpoint(name)
    account.s3.delete_bucket_policy(Bucket=bucket)
    boundary = iam.create_policy(PolicyName=account.name("boundary"), PolicyDocument=document(PULL))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName=arn.rpartition("/")[2], PermissionsBoundary=boundary)
    assert "because no permissions boundary allows the s3:GetObject action" in account.failed_endpoint(name)
    iam.close()


def create_config(account: Account, role_arn: str) -> None:
    variant = {"VariantName": "v", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
    name = account.name("config")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant], ExecutionRoleArn=role_arn
    )


@pytest.mark.parametrize(
    "create",
    [
        model,
        create_config,
        lambda account, arn: training.start(account, "", RoleArn=arn),
        lambda account, arn: test_processing_jobs.start(account, "", RoleArn=arn),
    ],
    ids=["CreateModel", "CreateEndpointConfig", "CreateTrainingJob", "CreateProcessingJob"],
)
def test_a_role_that_is_not_there_or_trusts_another_service_is_refused(
    account: Account, create: Callable[[Account, str], object]
) -> None:
    other = {**TRUST, "Principal": {"Service": "ec2.amazonaws.com"}}
    for arn in ("arn:aws:iam::123456789012:role/nobody", role(account, may("*"), trust=other)):
        with pytest.raises(ClientError, match=r"exists and (that its trust|allows principal)") as caught:
            create(account, arn)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        assert arn in caught.value.response["Error"]["Message"]


ASKS = """
import boto3
print("I am", boto3.client("sts").get_caller_identity()["Arn"])
for call in (
    lambda: boto3.client("s3").put_object(Bucket="test-bucket", Key=sys.argv[1] + "/allowed/a", Body=b"a"),
    lambda: boto3.client("s3").put_object(Bucket="test-bucket", Key=sys.argv[1] + "/b", Body=b"b"),
    lambda: boto3.client("sagemaker").list_models(),
    lambda: boto3.client("sagemaker").describe_model(ModelName="mine"),
    lambda: boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName="nobody", Body=b""),
    lambda: boto3.client("sqs").list_queues(),
):
    try:
        call()
        print("done")
    except Exception as error:
        print(error)
"""
LOGS = may(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], "arn:aws:logs:*:*:log-group:*")


def test_the_calls_of_a_job_itself_are_checked_by_the_policies_of_its_role(account: Account) -> None:
    place = account.name("place")
    arn = role(
        account,
        READS,
        PULL,
        LOGS,
        may("s3:ListBucket", ALL),
        may("s3:PutObject", f"{ALL}/{place}/allowed/*"),
        may("sagemaker:ListModels"),
        may("sagemaker:DescribeModel", "arn:aws:sagemaker:us-east-1:123456789012:model/yours"),
    )
    job = test_processing_jobs.start(account, ASKS, place, RoleArn=arn)
    description = test_processing_jobs.ended(account, job)
    assert description["ProcessingJobStatus"] == "Completed", description
    said = training.lines(account, job, group=test_processing_jobs.GROUP)
    assert said[:2] == [f"I am {session_of(arn)}", "done"]
    assert denied(arn, "s3:PutObject", f'"{ALL}/{place}/b"') in said[2]
    assert said[3] == "done"
    assert denied(arn, "sagemaker:DescribeModel", "arn:aws:sagemaker:us-east-1:123456789012:model/mine") in said[4]
    assert "AccessDeniedException" in said[4]
    endpoint = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/nobody"
    assert denied(arn, "sagemaker:InvokeEndpoint", endpoint) in said[5]
    assert "AccessDenied" in said[6]
    assert "sqs:ListQueues" in said[6]


def test_a_job_fails_with_the_right_that_its_role_misses(account: Account) -> None:
    listing = may("s3:ListBucket", ALL)
    arn = role(account, READS, LOGS, listing)
    description = test_processing_jobs.ended(account, test_processing_jobs.start(account, "", RoleArn=arn))
    assert denied(arn, "ecr:GetAuthorizationToken", "*") in description["FailureReason"]
    arn = role(account, LOGS, PULL, listing)
    description = test_processing_jobs.ended(account, test_processing_jobs.start(account, "", RoleArn=arn))
    assert "Unable to download object s3://test-bucket/" in description["FailureReason"]
    assert "(AccessDenied: User: " in description["FailureReason"]


def test_a_training_job_needs_a_role_that_may_list_its_input(account: Account) -> None:
    data = account.put(f"{account.name('data')}/a.csv", b"1")
    with pytest.raises(ClientError, match=r'has "s3:ListBucket" permissions on bucket "test-bucket"\.') as caught:
        training.start(account, "", RoleArn=role(account, READS), InputDataConfig=[training.channel("train", data)])
    assert "is not authorized to perform: s3:ListBucket" in str(caught.value)


def test_a_transform_job_fails_without_the_right_to_write_its_output(account: Account) -> None:
    place = account.name("place")
    data = account.put(f"{place}/in.csv", b"1\n")
    arn = role(account, READS, PULL, may("s3:ListBucket", ALL, Condition={"StringLike": {"s3:prefix": f"{place}/*"}}))
    job = account.name("transform")
    account.sagemaker.create_transform_job(
        TransformJobName=job,
        ModelName=model(account, arn),
        TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}}},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{place}/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    description: dict[str, Any] = {}

    def is_over() -> bool:
        description.update(account.sagemaker.describe_transform_job(TransformJobName=job))
        return description["TransformJobStatus"] not in ("InProgress", "Stopping")

    await_true(is_over, "the transform job ends", timeout_s=600)
    assert description["TransformJobStatus"] == "Failed"
    assert denied(arn, "s3:PutObject", f'"{ALL}/{place}/out/in.csv.out"') in description["FailureReason"]


def in_role(account: Account, role_arn: str, service: str, **asked: Any) -> Any:
    """A client of somebody who took on a role by himself."""
    sts = account.cloud.client("sts")
    given = sts.assume_role(RoleArn=role_arn, RoleSessionName="somebody", **asked)["Credentials"]
    sts.close()
    return client_with(account, given, service)


def client_with(account: Account, given: dict[str, Any], service: str, **options: Any) -> Any:
    """A client with the credentials that AssumeRole gave."""
    name = f"AWS_ENDPOINT_URL_{service.upper()}"
    return boto3.client(
        service,
        endpoint_url=account.cloud.environment.get(name, account.cloud.environment["AWS_ENDPOINT_URL"]),
        region_name="us-east-1",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        **options,
    )


def test_a_missing_object_is_a_forbidden_one_for_who_may_not_list(account: Account) -> None:
    for statements, code in (([READS], "AccessDenied"), ([READS, may("s3:ListBucket", ALL)], "NoSuchKey")):
        s3 = in_role(account, role(account, *statements), "s3")
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket=BUCKET, Key="nothing")
        assert caught.value.response["Error"]["Code"] == code
        s3.close()


def test_an_object_under_a_key_needs_the_rights_to_the_key_and_the_keys_own_policy(account: Account) -> None:
    kms, bucket = account.cloud.client("kms"), account.name("encrypted")
    key = kms.create_key()["KeyMetadata"]
    account.s3.create_bucket(Bucket=bucket)
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key["Arn"]}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    account.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rules)
    account.s3.put_object(Bucket=bucket, Key="a", Body=b"a")
    objects = may(["s3:GetObject", "s3:PutObject"], f"arn:aws:s3:::{bucket}/*")
    through_s3 = {"StringLike": {"kms:ViaService": "s3.us-east-1.amazonaws.com*"}}
    s3 = in_role(account, role(account, objects, may("kms:Decrypt", key["Arn"], Condition=through_s3)), "s3")
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"a"
    with pytest.raises(ClientError, match=f"kms:GenerateDataKey on resource: {key['Arn']} because no identity"):
        s3.put_object(Bucket=bucket, Key="b", Body=b"b")
    closed = may("kms:*", Principal={"AWS": "arn:aws:iam::123456789012:role/somebody-else"})
    kms.put_key_policy(KeyId=key["KeyId"], PolicyName="default", Policy=document(closed))
    with pytest.raises(ClientError, match="because no resource-based policy allows the kms:Decrypt action"):
        s3.get_object(Bucket=bucket, Key="a")
    s3.close()
    kms.close()


def test_calls_of_other_services_are_answered_with_their_own_codes(account: Account) -> None:
    arn = role(account, may("ssm:GetParameter", "arn:aws:ssm:*:*:parameter/mine"))
    ssm, sns = in_role(account, arn, "ssm"), in_role(account, arn, "sns")
    own = account.cloud.client("ssm")
    own.put_parameter(Name="/mine", Value="1", Type="String")
    own.put_parameter(Name="/yours", Value="2", Type="String")
    own.close()
    assert ssm.get_parameter(Name="/mine")["Parameter"]["Value"] == "1"
    with pytest.raises(ClientError, match=r"ssm:GetParameter on resource: \S+:parameter/yours ") as denied_one:
        ssm.get_parameter(Name="/yours")
    assert denied_one.value.response["Error"]["Code"] == "AccessDeniedException"
    with pytest.raises(ClientError, match="sns:CreateTopic") as caught:
        sns.create_topic(Name="new")
    assert caught.value.response["Error"]["Code"] == "AuthorizationError"
    ssm.close()
    sns.close()


PASSES = {"StartAt": "Put", "States": {"Put": {
    "Type": "Task",
    "Resource": "arn:aws:states:::aws-sdk:s3:putObject",
    "Parameters": {"Bucket": BUCKET, "Key.$": "$.key", "Body": "noted"},
    "End": True,
}}}  # fmt: skip


def test_a_state_machine_acts_in_its_role_and_needs_to_be_trusted_with_it(account: Account) -> None:
    states, place = account.cloud.client("stepfunctions"), account.name("place")
    machine = f"arn:aws:states:us-east-1:123456789012:stateMachine:{place}"
    trust = {
        **TRUST,
        "Principal": {"Service": "states.amazonaws.com"},
        "Condition": {"ArnLike": {"aws:SourceArn": machine}, "StringEquals": {"aws:SourceAccount": "123456789012"}},
    }
    arn = role(account, may("s3:PutObject", f"{ALL}/{place}/in/*"), trust=trust)
    states.create_state_machine(name=place, definition=json.dumps(PASSES), roleArn=arn)

    def run(key: str) -> dict[str, Any]:
        execution = states.start_execution(stateMachineArn=machine, input=json.dumps({"key": key}))["executionArn"]
        description: dict[str, Any] = {}

        def is_over() -> bool:
            description.update(states.describe_execution(executionArn=execution))
            return description["status"] != "RUNNING"

        await_true(is_over, f"the execution for {key} ends")
        return description

    assert run(f"{place}/in/a")["status"] == "SUCCEEDED"
    failed = run(f"{place}/b")
    assert failed["status"] == "FAILED"
    assert f'is not authorized to perform: s3:PutObject on resource: "{ALL}/{place}/b"' in failed["cause"]
    other = states.create_state_machine(name=f"{place}-2", definition=json.dumps(PASSES), roleArn=arn)
    with pytest.raises(ClientError, match=r"states\.amazonaws\.com, nor the regional one is authorized to assume"):
        states.start_execution(stateMachineArn=other["stateMachineArn"], input="{}")
    states.close()


def test_a_role_of_callers_is_not_checked_and_one_that_is_gone_is_not_taken_on(account: Account) -> None:
    of_callers = role(account, trust={**TRUST, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}})
    for free in ("arn:aws:iam::123456789012:role/nobody", of_callers):
        s3 = in_role(account, free, "s3")
        assert s3.list_buckets()["Buckets"]
        s3.close()
    arn, iam = role(account, READS, PULL), account.cloud.client("iam")
    name = model(account, arn)
    endpoint = account.endpoint(name)
    iam.delete_role_policy(RoleName=arn.rpartition("/")[2], PolicyName="own")
    iam.delete_role(RoleName=arn.rpartition("/")[2])
    iam.close()
    assert f"Could not assume role {arn}. Please ensure that the role exists" in account.failed_endpoint(name)
    account.delete(endpoint)


def test_what_a_template_leaves_out_of_a_policy_is_not_in_it(account: Account) -> None:
    """A bootstrapped account has such roles: statements in Fn::If, which give nothing."""
    name, nothing = account.name("stack"), {"Fn::If": ["Never", TRUST, {"Ref": "AWS::NoValue"}]}
    policy = {"Version": "2012-10-17", "Statement": [READS, {"Fn::If": ["Never", PULL, {"Ref": "AWS::NoValue"}]}]}
    trust = {"Version": "2012-10-17", "Statement": [nothing, TRUST]}
    policies = [{"PolicyName": "own", "PolicyDocument": policy}]
    properties = {"RoleName": name, "AssumeRolePolicyDocument": trust, "Policies": policies}
    template = {
        "Conditions": {"Never": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": properties}},
    }
    account.cloudformation.create_stack(
        StackName=name, TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    account.cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1})
    s3 = in_role(account, f"arn:aws:iam::123456789012:role/{name}", "s3")
    assert s3.get_object(Bucket=BUCKET, Key="model.tar.gz")["ContentLength"] > 0
    with pytest.raises(ClientError, match="s3:PutObject"):
        s3.put_object(Bucket=BUCKET, Key="another", Body=b"")
    s3.close()


def test_the_exported_credentials_may_do_everything(account: Account) -> None:
    assert account.s3.list_buckets()["Buckets"]
    assert "Models" in account.sagemaker.list_models()


def test_the_command_line_says_whether_a_cloud_that_is_up_enforces(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_CLOUD_DIR", str(account.cloud.directory))
    for command in (["up", "--enforce-iam"], ["up"], ["status"]):
        assert main(command) == 0
        assert ", enforces the rights of roles" in capsys.readouterr().err
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["enforces_iam"] is True
    main(["doctor"])
    assert ", and enforces the rights of roles" in capsys.readouterr().out
    with LocalCloud(tmp_path / "state") as other:
        monkeypatch.setenv("LOCAL_CLOUD_DIR", str(other.directory))
        assert main(["status"]) == 0
        assert "enforces" not in capsys.readouterr().err
        assert main(["up", "--enforce-iam"]) == 1
    assert "does not enforce IAM; take it down first" in capsys.readouterr().err


def test_a_step_of_a_pipeline_may_do_what_the_pipeline_s_role_may(account: Account) -> None:
    passed = role(account)
    container = {"Image": "any", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    text = pipelines.definition(
        pipelines.step("Create", "Model", {"ExecutionRoleArn": passed, "PrimaryContainer": container})
    )
    creates = may("sagemaker:CreateModel")
    to_sagemaker = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    for statements, missing in (
        ([], "sagemaker:CreateModel"),
        ([creates], "iam:PassRole"),
        ([creates, may("iam:PassRole", passed, Condition=to_sagemaker)], None),
    ):
        name = account.name("pipeline")
        account.sagemaker.create_pipeline(
            PipelineName=name, PipelineDefinition=text, RoleArn=role(account, *statements)
        )
        execution = pipelines.start(account, name)
        end = pipelines.ended(account, execution)
        step = pipelines.steps_of(account, execution)["Create"]
        if missing is None:
            assert end["PipelineExecutionStatus"] == "Succeeded", step
        else:
            assert step["FailureReason"].startswith(
                "ClientError: Failed to invoke sagemaker:CreateModel. Error Details:"
            )
            assert f"is not authorized to perform: {missing} on resource:" in step["FailureReason"]


def test_a_role_that_sagemaker_cannot_take_on_gets_no_pipeline(account: Account) -> None:
    text = pipelines.definition(pipelines.fail("Fail", ""))
    with pytest.raises(ClientError, match="Could not assume role arn:aws:iam::123456789012:role/none"):
        account.sagemaker.create_pipeline(
            PipelineName=account.name("pipeline"),
            PipelineDefinition=text,
            RoleArn="arn:aws:iam::123456789012:role/none",
        )
