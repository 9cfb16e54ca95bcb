"""examples/tabular: its data, and its training as SageMaker runs it.

The whole road of the example, ONNX included, is in tests/ecosystem/pipeline.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from sklearn.linear_model import LinearRegression

from tests.examples.loading import module_of, other_imports
from tests.processes import started
from tests.training_hooks.artifacts import manifest_of, mismatches

EXAMPLE = Path(__file__).parents[2] / "examples" / "tabular"


def environment(work_dir: Path) -> dict[str, str]:
    """The environment of a training job whose /opt/ml is the work directory."""
    return os.environ | {
        "SM_CHANNEL_TRAINING": str(work_dir / "data" / "training"),
        "SM_MODEL_DIR": str(work_dir / "model"),
        "SM_OUTPUT_DIR": str(work_dir / "output"),
    }


def run(script: str, *arguments: str, work_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE / script), *arguments],
        env=environment(work_dir),
        cwd=work_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the data were written and a model was trained on them."""
    directory = tmp_path_factory.mktemp("tabular")
    for script, arguments in (("data.py", ["data"]), ("train.py", [])):
        done = run(script, *arguments, work_dir=directory)
        assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_the_data_are_split_and_nobody_is_told_twice(work: Path) -> None:
    """354 and 88 of the 442 patients; of those who come in nothing but the outcome's file says the outcome."""
    training = rows(work / "data" / "training" / "patients.csv")
    incoming = [row for day in ("monday", "tuesday") for row in rows(work / "data" / "incoming" / f"{day}.csv")]
    assert (len(training) - 1, len(incoming)) == (354, 88)
    assert {len(row) for row in (*training, *incoming)} == {11}
    assert not {tuple(row[:-1]) for row in training} & {tuple(row[1:]) for row in incoming}
    assert [row[0] for row in rows(work / "data" / "outcome.csv")] == [row[0] for row in incoming]
    assert rows(work / "data" / "one.csv") == [incoming[0][1:]]


def test_the_training_saves_what_serves_without_a_script(work: Path) -> None:
    """model.pth, the network by its name, the columns, the error, and an example with its answer."""
    assert mismatches(work / "model") == []
    manifest = manifest_of(work / "model")
    assert manifest["weights"] == {
        "architecture": "tabular_net:TabularNet",
        "arguments": {"features": 10, "hidden": 32},
        "file": "model.pth",
        "format": "state_dict",
    }
    assert {"code/tabular_net.py", "example/request.json", "example/response.json"} < manifest["files"].keys()
    assert manifest["metrics"]["validation_rmse"] < 0.85 * manifest["metrics"]["target_std"]
    assert not (work / "output" / "failure").exists()


def test_the_estimates_are_about_as_good_as_scikit_learns_own(work: Path) -> None:
    """On the patients who come in the model is off by at most a twentieth more than a linear regression."""
    training = np.array(rows(work / "data" / "training" / "patients.csv")[1:], float)
    incoming = [row[1:] for day in ("monday", "tuesday") for row in rows(work / "data" / "incoming" / f"{day}.csv")]
    measured = np.array(incoming, float)
    outcome = np.array([row[1] for row in rows(work / "data" / "outcome.csv")], float)
    linear = LinearRegression().fit(training[:, :-1], training[:, -1]).predict(measured)
    net = module_of(EXAMPLE / "code" / "tabular_net.py").TabularNet(10)
    net.load_state_dict(torch.load(work / "model" / "model.pth"))
    with torch.inference_mode():
        ours = net.eval()(torch.tensor(measured, dtype=torch.float32))[:, 0].numpy()

    def off_by(estimates: np.ndarray) -> float:
        return float(np.sqrt(np.mean((estimates - outcome) ** 2)))

    assert off_by(ours) <= 1.05 * off_by(linear)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "holds no .csv file"),
        ({"a.csv": ""}, "a.csv has no column 'progression'"),
        ({"a.csv": "age,bmi\n1,2\n"}, "a.csv has no column 'progression'; it has age, bmi"),
        ({"a.csv": "age,progression\n1,2\n\n3,4\n"}, "holds 2 rows, and at least 10 are needed"),
        ({"a.csv": "age,progression\n1,2\n1,2,3\n"}, "a.csv, line 3: 3 cells for 2 columns"),
        ({"a.csv": "age,progression\n1,2\nold,2\n"}, "a.csv, line 3: age is 'old', and no number"),
        ({"a.csv": "age,progression\n1,nan\n"}, "a.csv, line 2: progression is 'nan', and no number"),
        ({"a.csv": "age,progression\n1,2\n", "b.csv": "progression,age\n1,2\n"}, "b.csv has other columns than"),
    ],
)
def test_a_table_that_is_none_fails_the_job_with_its_place(files: dict[str, str], reason: str, tmp_path: Path) -> None:
    """The file that the platform shows names file and line, and no model is left."""
    channel = tmp_path / "data" / "training"
    channel.mkdir(parents=True)
    for name, text in files.items():
        (channel / name).write_text(text)
    done = run("train.py", work_dir=tmp_path)
    assert done.returncode == 1
    assert reason in (tmp_path / "output" / "failure").read_text().partition("\n")[0]
    assert not (tmp_path / "model" / "manifest.json").exists()


def test_a_job_that_is_stopped_saves_what_it_has(work: Path, tmp_path: Path) -> None:
    with started(
        [sys.executable, str(EXAMPLE / "train.py"), "--epochs", "1000000", "--model-dir", str(tmp_path / "model")],
        env=environment(work) | {"SM_OUTPUT_DIR": str(tmp_path / "output")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch="):
                process.send_signal(signal.SIGTERM)
                break
        said = process.stdout.read()
    assert process.returncode == 0
    assert "asked to stop" in said
    assert mismatches(tmp_path / "model") == []


def test_the_archive_asks_for_the_runtime_that_its_form_is_measured_with() -> None:
    (line,) = (EXAMPLE / "code" / "requirements.txt").read_text().splitlines()
    asked = Requirement(line)
    assert asked.name == "onnxruntime"
    assert asked.specifier.contains(metadata.version(asked.name))


def test_the_code_of_the_archive_stands_alone() -> None:
    """It imports nothing but torch."""
    assert other_imports(EXAMPLE / "code", {"torch"}) == set()
