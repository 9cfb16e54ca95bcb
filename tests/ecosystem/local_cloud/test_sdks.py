"""Both versions of the SageMaker SDK, unmodified, against the local cloud as `up` exports it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ecosystem.local_cloud.conftest import LIMIT_S
from tests.local_cloud.test_private_opt_ml import UNSHARE, works

pytestmark = pytest.mark.timeout(2 * LIMIT_S)
"""The first run of each version also makes its environment."""

DOUBLED = [[2.0, 4.0], [6.0, 8.0]]


def test_the_session_finds_its_role_and_its_bucket(found: dict[str, Any]) -> None:
    role = "arn:aws:iam::123456789012:role/AmazonSageMaker-ExecutionRole-local"
    assert (found["role"], found["default role"]) == (role, role)
    assert found["bucket"] == "sagemaker-us-east-1-123456789012"


def test_an_archive_is_packed_with_its_script_deployed_and_asked(found: dict[str, Any]) -> None:
    assert found["predicted"] == DOUBLED
    assert found["predicted asynchronously"] == DOUBLED


def test_a_transform_job_runs_and_is_waited_for(found: dict[str, Any]) -> None:
    assert found["transformed"] == DOUBLED


def test_a_version_and_a_package_by_itself_are_registered(found: dict[str, Any]) -> None:
    assert [arn.partition(":model-package/")[2] for arn in found["registered"]] == ["mine/1", "alone"]


def test_a_script_is_trained_with_its_data_and_hyperparameters_and_its_model_is_found(found: dict[str, Any]) -> None:
    if isinstance(found["trained"], str) and not any(works(*command) for command in UNSHARE.values()):
        pytest.skip(f"this machine gives a process no /opt/ml of its own: {found['trained']}")
    assert found["trained"] == {"factor": "3.0"}


def test_a_script_processes_and_its_output_is_found(found: dict[str, Any]) -> None:
    assert found["processed"] == "--share 0.2"


@pytest.mark.parametrize("found", ["v2"], indirect=True)
def test_a_tuner_finds_its_best_training_job(found: dict[str, Any]) -> None:
    assert found["tuned"] == {"tried": [2.0, 4.0], "best": "4.0"}


def test_no_call_leaves_the_machine(found: dict[str, Any]) -> None:
    assert found["calls"] == []


@pytest.mark.parametrize("found", ["v2"], indirect=True)
def test_a_registered_version_is_deployed(found: dict[str, Any]) -> None:
    assert found["predicted by the package"] == [[10.0, 12.0]]


@pytest.mark.parametrize("found", ["v3"], indirect=True)
def test_a_serverless_endpoint_answers(found: dict[str, Any]) -> None:
    assert found["predicted without a server"] == DOUBLED


@pytest.mark.parametrize("found", ["v3"], indirect=True)
def test_approval_is_changed(found: dict[str, Any]) -> None:
    assert found["rejected"] == "Rejected"


@pytest.mark.parametrize("found", ["v3"], indirect=True)
def test_a_role_without_rights_is_refused_by_the_sdk(found: dict[str, Any]) -> None:
    assert "RoleValidationError" in found["poor role"]
    assert "Missing permissions" in found["poor role"]
