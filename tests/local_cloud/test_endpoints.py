"""Endpoints that really run: into service, updated, repaired, taken down, and the reason when they fail."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, Account, await_true, model_archive
from tidegate.local_cloud import inventory
from tidegate.local_cloud.environment import client_environment
from tidegate.local_cloud.processes import process_birth


def process_of(account: Account, endpoint: str, **options: Any) -> int:
    """The id of the process that answers: among the registered ones, the one with the port that the answer names."""
    environment = json.loads(account.invoke(endpoint, b"environment:", **options))
    port = environment["SAGEMAKER_BIND_TO_PORT"]
    containers = account.cloud.directory / "containers"
    for entry in containers.iterdir():
        if f"SAGEMAKER_BIND_TO_PORT={port}\0".encode() in Path(f"/proc/{entry.name}/environ").read_bytes():
            return int(entry.name)
    raise LookupError(port)


def test_an_endpoint_serves_the_files_of_its_archive(account: Account) -> None:
    data = account.put("two.tar.gz", model_archive({"model.pth": "weights", "code/inference.py": "functions"}))
    endpoint = account.endpoint(account.model(data=data))
    assert json.loads(account.invoke(endpoint, b"files:")) == {"model.pth": "weights", "code/inference.py": "functions"}
    account.delete(endpoint)


def test_an_endpoint_is_described_as_the_service_describes_it(account: Account) -> None:
    name, config = account.name("endpoint"), account.config(account.model())
    arn = account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)["EndpointArn"]
    first = account.sagemaker.describe_endpoint(EndpointName=name)
    assert first["EndpointStatus"] in ("Creating", "InService")
    account.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1})
    described = account.sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointArn"] == arn
    assert described["EndpointConfigName"] == config
    (variant,) = described["ProductionVariants"]
    assert (variant["VariantName"], variant["CurrentWeight"], variant["CurrentInstanceCount"]) == ("variant-0", 1.0, 1)
    assert variant["DeployedImages"][0]["SpecifiedImage"].endswith("serve:1")
    account.delete(name)


def test_model_data_may_lie_unpacked_under_a_prefix(account: Account) -> None:
    account.put("plain/model.pth", b"weights")
    account.put("plain/code/inference.py", b"functions")
    name = account.name("model")
    source = {"S3Uri": f"s3://{BUCKET}/plain/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    container = {"Image": "serve", "ModelDataSource": {"S3DataSource": source}}
    account.sagemaker.create_model(ModelName=name, PrimaryContainer=container)
    endpoint = account.endpoint(name)
    assert json.loads(account.invoke(endpoint, b"files:")) == {"model.pth": "weights", "code/inference.py": "functions"}
    account.delete(endpoint)


def test_a_container_reaches_this_cloud_and_no_other(account: Account) -> None:
    endpoint = account.endpoint(account.model(MODE="x"))
    seen = json.loads(account.invoke(endpoint, b"environment:"))
    account.delete(endpoint)
    cloud = account.cloud.environment
    told = client_environment(
        moto_url=cloud["AWS_ENDPOINT_URL"],
        sagemaker_url=cloud["AWS_ENDPOINT_URL_SAGEMAKER"],
        region=cloud["AWS_REGION"],
    )
    assert seen["MODE"] == "x"
    assert {name: seen.get(name) for name in told} == told
    # Not the files that SDKs outside read.
    assert {name for name in seen if name.startswith("AWS_")} == {name for name in told if name.startswith("AWS_")}


def test_an_isolated_container_has_no_credentials(account: Account) -> None:
    name = account.name("model")
    account.sagemaker.create_model(ModelName=name, PrimaryContainer={"Image": "serve"}, EnableNetworkIsolation=True)
    endpoint = account.endpoint(name)
    seen = json.loads(account.invoke(endpoint, b"environment:"))
    account.delete(endpoint)
    assert [variable for variable in seen if variable.startswith("AWS_")] == []


def test_the_servers_error_line_is_the_failure_reason(account: Account) -> None:
    reason = account.failed_endpoint(account.model(STAND_IN_ERROR="code/inference.py has no predict_fn."))
    assert reason.startswith(
        "tidegate: error: code/inference.py has no predict_fn. (production variant variant-0; log: "
    )
    log = account.cloud.logs / "endpoints"
    assert str(log) in reason


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "s3://test-bucket/nothing.tar.gz",
            'Failed to download model data for container "container_1" from URL: "s3://test-bucket/nothing.tar.gz"',
        ),
        (
            "s3://no-such-bucket/model.tar.gz",
            'Failed to download model data for container "container_1" from URL: "s3://no-such-bucket/model.tar.gz". P',
        ),
        ("https://host/model.tar.gz", "https://host/model.tar.gz is not an s3:// address"),
    ],
)
def test_model_data_that_cannot_be_had_is_the_failure_reason(account: Account, data: str, words: str) -> None:
    assert account.failed_endpoint(account.model(data=data)).startswith(words)


def test_an_archive_that_would_escape_is_the_failure_reason(account: Account) -> None:
    data = account.put("evil.tar.gz", model_archive({"../evil": "x"}))
    reason = account.failed_endpoint(account.model(data=data))
    assert reason.startswith(
        "s3://test-bucket/evil.tar.gz is refused: member '../evil' leads out of the archive's directory"
    )


def test_when_one_variant_fails_nothing_of_the_endpoint_is_left(account: Account) -> None:
    before = set((account.cloud.directory / "containers").iterdir())
    account.failed_endpoint(account.model(), account.model(STAND_IN_ERROR="no"))
    assert set((account.cloud.directory / "containers").iterdir()) <= before


def test_an_update_loses_no_request_and_stops_the_old_server(account: Account) -> None:
    endpoint = account.endpoint(account.model(STAND_IN_PREFIX="old "))
    old = process_of(account, endpoint)
    answers, over = [], threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers.append(account.invoke(endpoint, b"a"))

    asking = threading.Thread(target=ask)
    asking.start()
    new_config = account.config(account.model(STAND_IN_PREFIX="new "))
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=new_config)
    await_true(lambda: b"new A" in answers[-1:], "the new model answers")
    over.set()
    asking.join()
    description = account.settled(endpoint)
    assert (description["EndpointStatus"], description["EndpointConfigName"]) == ("InService", new_config)
    assert set(answers) == {b"old A", b"new A"}
    assert answers == sorted(answers, reverse=True), "the old model answered after the new one"
    await_true(lambda: process_birth(old) is None, "the old server is gone")
    account.delete(endpoint)


def test_an_update_that_fails_leaves_the_old_one_serving(account: Account) -> None:
    endpoint = account.endpoint(account.model(STAND_IN_PREFIX="old "))
    config = account.settled(endpoint)["EndpointConfigName"]
    bad = account.config(account.model(STAND_IN_ERROR="the new weights do not fit."))
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=bad)
    description = account.settled(endpoint)
    assert (description["EndpointStatus"], description["EndpointConfigName"]) == ("InService", config)
    assert description["FailureReason"].startswith("tidegate: error: the new weights do not fit.")
    assert account.invoke(endpoint, b"a") == b"old A"
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    assert "FailureReason" not in account.settled(endpoint)
    account.delete(endpoint)


def test_a_deletion_waits_for_the_server_that_an_update_is_still_stopping(account: Account, tmp_path: Path) -> None:
    may_end = tmp_path / "may-end"
    endpoint = account.endpoint(account.model(STAND_IN_ENDS_ONCE_THERE_IS=str(may_end)))
    old = process_of(account, endpoint)
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=account.config(account.model()))
    account.settled(endpoint)
    assert process_birth(old) is not None
    account.sagemaker.delete_endpoint(EndpointName=endpoint)
    assert endpoint in account.endpoints()
    may_end.touch()
    await_true(lambda: endpoint not in account.endpoints(), "the endpoint goes")
    assert process_birth(old) is None


def test_the_name_of_an_endpoint_is_taken_in_small_letters_and_in_capitals(account: Account) -> None:
    """CreateEndpoint, EndpointName: only requests to it must have the name as it was given."""
    model = account.model()
    endpoint, config = account.endpoint(model), account.config(model)
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        account.sagemaker.create_endpoint(EndpointName=endpoint.upper(), EndpointConfigName=config)
    assert account.sagemaker.describe_endpoint(EndpointName=endpoint.upper())["EndpointName"] == endpoint
    with pytest.raises(ClientError, match=f"Endpoint {endpoint.upper()} of account 123456789012 not found"):
        account.invoke(endpoint.upper(), b"a")
    account.delete(endpoint)


def test_an_endpoint_on_the_move_refuses_changes_and_requests(account: Account) -> None:
    name, config = account.name("endpoint"), account.config(account.model(STAND_IN_PING="never"))
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    for change in (
        lambda: account.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config),
        lambda: account.sagemaker.delete_endpoint(EndpointName=name),
    ):
        with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
            change()
    with pytest.raises(ClientError, match="is not InService: its status is Creating") as caught:
        account.invoke(name, b"a")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_traffic_is_split_by_weight_and_a_variant_can_be_asked_for(account: Account) -> None:
    models = [account.model(STAND_IN_PREFIX="a"), account.model(STAND_IN_PREFIX="b")]
    endpoint = account.endpoint(*models, weights=(1.0, 0.0))
    assert {account.invoke(endpoint, b"") for _ in range(20)} == {b"a"}
    assert account.invoke(endpoint, b"", TargetVariant="variant-1") == b"b"
    account.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "variant-0", "DesiredWeight": 0},
            {"VariantName": "variant-1", "DesiredWeight": 2},
        ],
    )
    assert {account.invoke(endpoint, b"") for _ in range(20)} == {b"b"}
    assert account.settled(endpoint)["ProductionVariants"][1]["CurrentWeight"] == 2.0
    with pytest.raises(ClientError, match='Could not find variant "nobody"'):
        account.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint, DesiredWeightsAndCapacities=[{"VariantName": "nobody", "DesiredWeight": 1}]
        )
    with pytest.raises(ClientError, match="names a variant twice"):
        account.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint, DesiredWeightsAndCapacities=[{"VariantName": "variant-0", "DesiredWeight": 1}] * 2
        )
    account.delete(endpoint)


@pytest.mark.parametrize(
    ("excluded", "weight", "count"), [([], 0.5, 2), (["DesiredWeight"], 1.0, 2), (["DesiredInstanceCount"], 0.5, 1)]
)
def test_an_update_keeps_the_variants_properties_of_the_moment(
    account: Account, excluded: list[str], weight: float, count: int
) -> None:
    endpoint = account.endpoint(account.model())
    account.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "variant-0", "DesiredWeight": 0.5, "DesiredInstanceCount": 2}],
    )
    account.settled(endpoint)
    account.sagemaker.update_endpoint(
        EndpointName=endpoint,
        EndpointConfigName=account.config(account.model(STAND_IN_PREFIX="new "), weights=(1.0,)),
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": kind} for kind in excluded],
    )
    (variant,) = account.settled(endpoint)["ProductionVariants"]
    assert (variant["CurrentWeight"], variant["CurrentInstanceCount"]) == (weight, count)
    assert account.invoke(endpoint, b"a") == b"new A"
    account.delete(endpoint)


def test_a_container_that_dies_in_service_is_replaced(account: Account) -> None:
    endpoint = account.endpoint(account.model())
    with pytest.raises(ClientError) as caught:
        account.invoke(endpoint, b"die:")
    assert caught.value.response["OriginalStatusCode"] == 0

    def answers() -> bool:
        try:
            return account.invoke(endpoint, b"a") == b"A"
        except account.runtime.exceptions.ModelError:
            return False

    await_true(answers, "the successor answers")
    (there,) = [each for each in inventory.take(account.sagemaker).endpoints if each.name == endpoint]
    last = there.variants[0].exit
    assert last is not None
    assert (last.restarts, last.code) == (1, 137)
    said = account.cloud.log_text(endpoint).splitlines()
    assert (
        sum(line.startswith("local cloud: the server ended with exit code 137; it is replaced in ") for line in said)
        == 1
    )
    connection = http.client.HTTPConnection(account.cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER"].rpartition("/")[2])
    with closing(connection):
        connection.request("GET", f"/local/endpoints/{endpoint}")
        assert json.load(connection.getresponse())["Restarts"] == {"variant-0": 1}
    account.delete(endpoint)


def test_a_deleted_endpoint_leaves_no_process_and_no_directory(account: Account) -> None:
    endpoint = account.endpoint(account.model())
    process = process_of(account, endpoint)
    account.delete(endpoint)
    assert process_birth(process) is None
    assert not (account.cloud.directory / "work" / "endpoints" / endpoint).exists()
    with pytest.raises(ClientError, match="Could not find endpoint"):
        account.sagemaker.describe_endpoint(EndpointName=endpoint)


def test_endpoints_are_listed_with_their_status(account: Account) -> None:
    endpoint = account.endpoint(account.model())
    listed = account.sagemaker.list_endpoints(NameContains=endpoint, StatusEquals="InService")["Endpoints"]
    assert [item["EndpointName"] for item in listed] == [endpoint]
    assert account.sagemaker.list_endpoints(NameContains=endpoint, StatusEquals="Failed")["Endpoints"] == []
    account.delete(endpoint)
