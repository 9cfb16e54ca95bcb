"""Models of several containers: a request passes all of them in a row, or names the one that answers it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true, model_archive
from tests.local_cloud.test_transform_jobs import completed, failure

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"


def several(account: Account, *containers: dict[str, Any], mode: str = "Serial") -> str:
    """A model of these containers."""
    name = account.name("pipeline")
    account.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        Containers=[{"Image": IMAGE, **container} for container in containers],
        InferenceExecutionConfig={"Mode": mode},
    )
    return name


def container(hostname: str, **environment: str) -> dict[str, Any]:
    return {"ContainerHostname": hostname, "Environment": environment}


def refused(call: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    assert error["Code"] in {"ValidationError", "ValidationException"}, error
    return str(error["Message"])


@pytest.fixture(scope="module")
def serial(account: Account) -> Iterator[str]:
    """Two containers; each puts its own word before what it got, in capitals."""
    data = account.put("second.tar.gz", model_archive({"word": "second"}))
    first = container("first", STAND_IN_PREFIX="first ", STAND_IN_CONTENT_TYPE="text/x-first")
    second = container("second", STAND_IN_PREFIX="second ") | {"ModelDataUrl": data}
    name = account.endpoint(several(account, first, second))
    yield name
    account.delete(name)


@pytest.fixture(scope="module")
def direct(account: Account) -> Iterator[str]:
    one, two = container("one", STAND_IN_PREFIX="one "), container("two", STAND_IN_PREFIX="two ")
    name = account.endpoint(several(account, one, two, mode="Direct"))
    yield name
    account.delete(name)


def test_the_answer_of_one_container_is_the_request_to_the_next(account: Account, serial: str) -> None:
    assert account.invoke(serial, b"text") == b"second FIRST TEXT"


def test_the_next_container_gets_the_type_of_the_answer_and_the_last_what_the_caller_accepts(account: Account) -> None:
    asks = container("asks", STAND_IN_PREFIX="headers:", STAND_IN_CONTENT_TYPE="text/x-first")
    endpoint = account.endpoint(several(account, asks, container("shows")))
    answer = account.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"x", ContentType="text/csv", Accept="text/x-last", CustomAttributes="a=1"
    )
    seen = json.loads(answer["Body"].read())
    account.delete(endpoint)

    assert seen["content-type"] == "text/x-first"
    assert seen["accept"] == "text/x-last"
    assert seen["x-amzn-sagemaker-custom-attributes"] == "a=1"
    assert answer["ContentType"] == "text/x-last"
    assert answer["CustomAttributes"] == "from the model"


def test_a_container_in_the_midst_is_not_told_what_the_caller_accepts(account: Account) -> None:
    shows = container("shows")
    endpoint = account.endpoint(several(account, shows, container("repeats")))
    answer = account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"headers:", Accept="text/x-last")
    seen = json.loads(answer["Body"].read().lower())
    account.delete(endpoint)

    assert "accept" not in seen


def test_the_first_error_is_the_answer_and_names_its_container(account: Account, serial: str) -> None:
    with pytest.raises(account.runtime.exceptions.ModelError) as caught:
        account.invoke(serial, b"status:418")
    error = caught.value.response

    assert error["OriginalStatusCode"] == 418
    assert error["OriginalMessage"] == "refused with 418"
    assert "from first with message" in error["Error"]["Message"]
    assert "variant-0.first.log" in error["Error"]["Message"]


def test_the_last_container_s_stream_reaches_the_caller_as_it_comes(account: Account) -> None:
    asks = container("asks", STAND_IN_PREFIX="stream:")
    endpoint = account.endpoint(several(account, asks, container("streams")))
    events = account.runtime.invoke_endpoint_with_response_stream(EndpointName=endpoint, Body=b"a,b")["Body"]
    parts = b"".join(event["PayloadPart"]["Bytes"] for event in events)
    account.delete(endpoint)

    assert parts == b"AB"


def test_each_container_has_its_own_model_and_environment(account: Account) -> None:
    data = account.put("own.tar.gz", model_archive({"word": "own"}))
    first = container("first", STAND_IN_PREFIX="files:")
    second = container("second") | {"ModelDataUrl": data}
    endpoint = account.endpoint(several(account, first, second))
    found = json.loads(account.invoke(endpoint, b""))
    account.delete(endpoint)

    assert found == {"word": "own"}


def test_one_that_does_not_start_fails_the_endpoint_and_leaves_none(account: Account) -> None:
    broken = container("broken", STAND_IN_ERROR="no such model")
    name = account.name("endpoint")
    model = several(account, container("whole"), broken)
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=account.config(model))
    description = account.settled(name)
    account.delete(name)

    assert description["EndpointStatus"] == "Failed"
    assert "no such model (production variant variant-0.broken" in description["FailureReason"]


def test_a_container_that_dies_is_replaced_and_the_pipeline_answers_again(account: Account) -> None:
    endpoint = account.endpoint(several(account, container("dies"), container("says", STAND_IN_PREFIX="answered ")))
    with pytest.raises(account.runtime.exceptions.ModelError):
        account.invoke(endpoint, b"die:")

    def answers() -> bool:
        try:
            return account.invoke(endpoint, b"x") == b"answered X"
        except account.runtime.exceptions.ModelError:
            return False

    await_true(answers, "the container is replaced")
    account.delete(endpoint)


def test_a_request_names_the_container_that_answers_it(account: Account, direct: str) -> None:
    assert account.invoke(direct, b"text", TargetContainerHostname="two") == b"two TEXT"
    assert account.invoke(direct, b"text", TargetContainerHostname="one") == b"one TEXT"


def test_a_container_must_be_named_where_it_can_be_and_only_there(account: Account, direct: str, serial: str) -> None:
    invoke = account.runtime.invoke_endpoint

    assert "needs TargetContainerHostname" in refused(invoke, EndpointName=direct, Body=b"x")
    unknown = refused(invoke, EndpointName=direct, Body=b"x", TargetContainerHostname="three")
    assert "has no container three; there are one, two" in unknown
    alone = account.endpoint(account.model())
    for endpoint in (serial, alone):
        said = refused(invoke, EndpointName=endpoint, Body=b"x", TargetContainerHostname="first")
        assert "is not configured for direct invocation" in said
    account.delete(alone)


def test_an_update_leads_from_one_container_to_several(account: Account) -> None:
    endpoint = account.endpoint(account.model(STAND_IN_PREFIX="alone "))
    assert account.invoke(endpoint, b"x") == b"alone X"
    both = several(account, container("a", STAND_IN_PREFIX="a "), container("b", STAND_IN_PREFIX="b "))
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=account.config(both))
    description = account.settled(endpoint)
    answer = account.invoke(endpoint, b"x")
    account.delete(endpoint)

    (variant,) = description["ProductionVariants"]
    assert [one["SpecifiedImage"] for one in variant["DeployedImages"]] == [IMAGE, IMAGE]
    assert answer == b"b A X"


def test_the_model_is_described_as_it_was_given(account: Account) -> None:
    name = several(account, container("a"), container("b"))
    described = account.sagemaker.describe_model(ModelName=name)

    assert described["InferenceExecutionConfig"] == {"Mode": "Serial"}
    assert [one["ContainerHostname"] for one in described["Containers"]] == ["a", "b"]


def test_a_transform_job_sends_its_records_through_all_containers(account: Account) -> None:
    place = account.name("batch")
    account.put(f"{place}/in/a.csv", b"one\ntwo\n")
    model = several(account, container("a", STAND_IN_PREFIX="a "), container("b", STAND_IN_PREFIX="b "))
    completed(account, model, f"s3://{BUCKET}/{place}/in/", output=f"{place}/out", ContentType="text/csv")

    assert account.get(f"{place}/out/a.csv.out") == b"b A ONE\nTWO\n"


def test_a_job_that_fails_names_the_container(account: Account) -> None:
    place = account.name("batch")
    account.put(f"{place}/in/a.csv", b"18")
    model = several(account, container("turns", STAND_IN_PREFIX="status:4"), container("refuses"))
    reason = failure(account, model, f"s3://{BUCKET}/{place}/in/", output=f"{place}/out")

    assert "the container refuses answered 418: refused with 418" in reason


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("create_transform_job", "names no container that is to answer"),
        ("create_endpoint_config", "Mode Direct, which excludes AsyncInferenceConfig"),
    ],
)
def test_what_could_name_no_container_refuses_a_direct_model(account: Account, operation: str, words: str) -> None:
    model = several(account, container("a"), container("b"), mode="Direct")
    members: dict[str, dict[str, Any]] = {
        "create_transform_job": {
            "TransformJobName": account.name("job"),
            "ModelName": model,
            "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/x"}}},
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/y"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        },
        "create_endpoint_config": {
            "EndpointConfigName": account.name("config"),
            "ProductionVariants": [
                {"VariantName": "v", "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            ],
            "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/z"}},
        },
    }

    assert words in refused(getattr(account.sagemaker, operation), **members[operation])


def test_a_serverless_variant_and_a_component_take_one_container(account: Account) -> None:
    model = several(account, container("a"), container("b"))
    variant = {
        "VariantName": "v",
        "ModelName": model,
        "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
    }
    said = refused(
        account.sagemaker.create_endpoint_config,
        EndpointConfigName=account.name("config"),
        ProductionVariants=[variant],
    )

    assert "which excludes a second container" in said
