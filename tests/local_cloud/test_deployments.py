"""Deployment guardrails: traffic that moves in steps on the cloud's clock, and goes back when an alarm goes off."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, STAND_IN, Account, await_true
from tests.local_cloud.toy_container import ToyContainer, ToyRunner, running_sagemaker
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.sagemaker.container import ContainerFailed, ContainerSpec
from tidegate.local_cloud.sagemaker.deployment_rules import batches, check_deployment_config, check_sizes, shifts
from tidegate.local_cloud.sagemaker.errors import ServiceError

Config = dict[str, Any]


def percent(value: int) -> Config:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def instances(value: int) -> Config:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def blue_green(kind: str, *, wait_s: int = 0, last_s: int = 0, **size: Config) -> Config:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait_s, **size}
    return {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": last_s},
    }


def rolling(size: Config, *, wait_s: int = 0, **back: Config) -> Config:
    return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": wait_s, **back}}


def watched(config: Config, alarm: str) -> Config:
    return config | {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]}}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A cloud whose clock these tests set ahead."""
    with LocalCloud(tmp_path_factory.mktemp("deployments") / "state", container_command=STAND_IN) as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def alarm(account: Account) -> str:
    """The name of an alarm that only :func:`goes_off` changes: nothing is measured for it."""
    name = account.name("alarm")
    account.cloud.client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="test",
        MetricName=name,
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
    )
    return name


def goes_off(account: Account, name: str) -> None:
    account.cloud.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="by hand")


def update(account: Account, endpoint: str, prefix: str, deployment: Config, *, count: int = 1) -> str:
    """Begins an update to a model that answers with ``prefix``; the name of the new configuration."""
    config = account.config(account.model(STAND_IN_PREFIX=prefix), InitialInstanceCount=count)
    account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=deployment)
    return config


def pending(account: Account, endpoint: str) -> tuple[str, str]:
    """The stage of the deployment, and the new fleet's share in words."""
    described = account.sagemaker.describe_endpoint(EndpointName=endpoint)
    if "PendingDeploymentSummary" not in described:
        return described["EndpointStatus"], ""
    (variant,) = described["PendingDeploymentSummary"]["ProductionVariants"]
    (status,) = variant["VariantStatus"]
    return status["Status"], status["StatusMessage"]


def await_baking(account: Account, endpoint: str, share: str) -> None:
    wanted = ("Baking", f"{share} of the traffic")
    await_true(lambda: pending(account, endpoint) == wanted, f"{endpoint} bakes with {share}")


def current_counts(account: Account, endpoint: str) -> tuple[int, int]:
    """How many instances the old fleet has, and how many the new one."""
    described = account.sagemaker.describe_endpoint(EndpointName=endpoint)
    old, new = described["ProductionVariants"][0], described["PendingDeploymentSummary"]["ProductionVariants"][0]
    return old["CurrentInstanceCount"], new["CurrentInstanceCount"]


def answers(account: Account, endpoint: str, number: int = 20) -> list[bytes]:
    return [account.invoke(endpoint, b"") for _ in range(number)]


def test_a_canary_gets_its_part_of_the_traffic_and_the_rest_follows_when_it_has_baked(cloud: Account) -> None:
    endpoint = cloud.endpoint(cloud.model(STAND_IN_PREFIX="old"))
    before = cloud.settled(endpoint)["EndpointConfigName"]
    deployment = blue_green("CANARY", wait_s=600, last_s=300, CanarySize=percent(10))
    after = update(cloud, endpoint, "new", deployment)
    await_baking(cloud, endpoint, "10%")
    described = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("Updating", before)
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == after
    await_true(lambda: set(answers(cloud, endpoint)) == {b"old", b"new"}, "both fleets answer")
    assert answers(cloud, endpoint, 100).count(b"new") < 60

    cloud.cloud.advance(600)
    await_baking(cloud, endpoint, "100%")
    assert set(answers(cloud, endpoint)) == {b"new"}
    assert cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"] == before

    cloud.cloud.advance(300)
    described = cloud.settled(endpoint)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", after)
    assert described["LastDeploymentConfig"] == deployment
    assert not {"PendingDeploymentSummary", "FailureReason"} & described.keys()
    assert set(answers(cloud, endpoint)) == {b"new"}
    cloud.delete(endpoint)


def test_an_alarm_during_the_canary_sends_all_traffic_back(cloud: Account) -> None:
    endpoint, tripped = cloud.endpoint(cloud.model(STAND_IN_PREFIX="old")), alarm(cloud)
    before = cloud.settled(endpoint)["EndpointConfigName"]
    canary = blue_green("CANARY", wait_s=600, CanarySize=percent(50))
    update(cloud, endpoint, "new", watched(canary, tripped))
    await_baking(cloud, endpoint, "50%")
    await_true(lambda: b"new" in answers(cloud, endpoint), "the canary answers")

    def is_back() -> bool:
        goes_off(cloud, tripped)  # again and again: what is set by hand lasts until the alarm is looked at
        described = cloud.sagemaker.describe_endpoint(EndpointName=endpoint)
        return bool(described["EndpointStatus"] == "InService")

    await_true(is_back, "the endpoint is in service again")
    described = cloud.settled(endpoint)
    assert described["EndpointConfigName"] == before
    assert described["FailureReason"] == f"The alarm {tripped} is in ALARM, so the deployment was rolled back."
    assert set(answers(cloud, endpoint)) == {b"old"}
    cloud.delete(endpoint)


def test_an_alarm_after_the_last_step_still_finds_the_old_fleet(cloud: Account) -> None:
    endpoint, tripped = cloud.endpoint(cloud.model(STAND_IN_PREFIX="old")), alarm(cloud)
    update(cloud, endpoint, "new", watched(blue_green("ALL_AT_ONCE", last_s=600), tripped))
    await_baking(cloud, endpoint, "100%")
    assert set(answers(cloud, endpoint)) == {b"new"}

    def is_back() -> bool:
        goes_off(cloud, tripped)
        return set(answers(cloud, endpoint)) == {b"old"}

    await_true(is_back, "the old fleet answers")
    assert cloud.settled(endpoint)["EndpointStatus"] == "InService"
    # The same once more, because that is what RetainDeploymentConfig asks for.
    goes_off(cloud, tripped)
    config = cloud.config(cloud.model(STAND_IN_PREFIX="newer"))
    cloud.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, RetainDeploymentConfig=True)
    described = cloud.settled(endpoint)
    assert tripped in described["FailureReason"]
    assert described["EndpointConfigName"] != config
    cloud.delete(endpoint)


def test_linear_steps_follow_each_other_after_each_wait(cloud: Account) -> None:
    endpoint = cloud.endpoint(cloud.model(STAND_IN_PREFIX="old"))
    update(cloud, endpoint, "new", blue_green("LINEAR", wait_s=300, last_s=60, LinearStepSize=percent(40)))
    await_baking(cloud, endpoint, "40%")
    for share in ("80%", "100%"):
        cloud.cloud.advance(300)
        await_baking(cloud, endpoint, share)
    cloud.cloud.advance(60)
    assert cloud.settled(endpoint)["EndpointStatus"] == "InService"
    assert set(answers(cloud, endpoint)) == {b"new"}
    cloud.delete(endpoint)


def test_a_rolling_update_replaces_batch_by_batch_and_goes_back_as_a_whole(cloud: Account) -> None:
    endpoint, tripped = cloud.endpoint(cloud.model(STAND_IN_PREFIX="old"), InitialInstanceCount=2), alarm(cloud)
    before = cloud.settled(endpoint)["EndpointConfigName"]
    update(cloud, endpoint, "new", watched(rolling(instances(1), wait_s=300), tripped), count=2)
    await_baking(cloud, endpoint, "50%")
    assert current_counts(cloud, endpoint) == (2, 1)
    cloud.cloud.advance(300)
    await_baking(cloud, endpoint, "100%")
    assert current_counts(cloud, endpoint) == (1, 2)
    assert set(answers(cloud, endpoint)) == {b"new"}

    def is_back() -> bool:
        goes_off(cloud, tripped)
        return bool(cloud.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService")

    await_true(is_back, "the endpoint is in service again")
    described = cloud.settled(endpoint)
    assert described["EndpointConfigName"] == before
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert set(answers(cloud, endpoint)) == {b"old"}
    cloud.delete(endpoint)


def test_a_component_is_updated_batch_by_batch(cloud: Account) -> None:
    endpoint, component = cloud.name("endpoint"), cloud.name("component")
    variant = {"VariantName": "all", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
    cloud.sagemaker.create_endpoint_config(
        EndpointConfigName=endpoint, ExecutionRoleArn=ROLE, ProductionVariants=[variant]
    )
    cloud.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    cloud.settled(endpoint)
    cloud.sagemaker.create_inference_component(
        InferenceComponentName=component,
        EndpointName=endpoint,
        VariantName="all",
        Specification={"ModelName": cloud.model(STAND_IN_PREFIX="old")},
        RuntimeConfig={"CopyCount": 2},
    )

    def described() -> dict[str, Any]:
        found: dict[str, Any] = cloud.sagemaker.describe_inference_component(InferenceComponentName=component)
        return found

    await_true(lambda: described()["InferenceComponentStatus"] == "InService", "the component serves")
    deployment = rolling({"Type": "COPY_COUNT", "Value": 1}, wait_s=120)
    cloud.sagemaker.update_inference_component(
        InferenceComponentName=component,
        Specification={"ModelName": cloud.model(STAND_IN_PREFIX="new")},
        DeploymentConfig=deployment,
    )

    def ask() -> set[bytes]:
        return {cloud.invoke(endpoint, b"", InferenceComponentName=component) for _ in range(20)}

    await_true(lambda: ask() == {b"old", b"new"}, "a copy of each answers")
    assert described()["InferenceComponentStatus"] == "Updating"

    def is_updated() -> bool:
        cloud.cloud.advance(120)
        return bool(described()["InferenceComponentStatus"] == "InService")

    await_true(is_updated, "the update is done")
    assert ask() == {b"new"}
    assert described()["LastDeploymentConfig"] == deployment
    assert described()["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    cloud.sagemaker.delete_inference_component(InferenceComponentName=component)
    await_true(
        lambda: not cloud.sagemaker.list_inference_components(EndpointNameEquals=endpoint)["InferenceComponents"],
        "the component goes",
    )
    cloud.delete(endpoint)


class Room(ToyRunner):
    """A machine with room for so many starts."""

    left = 100

    def start(self, spec: ContainerSpec) -> ToyContainer:
        if self.left == 0:
            raise ContainerFailed("the machine is full")
        self.left -= 1
        return super().start(spec)


def test_where_the_way_back_fails_both_configurations_serve_until_the_next_update(tmp_path: Path) -> None:
    runner = Room()
    with running_sagemaker(tmp_path, runner=runner) as stage:
        control = stage.client("sagemaker")
        two = [{"VariantName": "only", "DesiredInstanceCount": 2}]
        control.update_endpoint_weights_and_capacities(EndpointName="toy", DesiredWeightsAndCapacities=two)
        stage.settled()
        variant = {"VariantName": "only", "ModelName": "toy", "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
        control.create_endpoint_config(EndpointConfigName="next", ProductionVariants=[variant])
        runner.left = 1  # of two new instances one starts, and no old one again
        control.update_endpoint(EndpointName="toy", EndpointConfigName="next", DeploymentConfig=rolling(instances(1)))
        described = stage.settled()
        assert described["EndpointStatus"] == "UpdateRollbackFailed"
        assert described["FailureReason"].startswith("The rollback to the old configuration failed: the machine is")
        assert described["EndpointConfigName"] == "toy"
        with pytest.raises(ClientError, match="an update of it moves all traffic at once"):
            control.update_endpoint(
                EndpointName="toy", EndpointConfigName="next", DeploymentConfig=rolling(instances(1))
            )
        with pytest.raises(ClientError, match="update it to one of them first"):
            control.update_endpoint_weights_and_capacities(EndpointName="toy", DesiredWeightsAndCapacities=two)
        runner.left = 2
        control.update_endpoint(EndpointName="toy", EndpointConfigName="next")
        described = stage.settled()
        assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", "next")
        alive = [toy for toy in runner.containers if toy.exit_code() is None]
        await_true(lambda: len([toy for toy in alive if toy.exit_code() is None]) == 2, "the others end")


def test_a_guardrail_needs_the_same_variants_and_sizes_that_fit_their_counts(cloud: Account) -> None:
    endpoint = cloud.endpoint(cloud.model(), cloud.model())
    config = cloud.config(cloud.model())
    canary = blue_green("CANARY", CanarySize=instances(1))
    with pytest.raises(ClientError, match="they are variant-0, variant-1 and variant-0"):
        cloud.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=canary)
    config = cloud.config(cloud.model(), cloud.model())
    with pytest.raises(ClientError, match="CanarySize is 1; it must be at most 50 percent of the 1 that variant"):
        cloud.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, DeploymentConfig=canary)
    assert cloud.settled(endpoint)["EndpointStatus"] == "InService"
    cloud.delete(endpoint)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (blue_green("CANARY"), "of Type CANARY needs CanarySize"),
        (blue_green("LINEAR", CanarySize=percent(10)), "of Type LINEAR takes no CanarySize"),
        (blue_green("ALL_AT_ONCE", LinearStepSize=percent(10)), "of Type ALL_AT_ONCE takes no LinearStepSize"),
        (blue_green("CANARY", CanarySize=percent(51)), "CanarySize is 51 percent; it must be 1 to 50"),
        (blue_green("LINEAR", LinearStepSize=percent(9)), "LinearStepSize is 9 percent; it must be 10 to 50"),
        (rolling(percent(4)), "MaximumBatchSize is 4 percent; it must be 5 to 50"),
        (rolling(percent(5), RollbackMaximumBatchSize=percent(101)), "RollbackMaximumBatchSize is 101 percent"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(config: Config, sentence: str) -> None:
    with pytest.raises(ServiceError, match=sentence):
        check_deployment_config(config, [{"VariantName": "a"}])


@pytest.mark.parametrize(
    ("config", "count", "sentence"),
    [
        (blue_green("LINEAR", LinearStepSize=instances(1)), 11, "it must be 10 to 50 percent of the 11 that variant a"),
        (rolling(instances(3)), 5, "MaximumBatchSize is 3; it must be 5 to 50 percent of the 5 that variant a has"),
        (
            {
                "BlueGreenUpdatePolicy": blue_green("ALL_AT_ONCE", last_s=600)["BlueGreenUpdatePolicy"]
                | {"MaximumExecutionTimeoutInSeconds": 600}
            },
            1,
            "MaximumExecutionTimeoutInSeconds is 600; it must be larger than all waits together, which are 600 seconds",
        ),
        (
            {
                "RollingUpdatePolicy": rolling(instances(1), wait_s=300)["RollingUpdatePolicy"]
                | {"MaximumExecutionTimeoutInSeconds": 900}
            },
            4,
            "which are 1200 seconds",
        ),
    ],
)
def test_a_config_that_does_not_fit_the_instances_is_refused(config: Config, count: int, sentence: str) -> None:
    with pytest.raises(ServiceError, match=sentence):
        check_sizes(config, {"a": count})


def test_the_steps_are_the_shares_of_each_variant() -> None:
    linear = blue_green("LINEAR", wait_s=30, last_s=5, LinearStepSize=instances(1))
    found = [(dict(step.shares), step.bake_s) for step in shifts(linear, {"a": 2, "b": 4})]
    quarters = [Fraction(number, 4) for number in (1, 2, 3, 4)]
    assert found == [
        ({"a": Fraction(1, 2), "b": quarters[0]}, 30.0),
        ({"a": Fraction(1), "b": quarters[1]}, 30.0),
        ({"a": Fraction(1), "b": quarters[2]}, 30.0),
        ({"a": Fraction(1), "b": quarters[3]}, 5.0),
    ]
    assert [step.shares for step in shifts({}, {"a": 3})] == [{"a": Fraction(1)}]


@pytest.mark.parametrize(
    ("size", "count", "at_a_time"), [(percent(50), 5, 2), (percent(5), 3, 1), (instances(3), 9, 3)]
)
def test_a_batch_is_at_most_its_part_and_one_at_least(size: Config, count: int, at_a_time: int) -> None:
    found = batches(rolling(size), count)
    assert found is not None
    assert (found.size, found.rollback_size) == (at_a_time, None)
