"""The other pure rules: routing, restart pauses, transitions, transform settings, event frames, the environment."""

from __future__ import annotations

import shlex

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from tidegate.local_cloud.environment import client_environment, shell_lines
from tidegate.local_cloud.sagemaker import event_stream
from tidegate.local_cloud.sagemaker.deployment_rules import check_deployment_config
from tidegate.local_cloud.sagemaker.endpoint_state import refusal
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.replica import next_pause_s
from tidegate.local_cloud.sagemaker.routing import choose_variant
from tidegate.local_cloud.sagemaker.transform_settings import (
    batch_environment,
    check_transform_request,
    decide,
    read_execution_parameters,
)

weights = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 100), min_size=1, max_size=5)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_a_variant_without_weight_gets_no_traffic_unless_none_has_any(shares: dict[str, float], point: float) -> None:
    chosen = choose_variant(shares, point)
    assert shares[chosen] > 0 or sum(shares.values()) == 0


def test_traffic_is_shared_by_weight() -> None:
    chosen = [choose_variant({"a": 1.0, "b": 3.0}, point / 100) for point in range(100)]
    assert (chosen.count("a"), chosen.count("b")) == (25, 75)


def test_a_container_that_dies_again_and_again_waits_longer_but_not_for_ever() -> None:
    pauses = [0.0]
    for _ in range(12):
        pauses.append(next_pause_s(pauses[-1], lived_s=0.1))
    assert pauses[1] == 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 60.0
    assert next_pause_s(60.0, lived_s=3600) == 0.0, "after a long life it comes back at once"


@pytest.mark.parametrize("status", ["Creating", "Updating", "Deleting"])
@pytest.mark.parametrize("change", ["update", "delete"])
def test_an_endpoint_on_the_move_takes_no_change(status: str, change: str) -> None:
    assert refusal(status, change, "endpoint") == "Cannot update in-progress endpoint"


ROLLING = {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50}, "WaitIntervalInSeconds": 300}


def test_one_variant_on_instances_is_updated_batch_by_batch() -> None:
    check_deployment_config({"RollingUpdatePolicy": ROLLING}, [{"VariantName": "a"}])
    check_deployment_config({}, [{"VariantName": "a"}, {"VariantName": "b"}])


@pytest.mark.parametrize(
    ("config", "variants", "sentence"),
    [
        ({"BlueGreenUpdatePolicy": {}}, [{}], "either BlueGreenUpdatePolicy or RollingUpdatePolicy"),
        ({}, [{}, {}], "excludes an endpoint with several variants"),
        ({}, [{"ServerlessConfig": {}}], "excludes a serverless endpoint"),
        (
            {"RollingUpdatePolicy": ROLLING | {"MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 60}}},
            [{}],
            "MaximumBatchSize is 60 percent; it must be 5 to 50",
        ),
    ],
)
def test_what_cannot_be_updated_batch_by_batch_is_refused(
    config: dict[str, object], variants: list[dict[str, object]], sentence: str
) -> None:
    with pytest.raises(ServiceError, match=sentence):
        check_deployment_config({"RollingUpdatePolicy": ROLLING} | config, variants)


def test_a_failed_endpoint_can_only_be_deleted() -> None:
    assert refusal("Failed", "update", "endpoint") is not None
    assert refusal("Failed", "delete", "endpoint") is None
    assert refusal("InService", "update", "endpoint") is refusal("InService", "delete", "endpoint") is None


def test_the_request_wins_over_the_container_and_the_container_over_the_defaults() -> None:
    told = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 2}
    asked = {"MaxConcurrentTransforms": 3, "BatchStrategy": "MultiRecord", "MaxPayloadInMB": 5}
    by_default, by_container, by_request = decide({}, {}), decide({}, told), decide(asked, told)
    assert (by_default.max_concurrent, by_default.multi_record, by_default.max_payload_bytes) == (1, True, 6 * 2**20)
    assert (by_container.max_concurrent, by_container.multi_record) == (8, False)
    assert by_container.max_payload_bytes == 2 * 2**20
    assert (by_request.max_concurrent, by_request.multi_record, by_request.max_payload_bytes) == (3, True, 5 * 2**20)


def test_a_payload_of_zero_is_no_limit() -> None:
    assert decide({"MaxPayloadInMB": 0}, {}).max_payload_bytes is None


def test_a_job_tells_its_container_only_what_the_user_set() -> None:
    assert batch_environment({}) == {"SAGEMAKER_BATCH": "true"}
    assert batch_environment({"MaxPayloadInMB": 7, "BatchStrategy": "SingleRecord", "MaxConcurrentTransforms": 2}) == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "7",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2",
    }


@pytest.mark.parametrize(
    ("request_members", "words"),
    [
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB is 101"),
        ({"MaxPayloadInMB": 60, "MaxConcurrentTransforms": 2}, "is 120; it must be at most 100"),
    ],
)
def test_a_transform_request_that_the_service_refuses_is_refused(
    request_members: dict[str, object], words: str
) -> None:
    with pytest.raises(ServiceError, match=words):
        check_transform_request({"TransformInput": {}, **request_members})


@pytest.mark.parametrize("body", [b"[]", b"no", b'{"BatchStrategy": "BOTH"}', b'{"MaxPayloadInMB": "6"}'])
def test_execution_parameters_that_are_none_are_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_execution_parameters(200, body)
    assert read_execution_parameters(404, body) == {}


@given(st.binary(max_size=3_000_000))
def test_botocore_reads_the_frames_of_a_stream_as_what_was_sent(content: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(event_stream.payload_parts(content))
    assert b"".join(event.payload for event in buffer) == content


def test_exports_survive_a_shell() -> None:
    environment = client_environment(
        moto_url="http://127.0.0.1:1", sagemaker_url="http://127.0.0.1:2", region="eu-west-1"
    )
    read = dict(shlex.split(line)[1].split("=", 1) for line in shell_lines(environment, {}))
    assert read == environment
    assert read["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] == "http://127.0.0.1:2"
    assert read["AWS_EC2_METADATA_DISABLED"] == "true"


def test_a_callers_profile_and_proxy_do_not_send_clients_elsewhere() -> None:
    lines = shell_lines({}, {"AWS_PROFILE": "work", "HTTP_PROXY": "http://proxy", "NO_PROXY": "intranet"})
    assert lines == [
        "unset AWS_PROFILE",
        "export NO_PROXY=intranet,127.0.0.1,localhost",
        "export no_proxy=127.0.0.1,localhost",
    ]
