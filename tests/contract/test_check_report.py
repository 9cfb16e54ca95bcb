"""What `check` reports of a good and of a bad archive, as text and as JSON, and what it keeps to itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.claims import page
from tests.contract.models import DOUBLE
from tests.contract.running import write_files
from tests.inference.forms import toy_forms

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, data):
        return self.dropout(self.line(data)) * 0 + torch.rand(1) * JITTER

def model_fn(model_dir):
    print("printed by model_fn")
    net = Net()
    with torch.no_grad():
        net.line.weight[0, 0] = float("nan") if JITTER else 0.0
    return net

def predict_fn(data, model):
    with torch.no_grad():
        return [0.25 + 0 * float(model(data).nan_to_num().sum())] * len(data)
"""


def check(model: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SAGEMAKER_", "TIDEGATE_", "TS_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-m", "inference", "check", str(model), *words],
        env={**kept, "TIDEGATE_WORKERS": "1", "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def archive(root: Path, script: str, request: str, expected: str) -> None:
    """Write a model directory whose manifest lists no files and carries one example."""
    example = {
        "request": {"file": "example/request.json", "content_type": "application/json", "accept": "application/json"},
        "response": {"file": "example/response.json", "content_type": "application/json"},
    }
    manifest = {"format_version": 1, "name": "net", "files": {}, "example": example}
    files = {"example/request.json": request, "example/response.json": expected}
    write_files(root, files | {"code/inference.py": script, "manifest.json": json.dumps(manifest)})


def keys_of(found: Any, at: str = "") -> set[str]:
    """The keys of an object, at any depth, as the page writes them: `load.batches.why`."""
    if isinstance(found, dict):
        below = {key: f"{at}.{key}" if at else key for key in found}
        return set(below.values()) | {each for key in found for each in keys_of(found[key], below[key])}
    return {each for entry in found for each in keys_of(entry, at)} if isinstance(found, list) else set()


def keys_on_the_page() -> tuple[set[str], set[str]]:
    """The keys that the table has rows for, and those that it may mean: also what it lists of their values."""
    table = page("guides/check.md").partition("\n## As JSON\n")[2].partition("\n## ")[0]
    rows: set[str] = set()
    listed: set[str] = set()
    for first, second in re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.M):
        names = re.findall(r"`([\w.]+)`", first)
        rows |= {*names}
        listed |= {f"{name}.{key}" for name in names for key in re.findall(r"`([a-z_]+)`", second)}
    above = {name.rpartition(".")[0] for name in rows} - {""}
    return rows, rows | listed | above


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    archive(root, "JITTER = 0\n" + NET, "[[1.5, 2.5], [3.5, 4.5]]", "[0.25, 0.25]")
    return root


def test_the_object_has_the_keys_of_the_page_and_standard_output_nothing_else(good: Path) -> None:
    done = check(good, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found["error"] is None
    assert "printed by model_fn" in done.stderr
    load = found["load"]
    assert (load["kind"], load["parameters"], load["dtypes"]) == ("Net", 3, ["float32"])
    assert load["functions"] == ["model_fn", "predict_fn"]
    assert load["example"]["largest_difference"] == 0.0
    assert load["example"]["prediction"] == "list of 2: float"
    assert load["memory_bytes"] > 0
    assert [each["code"] for each in found["warnings"]] == ["training_mode"]
    rows, told = keys_on_the_page()
    assert keys_of(found) - told == set()
    assert rows - keys_of(found) == set()


def test_the_text_has_the_rows_of_the_page_and_ends_with_the_verdict(good: Path) -> None:
    done = check(good)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "this model may take traffic"
    assert "printed by model_fn" not in done.stdout
    assert "\x1b" not in done.stdout
    example = page("guides/check.md").partition("```text\n")[2].partition("```")[0]
    shown = set(re.findall(r"^([a-z]+) {2,}", example, re.M))
    assert len(shown) > 7
    assert shown - set(re.findall(r"^([a-z]+) {2,}", done.stdout, re.M)) <= {"found"}  # it has no model file
    (warning,) = [line for line in lines if line.startswith("  - ")]
    assert warning.endswith("call model.eval() before model_fn returns it [training_mode]")


def test_a_refusal_is_an_object_too_and_its_warnings_say_where_to_look(tmp_path: Path) -> None:
    write_files(tmp_path, {"src/inference.py": DOUBLE, "notes.txt": "x"})
    done = check(tmp_path, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert f"tidegate: error: {found['error']}" == done.stderr.splitlines()[-1]
    assert found["load"] is None
    assert "script_in_the_wrong_place" in [each["code"] for each in found["warnings"]]
    text = check(tmp_path)
    assert text.returncode == 1
    assert "[script_in_the_wrong_place]" in text.stdout
    assert "may take traffic" not in text.stdout


@pytest.mark.parametrize(
    ("model", "environment"),
    [("nowhere", {}), ("http://h.test/x", {}), ("s3://", {}), (".", {"TIDEGATE_WORKERS": "many"})],
)
def test_what_ends_before_there_is_a_model_is_an_object_too(
    tmp_path: Path, model: str, environment: dict[str, str]
) -> None:
    done = check(Path(model) if "://" not in model else model, "--json", **environment)  # type: ignore[arg-type]
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["ok"], found["archive"], found["load"]) == (False, None, None)
    assert done.stderr.splitlines()[-1] == f"tidegate: error: {found['error']}"


def test_answers_that_change_and_weights_that_are_no_numbers_are_warned_of(tmp_path: Path) -> None:
    """The verdict is that of the first answer; what is found out by asking again is a warning."""
    script = "JITTER = 1\ncalls = []\n" + NET.replace("return [0.25", "calls.append(1)\n        return [len(calls) / 4")
    script += "def postprocess(answer): ...\n"
    archive(tmp_path, script, "[[1.5, 2.5]]", "[0.25]")
    done = check(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    warnings = {each["code"]: each["message"] for each in json.loads(done.stdout)["warnings"]}
    assert set(warnings) == {"said_at_load", "unsteady_answers", "weights_not_a_number", "training_mode"}
    doubt = "code/inference.py defines postprocess, and nothing calls it; did you mean output_fn?"
    assert warnings["said_at_load"].endswith(doubt)


def test_a_model_that_dies_when_it_is_asked_again_may_take_traffic_and_is_warned_of(tmp_path: Path) -> None:
    """That is what a server would do: its verdict comes before anything else is tried."""
    script = DOUBLE + "\nimport os\ncalls = []\n_own = predict_fn\ndef predict_fn(data, model):\n    calls.append(1)\n"
    script += "    if len(calls) > 1:\n        os._exit(3)\n    return _own(data, model)\n"
    archive(tmp_path, script, "[[1, 2]]", "[[2.0, 4.0]]")
    done = check(tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["load"] is None
    assert [each["code"] for each in found["warnings"]] == ["not_looked_into"]


def test_the_form_that_is_served_is_told_and_why_the_others_are_not(tmp_path: Path) -> None:
    forms = [toy_forms.form("gpu", requires={"device": "cuda"}, file="forms/onnx/model.onnx"), toy_forms.form("onnx")]
    toy_forms.write_onnx(tmp_path / "forms/onnx/model.onnx", toy_forms.network(0))
    toy_forms.archive(tmp_path, forms)
    done = check(tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("form ")]
    assert row.startswith("form      onnx: it fits this machine and answers the archive's example")
    assert "; not gpu: " in row
    (kept,) = [line for line in check(tmp_path, TIDEGATE_FORM="eager").stdout.splitlines() if line.startswith("form ")]
    assert kept == "form      eager: TIDEGATE_FORM=eager" or kept.startswith("form      eager: TIDEGATE_FORM=eager; ")
