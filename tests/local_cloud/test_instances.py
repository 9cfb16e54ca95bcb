"""Instances are processes: as many as a variant's count says, asked in turn or at random, added and taken away."""

from __future__ import annotations

import http.client
import json
import logging
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, Account, await_true, model_archive
from tests.local_cloud.test_async_invocations import asynchronous, content
from tests.local_cloud.toy_container import Stage, ToyContainer, ToyRunner, running_sagemaker
from tidegate.local_cloud.sagemaker.container import ContainerFailed, ContainerSpec

IN_TURN = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}


def port_of(account: Account, endpoint: str, **options: Any) -> str:
    """The port of the process that answers, which tells the instances of an endpoint apart."""
    port: str = json.loads(account.invoke(endpoint, b"environment:", **options))["SAGEMAKER_BIND_TO_PORT"]
    return port


def counts(description: dict[str, Any], place: int = 0) -> tuple[int, int]:
    variant = description["ProductionVariants"][place]
    return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]


def wish(count: int, variant: str = "variant-0") -> list[dict[str, Any]]:
    return [{"VariantName": variant, "DesiredInstanceCount": count}]


def processes(url: str, endpoint: str) -> dict[str, int]:
    """What the local cloud itself says of an endpoint's processes."""
    connection = http.client.HTTPConnection(url.rpartition("/")[2], timeout=60)
    with closing(connection):
        connection.request("GET", f"/local/endpoints/{endpoint}")
        found: dict[str, int] = json.load(connection.getresponse())["Instances"]
        return found


def test_a_variant_runs_as_many_processes_as_its_instance_count_and_asks_them_in_turn(account: Account) -> None:
    endpoint = account.endpoint(account.model(), InitialInstanceCount=3, RoutingConfig=IN_TURN)
    assert counts(account.settled(endpoint)) == (3, 3)
    first = [port_of(account, endpoint) for _ in range(3)]
    assert len(set(first)) == 3
    assert [port_of(account, endpoint) for _ in range(3)] == first
    account.delete(endpoint)


def test_without_a_routing_strategy_an_instance_is_chosen_at_random(account: Account) -> None:
    endpoint = account.endpoint(account.model(), InitialInstanceCount=2)
    await_true(lambda: len({port_of(account, endpoint) for _ in range(4)}) == 2, "both are asked")
    account.delete(endpoint)


def test_a_desired_count_starts_and_stops_processes(account: Account) -> None:
    endpoint = account.endpoint(account.model(), RoutingConfig=IN_TURN)
    (first,) = {port_of(account, endpoint) for _ in range(4)}
    change = account.sagemaker.update_endpoint_weights_and_capacities
    change(EndpointName=endpoint, DesiredWeightsAndCapacities=wish(3))
    assert counts(account.settled(endpoint)) == (3, 3)
    assert len({port_of(account, endpoint) for _ in range(3)}) == 3
    change(EndpointName=endpoint, DesiredWeightsAndCapacities=wish(1))
    assert counts(account.settled(endpoint)) == (1, 1)
    assert {port_of(account, endpoint) for _ in range(4)} == {first}
    account.delete(endpoint)


def test_a_session_stays_at_the_instance_that_opened_it(account: Account) -> None:
    endpoint = account.endpoint(account.model(), InitialInstanceCount=2, RoutingConfig=IN_TURN)
    opened = account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"headers:", SessionId="NEW_SESSION")
    home = json.load(opened["Body"])["host"].rpartition(":")[2]
    assert opened["NewSessionId"].startswith("s1;")
    assert {port_of(account, endpoint, SessionId="s1") for _ in range(4)} == {home}
    assert len({port_of(account, endpoint) for _ in range(4)}) == 2
    account.delete(endpoint)


def test_the_requests_for_one_of_many_models_go_to_the_instance_that_has_loaded_it(account: Account) -> None:
    for name in ("a", "b"):
        account.put(f"shared/{name}.tar.gz", model_archive({"word": name}))
    model = account.name("model")
    container = {"Image": "serve", "Mode": "MultiModel", "ModelDataUrl": "s3://test-bucket/shared/"}
    account.sagemaker.create_model(ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    endpoint = account.endpoint(model, InitialInstanceCount=2, RoutingConfig=IN_TURN)
    # Each answer ends with how many models its server has loaded.
    answers = [account.invoke(endpoint, b"x", TargetModel=f"{name}.tar.gz").decode() for name in "abbaab"]
    assert answers == [f"{name} x {name}.tar.gz 1" for name in "abbaab"]
    account.delete(endpoint)


def test_only_an_asynchronous_endpoint_goes_to_zero_and_its_queue_waits(account: Account) -> None:
    endpoint = asynchronous(account, account.model())
    change = account.sagemaker.update_endpoint_weights_and_capacities
    change(EndpointName=endpoint, DesiredWeightsAndCapacities=wish(0, "v"))
    assert counts(account.settled(endpoint)) == (0, 0)
    location = account.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"abc")["OutputLocation"]
    change(EndpointName=endpoint, DesiredWeightsAndCapacities=wish(2, "v"))
    assert content(account, location) == b"ABC"
    assert counts(account.settled(endpoint)) == (2, 2)
    account.delete(endpoint)


def test_the_copies_of_an_inference_component_are_processes(account: Account) -> None:
    endpoint, component = account.name("endpoint"), account.name("component")
    variant = {"VariantName": "all", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=endpoint, ExecutionRoleArn=ROLE, ProductionVariants=[variant]
    )
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    account.settled(endpoint)
    account.sagemaker.create_inference_component(
        InferenceComponentName=component,
        EndpointName=endpoint,
        VariantName="all",
        Specification={"ModelName": account.model()},
        RuntimeConfig={"CopyCount": 2},
    )

    def copies() -> tuple[str, int, int]:
        described = account.sagemaker.describe_inference_component(InferenceComponentName=component)
        runtime = described["RuntimeConfig"]
        return described["InferenceComponentStatus"], runtime["CurrentCopyCount"], runtime["DesiredCopyCount"]

    await_true(lambda: copies() == ("InService", 2, 2), "both copies serve")
    asked = {"InferenceComponentName": component}
    assert len({port_of(account, endpoint, **asked) for _ in range(2)}) == 2
    account.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=component, DesiredRuntimeConfig={"CopyCount": 1}
    )
    await_true(lambda: copies() == ("InService", 1, 1), "one copy is left")
    assert len({port_of(account, endpoint, **asked) for _ in range(4)}) == 1
    account.sagemaker.delete_inference_component(InferenceComponentName=component)
    await_true(
        lambda: not account.sagemaker.list_inference_components(EndpointNameEquals=endpoint)["InferenceComponents"],
        "the component goes",
    )
    account.delete(endpoint)


class ShortOfMemory(ToyRunner):
    """A machine on which nothing more starts once it is told so."""

    full = False

    def start(self, spec: ContainerSpec) -> ToyContainer:
        if self.full:
            raise ContainerFailed("the machine is full")
        return super().start(spec)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with running_sagemaker(tmp_path, runner=ShortOfMemory(), instances=2) as stage:
        yield stage


def test_an_instance_that_goes_first_answers_what_it_has(stage: Stage) -> None:
    control = stage.client("sagemaker")
    change = control.update_endpoint_weights_and_capacities
    change(EndpointName="toy", DesiredWeightsAndCapacities=wish(2, "only"))
    stage.settled()
    first, second = stage.runner.containers
    with ThreadPoolExecutor(1) as pool:
        # The first is asked at random as often as it comes, and answers at once.
        threading.Thread(target=answer_all, args=(first,), daemon=True).start()
        asked = pool.submit(ask_until, stage, b"from the second")
        exchange = second.next()
        change(EndpointName="toy", DesiredWeightsAndCapacities=wish(1, "only"))
        await_true(lambda: processes(stage.url, "toy") == {"only": 1}, "the second takes no more requests")
        assert control.describe_endpoint(EndpointName="toy")["EndpointStatus"] == "Updating"
        exchange.answer(b"from the second")
        assert asked.result() == b"from the second"
    assert counts(stage.settled()) == (1, 1)


def test_a_request_that_an_instance_has_not_taken_goes_to_another_one(stage: Stage) -> None:
    """An instance that was killed just now, and whose end nobody has noticed, costs no request."""
    change = stage.client("sagemaker").update_endpoint_weights_and_capacities
    change(EndpointName="toy", DesiredWeightsAndCapacities=wish(2, "only"))
    stage.settled()
    first, second = stage.runner.containers
    runtime = stage.client()
    threading.Thread(target=answer_all, args=(first,), daemon=True).start()
    second.go_deaf()
    for _ in range(12):  # the second is chosen at random
        answer = runtime.invoke_endpoint(EndpointName="toy", Body=b"?")
        assert answer["Body"].read() == b"from the first"
        parts = list(stage.stream()["Body"])
        assert [part["PayloadPart"]["Bytes"] for part in parts] == [b"from the first"]
    first.go_deaf()
    with pytest.raises(ClientError, match="could not get a response from the primary endpoint") as failure:
        runtime.invoke_endpoint(EndpointName="toy", Body=b"?")
    assert failure.value.response["Error"]["Code"] == "ModelError"


def ask_until(stage: Stage, wanted: bytes) -> bytes:
    runtime = stage.client()
    while (answer := runtime.invoke_endpoint(EndpointName="toy", Body=b"?")["Body"].read()) != wanted:
        assert answer == b"from the first"
    return wanted


def answer_all(container: ToyContainer) -> None:
    """Until no request has come for long, which is after the test."""
    with suppress(queue.Empty):
        while True:
            container.next().answer(b"from the first")


def test_where_an_instance_does_not_start_the_counts_and_weights_before_come_back(stage: Stage) -> None:
    assert isinstance(stage.runner, ShortOfMemory)
    stage.runner.full = True
    change = [{"VariantName": "only", "DesiredInstanceCount": 2, "DesiredWeight": 5}]
    stage.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName="toy", DesiredWeightsAndCapacities=change
    )
    description = stage.settled()
    assert description["EndpointStatus"] == "InService"
    assert counts(description) == (1, 1)
    assert description["ProductionVariants"][0]["CurrentWeight"] == 1
    assert description["FailureReason"].startswith("the machine is full (production variant only.instance-2; log: ")


def test_a_limit_keeps_processes_few_and_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stage.client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName="toy", DesiredWeightsAndCapacities=wish(20, "only")
        )
        assert counts(stage.settled()) == (20, 20)
    assert processes(stage.url, "toy") == {"only": 2}
    told = "variant only of toy has 20 instances, of which the local cloud runs 2; `--limit instances=20` runs all"
    assert told in caplog.messages


def test_a_real_time_endpoint_does_not_go_to_zero(stage: Stage) -> None:
    with pytest.raises(ClientError, match="is 0, which only an asynchronous endpoint takes"):
        stage.client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName="toy", DesiredWeightsAndCapacities=wish(0, "only")
        )
