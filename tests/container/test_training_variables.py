"""The SM_* variables and the command line of a script, from the platform's three files; needs no docker."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from container.entrypoint import training_script
from container.entrypoint.training_failure import TrainingFailed, failure_text, report
from container.entrypoint.training_variables import command_line, read_job, variables

RECORDS = ("toolkit_variables.json", "toolkit_variables_torch_distributed.json")


def job_files(base_dir: Path, **files: Any) -> Path:
    config = base_dir / "input/config"
    config.mkdir(parents=True)
    for name, content in files.items():
        (config / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return base_dir


@pytest.mark.parametrize("name", RECORDS)
def test_every_variable_is_what_the_toolkit_makes_of_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The records are of the toolkit itself; one is of a host in one of two instance groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no nvidia-smi
    record = json.loads(Path(__file__).with_name(name).read_text().replace("BASE", str(tmp_path)))
    job = read_job(job_files(tmp_path, **record["files"]))
    program, source = training_script.program_of(job, {}), training_script.source_of(job, {})
    made = variables(job, program, source, record["environment"])
    described, recorded = (json.loads(found.pop("SM_TRAINING_ENV")) for found in (made, record["variables"]))
    assert made == record["variables"]
    assert described == recorded
    assert command_line(job.user_hyperparameters) == record["arguments"]


def test_values_are_json_where_they_are_json_and_text_otherwise(tmp_path: Path) -> None:
    given = {"rate": "0.1", "deep": "true", "name": '"net"', "plain": "relu", "layers": "[1, 2]"}
    job = read_job(job_files(tmp_path, hyperparameters=given))
    assert job.user_hyperparameters == {"rate": 0.1, "deep": True, "name": "net", "plain": "relu", "layers": [1, 2]}


def test_what_is_meant_for_the_toolkit_is_kept_from_the_script(tmp_path: Path) -> None:
    given = {
        "sagemaker_program": '"a.py"',
        "sagemaker_mpi_enabled": "false",
        "_tuning_objective_metric": '"x"',
        "n": "1",
    }
    job = read_job(job_files(tmp_path, hyperparameters=given))
    assert job.user_hyperparameters == {"n": 1}
    made = variables(job, "a.py", "/opt/ml/code", {})
    assert made["SM_FRAMEWORK_PARAMS"] == '{"sagemaker_mpi_enabled":false}'
    assert made["SM_USER_ENTRY_POINT"] == "a.py"
    assert made["SM_MODULE_NAME"] == "a"


def test_arguments_are_sorted_and_a_name_of_one_letter_has_one_dash() -> None:
    given = {"size": 3, "b": None, "a": True, "pairs": {"y": 2, "x": 1}}
    assert command_line(given) == ["-a", "True", "-b", "", "--pairs", "x=1,y=2", "--size", "3"]


def test_variables_are_compact_json_with_sorted_keys(tmp_path: Path) -> None:
    base = job_files(
        tmp_path,
        hyperparameters={"Size": "3", "flag": "true"},
        inputdataconfig={"training": {}, "Eval": {}},
        resourceconfig={"current_host": "algo-2", "hosts": ["algo-1", "algo-2"], "network_interface_name": "ethwe"},
    )
    made = variables(read_job(base), "train.py", "s3://bucket/code.tar.gz", {"TRAINING_JOB_NAME": "job-1"})
    assert made["SM_HPS"] == '{"Size":3,"flag":true}'
    assert (made["SM_HP_SIZE"], made["SM_HP_FLAG"]) == ("3", "true")
    assert made["SM_USER_ARGS"] == '["--Size","3","--flag","True"]'
    assert made["SM_CHANNELS"] == '["Eval","training"]'
    assert made["SM_CHANNEL_EVAL"] == str(base / "input/data/Eval")
    assert made["SM_HOSTS"] == '["algo-1","algo-2"]'
    assert (made["SM_CURRENT_HOST"], made["SM_NETWORK_INTERFACE_NAME"]) == ("algo-2", "ethwe")
    assert made["SM_FRAMEWORK_MODULE"] == ""
    assert made["SM_MODULE_DIR"] == "s3://bucket/code.tar.gz"
    described = json.loads(made["SM_TRAINING_ENV"])
    assert described["is_master"] is False
    assert described["master_hostname"] == "algo-1"
    assert described["job_name"] == "job-1"


def test_a_container_that_is_run_by_hand_has_no_configuration_and_still_its_variables(tmp_path: Path) -> None:
    made = variables(read_job(tmp_path), "train.py", str(tmp_path / "code"), {})
    assert made["SM_MODEL_DIR"] == str(tmp_path / "model")
    assert made["SM_HOSTS"] == '["localhost"]'


@pytest.mark.parametrize("content", ["[1]", "{"])
def test_a_configuration_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    job_files(tmp_path, hyperparameters=content)
    with pytest.raises(TrainingFailed, match=r"hyperparameters\.json"):
        read_job(tmp_path)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"a=b": "1"}, r"no variable can be named 'SM_HP_A=B'"),
        ({"a\0b": "1"}, r"no variable can be named 'SM_HP_A\\x00B'"),
        ({"a": '"x\\u0000y"'}, r"SM_HP_A holds a zero byte"),
        ({"a": '"\\ud800"'}, r"SM_HP_A holds half of a surrogate pair"),
    ],
)
def test_a_hyperparameter_that_no_variable_can_hold_is_named(
    tmp_path: Path, given: dict[str, str], sentence: str
) -> None:
    job = read_job(job_files(tmp_path, hyperparameters=given))
    with pytest.raises(TrainingFailed, match=sentence):
        variables(job, "train.py", "/opt/ml/code", {})


def test_a_value_that_is_too_deep_for_json_stays_text(tmp_path: Path) -> None:
    job = read_job(job_files(tmp_path, hyperparameters={"deep": "[" * 50_000}))
    assert job.user_hyperparameters == {"deep": "[" * 50_000}


@pytest.mark.parametrize("program", ["/etc/passwd", "../train.py"])
def test_a_script_outside_the_code_directory_is_refused(tmp_path: Path, program: str) -> None:
    job = read_job(job_files(tmp_path, hyperparameters={"sagemaker_program": json.dumps(program)}))
    with pytest.raises(TrainingFailed, match="must be a file below the code directory"):
        training_script.program_of(job, {})


def test_a_distribution_that_this_image_does_not_start_is_refused(tmp_path: Path) -> None:
    job = read_job(job_files(tmp_path, hyperparameters={"sagemaker_mpi_enabled": "true"}))
    with pytest.raises(TrainingFailed, match="sagemaker_mpi_enabled is set, whose launcher this image has not"):
        training_script.program_of(job, {})


def test_code_in_a_directory_is_copied_and_code_that_is_there_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "code"
    source.mkdir()
    (source / "train.py").write_text("new")
    training_script.fetch(f"file://{source}", target, {})
    assert (target / "train.py").read_text() == "new"
    (source / "train.py").write_text("newer")
    training_script.fetch(f"file://{source}", target, {})
    assert (target / "train.py").read_text() == "new"


def test_code_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="is neither a directory nor a file"):
        training_script.fetch(str(tmp_path / "absent.tar.gz"), tmp_path / "code", {})


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "source.tar.gz").write_text("<html>")
    with pytest.raises(TrainingFailed, match=r"source\.tar\.gz is not a tar archive"):
        training_script.fetch(str(tmp_path / "source.tar.gz"), tmp_path / "code", {})


def test_the_failure_text_has_no_colours_of_the_scripts_errors() -> None:
    text = failure_text(
        "train.py ended with exit status 1.", "\x1b[1;31mValueError\x1b[0m: \x1b[36mbad\x1b[0m batch\x07\n"
    )
    assert text == "train.py ended with exit status 1.\nValueError: bad batch"


def test_the_failure_text_keeps_the_end_of_the_errors_within_what_the_platform_shows() -> None:
    text = failure_text("train.py ended with exit status 1.", "x" * 5000 + "\nValueError: the last line\n")
    assert len(text) == 1024
    assert text.startswith("train.py ended with exit status 1.\n")
    assert text.endswith("ValueError: the last line")


def test_the_failure_file_that_a_script_wrote_is_kept(tmp_path: Path) -> None:
    report(tmp_path / "output", "first")
    report(tmp_path / "output", "second")
    assert (tmp_path / "output/failure").read_text() == "first"
