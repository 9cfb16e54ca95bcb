"""The walk-through of docs/guides/pipeline.md, taken by its very commands: what each step left behind."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
import torch

from tests.ecosystem.environments import REPOSITORY
from tests.ecosystem.pipeline.page import Step, checkout, steps, taken
from tests.examples.loading import module_of

pytestmark = pytest.mark.timeout(900)  # the whole page is the fixture of the first test


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What was said, and `build/pipeline` with the files that were made."""

    steps: list[Step]
    built: Path

    def said(self, heading: str) -> str:
        (step,) = [step for step in self.steps if step.heading == heading]
        return step.said


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    directory = checkout(tmp_path_factory.mktemp("walk") / "checkout")
    return Walk(steps=taken(directory), built=directory / "build" / "pipeline")


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def estimates(walk: Walk, records: list[list[str]]) -> list[float]:
    """What model.pth itself makes of measurements, in torch."""
    weights = json.loads((walk.built / "job" / "model" / "manifest.json").read_text())["weights"]
    net = module_of(REPOSITORY / "examples" / "tabular" / "code" / "tabular_net.py").TabularNet(**weights["arguments"])
    net.load_state_dict(torch.load(walk.built / "job" / "model" / "model.pth"))
    with torch.inference_mode():
        answer = net.eval()(torch.tensor([[float(cell) for cell in record] for record in records]))
    return [float(value) for value in answer[:, 0]]


@pytest.mark.parametrize("number", range(len(steps())), ids=[step.heading for step in steps()])
def test_each_step_prints_what_the_page_says(walk: Walk, number: int) -> None:
    step = walk.steps[number]
    missing = [
        line
        for line in step.promised
        if not re.search("^" + ".*".join(map(re.escape, line.strip().split("…"))) + r"\s*$", step.said, re.MULTILINE)
    ]
    assert missing == [], step.said


def test_the_onnx_model_goes_out_with_the_answer_of_torch(walk: Walk) -> None:
    example = json.loads((walk.built / "onnx" / "example" / "request.json").read_text())
    response = json.loads((walk.built / "onnx" / "example" / "response.json").read_text())
    files = json.loads((walk.built / "onnx" / "manifest.json").read_text())["files"]

    assert "model.onnx" in files
    assert not [name for name in files if name.endswith((".pth", ".py"))]
    assert [row[0] for row in response] == pytest.approx(estimates(walk, example), rel=1e-5)


def test_the_endpoint_answers_as_the_trained_model(walk: Walk) -> None:
    answer = float(walk.said("6. Ask the endpoint").splitlines()[-1])
    assert [answer] == pytest.approx(estimates(walk, rows(walk.built / "data" / "one.csv")), rel=1e-4)


def test_the_table_holds_each_record_once_with_its_estimate(walk: Walk) -> None:
    incoming = walk.built / "data" / "incoming"
    records = [row for name in ("monday.csv", "tuesday.csv") for row in rows(incoming / name)]
    with duckdb.connect() as connection:
        found = connection.execute(
            "select patient, progression from read_parquet(?, hive_partitioning = true) order by patient",
            [str(walk.built / "predictions" / "*" / "*" / "*.parquet")],
        ).fetchall()

    assert [patient for patient, _ in found] == [record[0] for record in records]
    wanted = estimates(walk, [record[1:] for record in records])
    assert [estimate for _, estimate in found] == pytest.approx(wanted, rel=1e-4)


def test_the_stage_on_the_page_is_the_stage_of_the_example() -> None:
    """What the page shows of the schedule is what is deployed."""
    page = (REPOSITORY / "docs" / "guides" / "pipeline.md").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert shown in (REPOSITORY / "examples" / "tabular" / "pipeline.toml").read_text()


NUDGED = """
import sys
from pathlib import Path

import torch

sys.path.insert(0, sys.argv[1])
import export

written = export.write_onnx

def nudged(net, example, path):
    written(net, example, path)
    with torch.no_grad():
        net.straight.weight[0, 0] += 0.001

export.write_onnx = nudged
export.export(Path(sys.argv[2]), Path("elsewhere"), rtol=1e-5)
"""


def test_an_onnx_model_that_answers_otherwise_is_not_kept(walk: Walk, tmp_path: Path) -> None:
    """One weight that differs by a thousandth is seen, and nothing is written."""
    done = subprocess.run(
        [sys.executable, "-c", NUDGED, str(REPOSITORY / "examples" / "tabular"), str(walk.built / "job" / "model")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(walk.built / "packages")},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 1
    assert "ExportFailed: onnxruntime and torch differ by" in done.stderr
    assert list(tmp_path.iterdir()) == []
