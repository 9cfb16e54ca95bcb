"""The limits of the container of a stage, by its mode: the largest body, and how long a request may take."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.hosted import FULL
from tidegate.infra.configuration import Stage
from tidegate.infra.models.container_environment import container_environment
from tidegate.infra.stage import stage_file

MIB = 1024 * 1024


def stage_of(hosting: str = "realtime", **tables: Any) -> Stage:
    smallest = {
        "name": "test",
        "image": {"tag": "1"},
        "hosting": FULL[hosting],
        "retention": {
            "keep_data": False,
            "old_versions_days": 1,
            "batch_output_days": 1,
            "access_logs_days": 1,
            "images": 2,
        },
    }
    return stage_file.parse(smallest | tables)


@pytest.mark.parametrize(
    ("stage", "limit"),
    [
        (stage_of(), 25 * MIB),
        (stage_of("component"), 25 * MIB),
        (stage_of("multi_model", model={"prefix": "s3://bucket/models/"}), 25 * MIB),
        (stage_of("serverless"), 4 * MIB),
        (stage_of("async"), 1024 * MIB),
        (stage_of(batch={}), 100 * MIB),
        (stage_of(batch={"max_payload_mib": 6}), 100 * MIB),
        (stage_of(batch={"max_payload_mib": 0}), 1024 * MIB),
        (stage_of("async", batch={}), 1024 * MIB),
        (stage_of(server={"max_body_bytes": 1000}), 1000),
        (stage_of(environment={"TIDEGATE_MAX_BODY_BYTES": "1000"}), 1000),
    ],
)
def test_the_container_takes_the_bodies_that_the_platform_brings_in_the_modes_of_its_stage(
    stage: Stage, limit: int
) -> None:
    assert container_environment(stage)["TIDEGATE_MAX_BODY_BYTES"] == str(limit)


def test_a_limit_that_the_stage_sets_by_an_older_name_is_left_alone() -> None:
    environment = container_environment(stage_of(environment={"TS_MAX_REQUEST_SIZE": "1000"}))
    assert environment == {"TS_MAX_REQUEST_SIZE": "1000"}


@pytest.mark.parametrize(
    ("stage", "timeout_s"),
    [
        (stage_of("async"), "900"),
        (stage_of("async", server={"timeout_s": 3600}), "3600"),
        (stage_of("async", environment={"SAGEMAKER_TS_RESPONSE_TIMEOUT": "1800"}), None),
        (stage_of(), None),
    ],
    ids=["async", "said", "said by an old name", "realtime"],
)
def test_a_request_to_an_asynchronous_endpoint_may_take_as_long_as_sagemaker_waits(
    stage: Stage, timeout_s: str | None
) -> None:
    assert container_environment(stage).get("TIDEGATE_TIMEOUT_S") == timeout_s
