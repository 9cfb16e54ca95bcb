"""The walk-through of docs/guides/pipeline.md, taken by its very commands: what each step left behind."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import onnxruntime
import pytest
import torch

from tests.ecosystem.environments import REPOSITORY
from tests.ecosystem.page import Step, checkout, steps, taken
from tests.examples.loading import module_of
from tests.training_hooks.artifacts import mismatches

PAGE = REPOSITORY / "docs" / "guides" / "pipeline.md"


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
    return Walk(steps=taken(directory, steps(PAGE)), built=directory / "build" / "pipeline")


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


@pytest.mark.parametrize("number", range(len(steps(PAGE))), ids=[step.heading for step in steps(PAGE)])
def test_each_step_prints_what_the_page_says(walk: Walk, number: int) -> None:
    step = walk.steps[number]
    missing = [
        line
        for line in step.promised
        if not re.search("^" + ".*".join(map(re.escape, line.strip().split("…"))) + r"\s*$", step.said, re.MULTILINE)
    ]
    assert missing == [], step.said


def test_the_form_of_onnx_was_held_against_torch_and_is_what_serves(walk: Walk) -> None:
    """The archive has the network and its form; the endpoint's server says by which of them it answers."""
    root = walk.built / "job" / "model"
    manifest = json.loads((root / "manifest.json").read_text())
    example = json.loads((root / "example" / "request.json").read_text())
    response = json.loads((root / "example" / "response.json").read_text())
    (form,) = manifest["forms"]

    assert mismatches(root) == []
    assert {"model.pth", form["file"]} < manifest["files"].keys()
    assert form["parity"]["largest_difference"] < 1e-3 * manifest["metrics"]["target_std"]
    assert [row[0] for row in response] == pytest.approx(estimates(walk, example), rel=1e-5)
    session = onnxruntime.InferenceSession(root / form["file"], providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: np.array(example, np.float32)})
    assert found[:, 0].tolist() == pytest.approx(estimates(walk, example), rel=1e-4)


def test_the_endpoint_answers_as_the_trained_model(walk: Walk) -> None:
    answer = float(walk.said("6. Invoke the endpoint").splitlines()[-1])
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
    page = PAGE.read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert shown in (REPOSITORY / "examples" / "tabular" / "pipeline.toml").read_text()
