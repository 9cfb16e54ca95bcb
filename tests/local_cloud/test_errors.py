"""What AWS refuses is refused here, with its code and the shape of its sentence (docs/local-cloud/errors.md)."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud import training
from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true
from tests.local_cloud.training import ended, secondary_statuses
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.shapes import check, operation_model

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
ARN = "arn:aws:sagemaker:us-east-1:123456789012"


def source(uri: str, data_type: str, compression: str) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": data_type, "CompressionType": compression}}


def refusal(operation: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        operation(**members)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


@pytest.mark.parametrize(
    ("container", "sentence"),
    [
        (
            {"ModelDataUrl": f"s3://{BUCKET}/model.zip"},
            f"ModelDataUrl is s3://{BUCKET}/model.zip; it must point to a single gzip compressed tar archive (.tar.gz",
        ),
        ({"ModelDataUrl": f"s3://{BUCKET}/models/"}, "it must point to a single gzip compressed tar archive"),
        (
            {"ModelDataSource": source("s3://b/model", "S3Prefix", "None")},
            "S3Uri is s3://b/model; with S3DataType S3Prefix it must end with a forward slash (/).",
        ),
        (
            {"ModelDataSource": source("s3://b/model/", "S3Object", "None")},
            "S3Uri is s3://b/model/; with S3DataType S3Object it must name an object.",
        ),
        (
            {"ModelDataSource": source("s3://b/model/", "S3Prefix", "Gzip")},
            "CompressionType Gzip needs S3DataType S3Object",
        ),
        (
            {"ModelDataSource": source("s3://b/m/", "S3Prefix", "None"), "Mode": "MultiModel"},
            "A container with Mode MultiModel excludes ModelDataSource.",
        ),
    ],
)
def test_a_model_whose_data_is_named_as_none_can_be_is_refused(
    account: Account, container: dict[str, Any], sentence: str
) -> None:
    code, message = refusal(
        account.sagemaker.create_model,
        ModelName=account.name("model"),
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE, **container},
    )
    assert code == "ValidationException"
    assert sentence in message


def test_a_sentence_shows_the_beginning_of_a_long_value(account: Account) -> None:
    code, message = refusal(account.sagemaker.describe_model, ModelName="n" * 100_000)
    assert code == "ValidationException"
    assert message.startswith("1 validation error detected: Value 'nnnn")
    assert len(message) < 2000


def test_numbers_are_those_of_their_type_and_refusals_are_bounded() -> None:
    """Of a request to any operation: the model says which numbers are whole, and of how many bits."""
    model = operation_model("sagemaker", "CreateTransformJob")
    assert model is not None
    good = {
        "TransformJobName": "job",
        "ModelName": "model",
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://a/b"}}},
        "TransformOutput": {"S3OutputPath": "s3://a/c"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    check(model.input_shape, good)
    for number in (2**31, -(2**63), 10**400, 10**9000):
        with pytest.raises(
            ServiceError, match=r"'maxConcurrentTransforms' .* Member must be of type integer"
        ) as refused:
            check(model.input_shape, good | {"MaxConcurrentTransforms": number})
        assert len(refused.value.message) < 1000
    model = operation_model("sagemaker", "ListModels")
    assert model is not None
    for moment in (1e30, float("inf")):
        with pytest.raises(ServiceError, match="Member must be of type timestamp"):
            check(model.input_shape, {"CreationTimeAfter": moment})
    with pytest.raises(ServiceError) as refused:
        check(model.input_shape, {f"{'n' * 100_000}{number}": "v" * 100_000 for number in range(2_000)})
    assert refused.value.message.startswith("2000 validation errors detected: ")
    assert refused.value.message.endswith("; and 1000 more")
    assert len(refused.value.message) < 400_000


def test_a_job_whose_input_is_not_there_is_refused_when_it_is_created(account: Account) -> None:
    model = account.model()

    def transform(uri: str, name: str = model) -> tuple[str, str]:
        return refusal(
            account.sagemaker.create_transform_job,
            TransformJobName=account.name("job"),
            ModelName=name,
            TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}},
            TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )

    sentence = (
        f'No S3 objects found under S3 URL "s3://{BUCKET}/nobody/" given in input data source. Please ensure that the'
        " bucket exists in the selected region (us-east-1), that objects exist under that S3 prefix, and that the role"
        f' "{ROLE}" has "s3:ListBucket" permissions on bucket "{BUCKET}".'
    )
    assert transform(f"s3://{BUCKET}/nobody/") == ("ValidationException", sentence)
    assert transform("s3://no-such-bucket-at-all/x")[1].startswith("No S3 objects found under S3 URL")
    name = account.name("model")
    container = {"Image": IMAGE, "ModelDataSource": source(f"s3://{BUCKET}/plain/", "S3Prefix", "None")}
    account.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    code, message = transform(account.put("errors/in", b"1"), name)
    assert code == "ValidationException"
    assert message.startswith("SageMaker Batch currently doesn't support Model entity with container definitions")


def test_an_endpoint_whose_configuration_was_deleted_cannot_be_updated(account: Account) -> None:
    model = account.model()
    endpoint = account.endpoint(model)
    before = account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    account.sagemaker.delete_endpoint_config(EndpointConfigName=before)
    update = account.sagemaker.update_endpoint
    code, message = refusal(update, EndpointName=endpoint, EndpointConfigName=account.config(model))
    assert (code, message) == (
        "ValidationException",
        f'Could not find endpoint configuration "{ARN}:endpoint-config/{before}".',
    )
    assert account.invoke(endpoint, b"it goes on")
    account.delete(endpoint)


def test_a_resource_has_at_most_fifty_tags(account: Account) -> None:
    tags = [{"Key": f"key-{number}", "Value": "v"} for number in range(50)]
    name = account.name("model")
    container = {"Image": IMAGE}
    arn = account.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, Tags=tags)[
        "ModelArn"
    ]
    account.sagemaker.add_tags(ResourceArn=arn, Tags=tags[:1])
    code, message = refusal(account.sagemaker.add_tags, ResourceArn=arn, Tags=[{"Key": "one-more", "Value": ""}])
    assert code == "ValidationException"
    assert "would have 51 tags" in message
    assert len(account.sagemaker.list_tags(ResourceArn=arn)["Tags"]) == 50


def test_a_training_job_runs_for_at_most_28_days(account: Account) -> None:
    stopping = {"MaxRuntimeInSeconds": 28 * 24 * 3600 + 1}
    request = training.request(account, "", StoppingCondition=stopping)
    code, message = refusal(account.sagemaker.create_training_job, **request)
    assert code == "ResourceLimitExceeded"
    assert message.startswith(
        "The account-level service limit 'Longest run time for a training job' is 2419200 Seconds, with current"
        " utilization of 0 Seconds and a request delta of 2419201 Seconds. Please use AWS Service Quotas"
    )


def test_a_job_that_is_stopped_before_it_trains_uploads_nothing(account: Account) -> None:
    place = account.name("data")
    for number in range(200):
        account.put(f"{place}/{number}", b"x")
    channel = training.channel("train", f"s3://{BUCKET}/{place}/")
    job = training.start(account, "print('never')", InputDataConfig=[channel], ResourceConfig={"InstanceCount": 4})
    account.sagemaker.stop_training_job(TrainingJobName=job)
    description = ended(account, job)
    assert description["TrainingJobStatus"] == "Stopped"
    statuses = secondary_statuses(description)
    assert statuses[-1] == "Stopped"
    assert ("Uploading" in statuses) == ("Training" in statuses), statuses


def test_a_name_is_taken_until_its_owner_is_gone(account: Account) -> None:
    model = account.model()
    create, container = account.sagemaker.create_model, {"Image": IMAGE}
    code, message = refusal(create, ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    assert (code, message) == ("ValidationException", f'Cannot create already existing model "{ARN}:model/{model}".')
    account.sagemaker.delete_model(ModelName=model)
    assert refusal(account.sagemaker.delete_model, ModelName=model) == (
        "ValidationException",
        f'Could not find model "{ARN}:model/{model}".',
    )
    create(ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    job = training.start(account, "")
    again = training.request(account, "") | {"TrainingJobName": job}
    assert refusal(account.sagemaker.create_training_job, **again)[0] == "ResourceInUse"
    await_true(lambda: training.described(account, job)["TrainingJobStatus"] != "InProgress", "the job ends")
