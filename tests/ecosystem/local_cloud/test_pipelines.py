"""Pipelines as both versions of the SageMaker SDK write them, unmodified, run by the local cloud."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.environments import python_of
from tests.ecosystem.local_cloud.conftest import run_as_a_user
from tidegate.local_cloud import LocalCloud

LIMIT_S = 1200
"""For one run, of some ten jobs, on a machine that is very busy."""
pytestmark = pytest.mark.timeout(3 * LIMIT_S)
"""The first run of each version also makes its environment."""

# Of scripts, "base" is the directory that plays /opt/ml, also where the kernel gives a process none of its own.
BASE = 'import json, os, pathlib, tarfile\nbase = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "processing")\n'
PREPARE = """
rows = (base / "input/rows.csv").read_text().split()
(base / "train/rows.csv").write_text("\\n".join(rows[1:]))
"""
TRAIN = """
import argparse, os, pathlib

parser = argparse.ArgumentParser()
parser.add_argument("--factor", type=float)
factor = parser.parse_args().factor
rows = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "rows.csv").read_text().split()
model = pathlib.Path(os.environ["SM_MODEL_DIR"])
(model / "code").mkdir()
(model / "code" / "inference.py").write_text(pathlib.Path(__file__).with_name("inference.py").read_text())
(model / "factor").write_text(str(factor * len(rows)))
"""
INFERENCE = """
import pathlib, torch

def model_fn(model_dir):
    return float(pathlib.Path(model_dir, "factor").read_text())

def predict_fn(data, factor):
    return torch.as_tensor(data, dtype=torch.float32) * factor
"""
EVALUATE = """
with tarfile.open(base / "model/model.tar.gz") as archive:
    value = float(archive.extractfile("factor").read())
report = {"regression_metrics": {"mse": {"value": value}}}
(base / "evaluation/evaluation.json").write_text(json.dumps(report))
"""
COMMON = {"AbaloneProcess": "Succeeded", "AbaloneTrain": "Succeeded", "AbaloneEval": "Succeeded"}


@pytest.fixture(scope="session", params=["v3", "v2"])
def pipelined(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What pipeline_VERSION.py found of its executions."""
    work = tmp_path_factory.mktemp(f"pipeline-{request.param}")
    (work / "code").mkdir()
    (work / "code" / "train.py").write_text(TRAIN)
    (work / "code" / "inference.py").write_text(INFERENCE)
    (work / "prepare.py").write_text(BASE + PREPARE)
    (work / "evaluate.py").write_text(BASE + EVALUATE)
    (work / "rows.csv").write_text("header\n1\n2\n3\n")
    (work / "lines.csv").write_text("1,2\n3,4\n")
    with tarfile.open(work / "source.tar.gz", "w:gz") as archive:
        for name in ("train.py", "inference.py"):
            archive.add(work / "code" / name, name)
    python, cloud = python_of(request.param), LocalCloud(work / "cloud")
    script = Path(__file__).with_name(f"pipeline_{request.param}.py")
    try:
        command = [str(python), "-P", str(script), ".", "found.json"]
        run_as_a_user(cloud, work, command, limit_s=LIMIT_S)
        yield json.loads((work / "found.json").read_text())
    finally:
        cloud.down()


def test_a_good_model_is_registered_created_and_used(pipelined: dict[str, Any]) -> None:
    good = pipelined["good"]
    assert good["status"] == "Succeeded", good
    branch = {name for name in good["steps"] if name not in COMMON}
    assert {name.partition("-")[0] for name in branch} == {
        "AbaloneCond",
        "AbaloneRegister",
        "AbaloneCreate",
        "AbaloneTransform",
    }
    assert set(good["steps"].values()) == {"Succeeded"}
    assert good["package"] == ["AbaloneGroup", "Approved"]
    # Three rows and the factor 2.
    assert pipelined["transformed"] == [[6.0, 12.0], [18.0, 24.0]]
    assert good["cached"] == []


def test_a_bad_model_fails_with_its_message_and_what_was_run_before_comes_from_the_cache(
    pipelined: dict[str, Any],
) -> None:
    bad = pipelined["bad"]
    assert bad["status"] == "Failed"
    assert bad["steps"] == COMMON | {"AbaloneCond": "Succeeded", "AbaloneFail": "Failed"}
    assert bad["reasons"] == {"AbaloneFail": "the error is above 1"}
    assert bad["cached"] == ["AbaloneProcess", "AbaloneTrain"]


def test_an_upsert_of_a_pipeline_that_is_there_makes_its_next_version(pipelined: dict[str, Any]) -> None:
    assert pipelined["version"] == 2


def test_no_call_leaves_the_machine(pipelined: dict[str, Any]) -> None:
    assert pipelined["calls"] == []
