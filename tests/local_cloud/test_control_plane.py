"""The control plane through plain boto3: what it accepts, describes, lists and refuses."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, Account
from tidegate.local_cloud.sagemaker.capabilities import REFUSED_VALUES, SUPPORT, leaves
from tidegate.local_cloud.sagemaker.invocation_members import HONOURED, REFUSED
from tidegate.local_cloud.sagemaker.shapes import compiled_pattern, operation_model

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
PARTS = ("member", "key", "value")  # of list and map shapes
VARIANT = {"VariantName": "a", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
POOLED = {"VariantName": "a", "ModelName": "m", "InitialInstanceCount": 1}


@pytest.fixture(scope="module")
def unchecked(account: Account) -> Any:
    """A client that sends what it is given, as clients in other languages may."""
    environment = account.cloud.environment
    return boto3.client(
        "sagemaker",
        endpoint_url=environment["AWS_ENDPOINT_URL_SAGEMAKER"],
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )


def refusal(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def post(account: Account, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(account.cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER"].rpartition("/")[2])
    with closing(connection):
        connection.request("POST", "/", body, {key.replace("_", "-"): headers[key] for key in headers})
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def test_a_model_is_described_as_it_was_created(account: Account) -> None:
    name = account.model(SETTING="1")
    described = account.sagemaker.describe_model(ModelName=name)
    assert described["ModelArn"] == f"arn:aws:sagemaker:us-east-1:123456789012:model/{name}"
    assert described["PrimaryContainer"]["Environment"] == {"SETTING": "1"}
    assert described["ExecutionRoleArn"] == ROLE
    assert described["EnableNetworkIsolation"] is False


def test_names_are_taken_once_and_missing_ones_are_named(account: Account) -> None:
    name = account.model()
    container = {"Image": IMAGE}
    code, message = refusal(account.sagemaker.create_model, ModelName=name, PrimaryContainer=container)
    assert (code, message) == (
        "ValidationException",
        f'Cannot create already existing model "arn:aws:sagemaker:us-east-1:123456789012:model/{name}".',
    )
    _, message = refusal(account.sagemaker.describe_model, ModelName="nobody")
    assert message == 'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/nobody".'
    code, _ = refusal(account.sagemaker.describe_transform_job, TransformJobName="nobody")
    assert code == "ResourceNotFound"


def test_a_deleted_model_is_gone(account: Account) -> None:
    name = account.model()
    account.sagemaker.delete_model(ModelName=name)
    assert refusal(account.sagemaker.describe_model, ModelName=name)[0] == "ValidationException"


def test_an_instance_type_that_aws_does_not_have_is_refused_with_the_list(account: Account) -> None:
    variant = {**VARIANT, "ModelName": account.model(), "InstanceType": "ml.g99.huge"}
    code, message = refusal(
        account.sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[variant]
    )
    assert code == "ValidationException"
    start = "1 validation error detected: Value 'ml.g99.huge' at 'productionVariants.1.member.instanceType' failed"
    assert message.startswith(start)
    assert "ml.g6.xlarge" in message


def test_an_endpoint_config_needs_models_that_exist(account: Account) -> None:
    variant = {**VARIANT, "ModelName": "nobody"}
    _, message = refusal(account.sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[variant])
    assert message.startswith("Could not find model")


def test_what_a_client_does_not_check_is_checked_here(account: Account, unchecked: Any) -> None:
    _, message = refusal(unchecked.create_endpoint, EndpointName="under_score")
    assert message.startswith("2 validation errors detected: ")
    assert "Value null at 'endpointConfigName' failed to satisfy constraint: Member must not be null" in message
    assert "Value 'under_score' at 'endpointName' failed to satisfy constraint: Member must satisfy regular" in message
    _, message = refusal(unchecked.list_models, MaxResults=1000)
    assert "Value '1000' at 'maxResults' failed to satisfy constraint: Member must have value less than" in message
    body = json.dumps({"ModelName": "m", "PrimaryContainer": "image"}).encode()
    message = post(account, body, X_Amz_Target="SageMaker.CreateModel")[1]["message"]
    assert "at 'primaryContainer' failed to satisfy constraint: Member must be of type structure" in message


@pytest.mark.parametrize(
    ("operation", "members", "words"),
    [
        ("create_model", {"PrimaryContainer": {"Image": IMAGE, "Mode": "MultiModel"}}, "ends with a slash"),
        ("create_model", {"PrimaryContainer": {"Image": IMAGE, "MultiModelConfig": {}}}, "needs Mode MultiModel"),
        ("create_model", {"PrimaryContainer": {"ModelPackageName": "p"}}, "model-package/p does not exist."),
        (
            "create_model",
            {"PrimaryContainer": {"ModelPackageName": "p", "Image": IMAGE}},
            "either ModelPackageName or Image",
        ),
        (
            "create_model",
            {"Containers": [{"Image": IMAGE}], "InferenceExecutionConfig": {"Mode": "Direct"}},
            "Mode Direct needs more than one container",
        ),
        (
            "create_model",
            {"Containers": [{"Image": IMAGE}, {"Image": IMAGE}], "InferenceExecutionConfig": {"Mode": "Direct"}},
            "ContainerHostname is needed for each container",
        ),
        (
            "create_model",
            {"Containers": [{"Image": IMAGE, "ContainerHostname": "a"}, {"Image": IMAGE}]},
            "ContainerHostname is needed for each container",
        ),
        (
            "create_model",
            {"Containers": [{"Image": IMAGE, "ContainerHostname": "a"}, {"Image": IMAGE, "ContainerHostname": "a"}]},
            "names of the containers must differ: a, a",
        ),
        (
            "create_model",
            {"Containers": [{"Image": IMAGE, "Environment": {"A": "x" * 1000}} for _ in range(15)] * 3},
            "Member must have length less than or equal to 15",
        ),
        ("create_model", {}, "either PrimaryContainer or Containers"),
        ("create_model", {"PrimaryContainer": {}}, "Must supply one of image"),
        ("create_model", {"PrimaryContainer": {"ModelDataUrl": "s3://b/k"}}, "Must supply one of image"),
    ],
)
def test_a_model_that_could_not_run_is_refused_by_name(
    account: Account, operation: str, members: dict[str, Any], words: str
) -> None:
    code, message = refusal(getattr(account.sagemaker, operation), ModelName="never", **members)
    assert code == "ValidationException"
    assert words in message


@pytest.mark.parametrize(
    "members",
    [
        {"ExplainerConfig": {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {"ShapBaseline": "1"}}}}},
        {
            "ProductionVariants": [
                POOLED
                | {"InstancePools": [{"InstanceType": "ml.m5.large", "Priority": 1, "ModelNameOverride": "another"}]}
            ]
        },
    ],
)
def test_kinds_of_endpoints_that_are_not_here_are_refused_and_not_ignored(
    account: Account, members: dict[str, Any]
) -> None:
    request = {"ProductionVariants": [{**VARIANT, "ModelName": account.model()}], **members}
    code, message = refusal(account.sagemaker.create_endpoint_config, EndpointConfigName="c", **request)
    assert code == "ValidationException"
    assert message.startswith("The local cloud does not have ")
    assert message.endswith(" of CreateEndpointConfig; it is refused, not ignored.")


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ({"VariantName": "a", "InitialInstanceCount": 1}, "needs either InstanceType or InstancePools"),
        (VARIANT | {"InstancePools": [{"InstanceType": "ml.m5.large", "Priority": 1}]}, "needs either InstanceType or"),
        (
            POOLED
            | {"InstancePools": [{"InstanceType": f"ml.m5.{size}", "Priority": 1} for size in ("large", "xlarge")]},
            "must each have a Priority of its own",
        ),
        (
            POOLED | {"InstancePools": [{"InstanceType": "ml.m5.large", "Priority": place} for place in (1, 2)]},
            "must each have an InstanceType of its own",
        ),
        (POOLED | {"InstancePools": [{"InstanceType": "ml.g99.huge", "Priority": 1}]}, "instancePools.1.member"),
    ],
)
def test_a_variant_has_one_type_or_several_that_differ(account: Account, variant: dict[str, Any], words: str) -> None:
    request = variant | {"ModelName": account.model()}
    code, message = refusal(
        account.sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=[request]
    )
    assert code == "ValidationException"
    assert words in message


def test_an_operation_that_is_not_here_is_refused_by_name(account: Account) -> None:
    code, message = refusal(account.sagemaker.list_auto_ml_jobs)
    assert (code, message) == (
        "UnknownOperationException",
        "The local cloud does not have the operation ListAutoMLJobs.",
    )


def test_a_request_for_another_region_is_refused(account: Account) -> None:
    elsewhere = account.cloud.client("sagemaker", config=Config(region_name="us-east-1"))
    elsewhere = boto3.client(
        "sagemaker",
        endpoint_url=elsewhere.meta.endpoint_url,
        region_name="eu-west-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    _, message = refusal(elsewhere.list_models)
    assert message == "This request was signed for the region eu-west-1; the local cloud runs in us-east-1."


def test_a_body_that_is_no_json_object_is_refused(account: Account) -> None:
    assert post(account, b"{", X_Amz_Target="SageMaker.ListModels")[1]["__type"] == "SerializationException"
    for body in (b"[]", b"\xff", b'{"MaxResults": NaN}', b"[" * 100_000):
        assert post(account, body, X_Amz_Target="SageMaker.ListModels")[1]["__type"] == "SerializationException"
    assert post(account, b"{}")[0] == 404


def test_a_moment_is_a_number_and_a_token_one_that_was_given(account: Account) -> None:
    for member, value in (("CreationTimeAfter", "yesterday"), ("NextToken", "-1"), ("NextToken", "first")):
        body = json.dumps({member: value}).encode()
        status, answer = post(account, body, X_Amz_Target="SageMaker.ListModels")
        assert (status, answer["__type"]) == (400, "ValidationException")
        assert value in answer["message"]


def test_a_body_that_breaks_off_is_not_taken_for_a_request(account: Account) -> None:
    endpoint = account.endpoint(account.model())
    address = account.cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"].removeprefix("http://")
    with closing(http.client.HTTPConnection(address)) as connection:
        connection.putrequest("POST", f"/endpoints/{endpoint}/invocations")
        connection.putheader("Content-Length", "10")
        connection.endheaders(b"half")
        connection.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(http.client.BadStatusLine):
            connection.getresponse()
    account.delete(endpoint)


def test_lists_are_filtered_sorted_and_paged(account: Account) -> None:
    names = sorted(account.model() for _ in range(3))
    mark = names[0].rpartition("-")[0]
    pages = account.sagemaker.get_paginator("list_models").paginate(
        NameContains=mark, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    )
    listed = [model["ModelName"] for page in pages for model in page["Models"]]
    assert listed == sorted(listed)
    assert set(names) <= set(listed)
    newest = account.sagemaker.list_models(MaxResults=1)["Models"][0]
    assert newest["CreationTime"] == max(
        model["CreationTime"] for model in account.sagemaker.list_models(MaxResults=100)["Models"]
    )
    own = {"CreationTimeBefore": newest["CreationTime"], "NameContains": newest["ModelName"]}
    assert account.sagemaker.list_models(**own)["Models"] == []


def test_tags_are_kept_and_taken_away(account: Account) -> None:
    name = account.name("model")
    tags = [{"Key": "team", "Value": "a"}]
    arn = account.sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, Tags=tags)["ModelArn"]
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "cost", "Value": "b c"}])
    account.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
    assert account.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "cost", "Value": "b c"}]
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": f"a{number}", "Value": ""} for number in range(49)])
    listed = account.sagemaker.list_tags(ResourceArn=arn, MaxResults=50)
    assert (len(listed["Tags"]), "NextToken" in listed) == (50, False)
    code, message = refusal(account.sagemaker.add_tags, ResourceArn=arn, Tags=[{"Key": "one more", "Value": ""}])
    assert (code, "a resource has at most 50" in message) == ("ValidationException", True)
    assert "Could not find resource" in refusal(account.sagemaker.list_tags, ResourceArn=f"{arn}-not")[1]


@pytest.mark.parametrize("operation", SUPPORT)
def test_every_member_in_the_tables_exists_in_the_service(operation: str) -> None:
    model = operation_model("sagemaker", operation)
    assert model is not None
    for path in SUPPORT[operation].honoured | SUPPORT[operation].stored:
        shape = model.input_shape
        for part in path.split("."):
            while shape.type_name == "list":
                shape = shape.member
            assert part in shape.members, path
            shape = shape.members[part]


RUNTIME = ("InvokeEndpoint", "InvokeEndpointWithResponseStream", "InvokeEndpointAsync")


def test_every_member_of_an_invocation_is_honoured_or_refused_with_a_reason() -> None:
    """What a newer botocore adds is refused too, but has no reason yet."""
    members: set[str] = set()
    for name in RUNTIME:
        model = operation_model("sagemaker-runtime", name)
        assert model is not None
        members |= model.input_shape.members.keys()
    assert members == HONOURED | REFUSED.keys()


def test_every_pattern_that_can_be_met_is_understood() -> None:
    operations = [("sagemaker", operation) for operation in SUPPORT]
    operations += [("sagemaker-runtime", name) for name in RUNTIME]
    met: set[str] = set()

    def visit(shape: Any) -> None:
        if shape.name in met:
            return
        met.add(shape.name)
        if "pattern" in shape.metadata:
            compiled_pattern(shape.metadata["pattern"])
        for inner in (*getattr(shape, "members", {}).values(), *(getattr(shape, part, None) for part in PARTS)):
            if inner is not None:
                visit(inner)

    for service, operation in operations:
        model = operation_model(service, operation)
        assert model is not None
        visit(model.input_shape)
    assert {"TagKey", "InferenceId", "CustomAttributesHeader"} <= met


def test_a_refused_value_is_one_that_the_service_takes() -> None:
    for (path, value), _ in REFUSED_VALUES.items():
        operation, *parts = path.split(".")
        model = operation_model("sagemaker", operation)
        assert model is not None
        shape = model.input_shape
        for part in parts:
            while shape.type_name == "list":
                shape = shape.member
            shape = shape.members[part]
        assert value in shape.enum, path


def test_leaves_of_a_request_include_what_is_empty() -> None:
    assert list(leaves({"a": {"b": 1, "c": []}, "d": [{"e": 2}], "f": None})) == [("a.b", 1), ("a.c", []), ("d.e", 2)]
