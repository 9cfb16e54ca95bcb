"""`mlflow deployments` with the target `sagemaker`, unmodified, against the local cloud as `up` exports it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.environments import REPOSITORY, python_of
from tidegate.local_cloud import LocalCloud

HERE = Path(__file__).parent
LIMIT_S = 600
AS_A_USER = """
set -e
eval "$("$PYTHON" -m tidegate.local_cloud up)"
exec "$PYTHON" -P "$@"
"""

pytestmark = pytest.mark.timeout(2 * LIMIT_S)  # the environment is made first


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What deploy.py found, in a shell that has evaluated the lines of `up` and has nothing else of AWS."""
    work = tmp_path_factory.mktemp("deployments")
    python, cloud = python_of("mlflow", sees_ours=True), LocalCloud(work / "cloud")
    try:
        done = subprocess.run(
            ["bash", "-c", AS_A_USER, "bash", str(HERE / "deploy.py"), "found.json"],  # noqa: S607
            cwd=work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(work),
                "TMPDIR": str(work),
                "LOCAL_CLOUD_DIR": str(cloud.directory),
                "PYTHON": str(python),
                "PYTHONPATH": str(REPOSITORY),
                "PIP_NO_INDEX": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:]
        yield json.loads((work / "found.json").read_text(encoding="utf-8"))
    finally:
        cloud.down()


def test_a_model_is_deployed_and_asked(found: dict[str, Any]) -> None:
    assert found["created"] == {"name": "mine", "flavor": "python_function"}
    assert found["predicted"] == [2.0, 4.0]


def test_a_deployment_is_listed_and_described(found: dict[str, Any]) -> None:
    assert found["listed"] == ["mine"]
    assert found["got"] == "InService"
    assert "EndpointStatus: InService" in found["command line"]


def test_another_model_takes_the_place_of_the_first(found: dict[str, Any]) -> None:
    assert found["predicted after the update"] == [3.0, 6.0]


def test_a_transform_job_runs(found: dict[str, Any]) -> None:
    assert found["transformed"] == {"predictions": [{"a": 5.0}, {"a": 10.0}]}


def test_nothing_is_left_of_what_was_deployed(found: dict[str, Any]) -> None:
    assert found["left"] == {"endpoints": [], "configurations": [], "models": []}


def test_no_call_leaves_the_machine(found: dict[str, Any]) -> None:
    assert found["calls"] == []
