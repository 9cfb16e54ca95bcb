"""What the entry point decides before anything runs; needs no docker."""

from __future__ import annotations

import io
import os
import pwd
import sys
import tarfile
import tempfile
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from container.entrypoint import commands, health, training, training_script, unknown_user
from container.entrypoint.training_failure import TrainingFailed


def test_without_an_argument_a_job_trains_and_an_endpoint_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's local mode gives no argument to a training job that has no source code."""
    done: list[str] = []
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr(commands, "_serve", lambda: done.append("serve") or 0)
    monkeypatch.setattr(training, "run", lambda _environment: done.append("train") or 0)
    commands.main([])
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/config/hyperparameters.json").write_text("{}")
    commands.main([])
    assert done == ["serve", "train"]


@pytest.mark.parametrize("command", ["serve", "train"])
def test_serve_and_train_take_no_arguments(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([command, "--port", "1"]) == 2
    assert f"'{command}' takes no arguments, and got: --port 1" in capsys.readouterr().err


def test_a_user_without_a_name_or_a_home_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_uid: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != "/nowhere")
    environment = {"HOME": "/nowhere"}
    unknown_user.settle(environment)
    assert environment["USER"] == environment["LOGNAME"] == "tidegate"
    assert Path(environment["HOME"]).is_dir()


def test_a_user_with_nowhere_to_write_keeps_the_home_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--read-only` without a tmpfs: many a command, and a model without requirements, needs no such place."""

    def nowhere() -> None:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    environment = {"HOME": "/nowhere"}
    unknown_user.settle(environment)
    assert environment["HOME"] == "/nowhere"


@pytest.mark.parametrize("command", ["", "no-such-command"])
def test_what_cannot_be_run_is_one_line_and_127(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([command]) == commands.COMMAND_NOT_FOUND
    assert capsys.readouterr().err.startswith(f"tidegate: error: cannot run '{command}': ")


def test_a_known_user_keeps_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    unknown_user.settle(environment)
    assert environment == {"HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("command", "without_argument", "serves"),
    [
        ("/opt/tidegate/venv/bin/python3|-uBEP|/opt/tidegate/bin/start|serve", "serve", True),
        ("/opt/tidegate/venv/bin/python3|-uBEP|/opt/tidegate/bin/start", "serve", True),
        ("/opt/tidegate/venv/bin/python3|-uBEP|/opt/tidegate/bin/start", "train", False),
        ("/opt/tidegate/venv/bin/python3|-uBEP|/opt/tidegate/bin/start|train", "serve", False),
        ("/opt/tidegate/venv/bin/python3|-uBEP|/opt/tidegate/bin/start|--health", "serve", False),
        ("python|serve.py", "serve", False),
    ],
)
def test_only_a_container_that_serves_is_asked_for_its_health(
    tmp_path: Path, command: str, without_argument: str, serves: bool
) -> None:
    for pid, words in (("1", command), ("22", "sleep|1")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(words.replace("|", "\0").encode() + b"\0")
    assert health.serves(tmp_path, without_argument) is serves


def test_code_in_s3_is_downloaded_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("train.py")
        member.size = 8
        tar.addfile(member, io.BytesIO(b"print(1)"))
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="jobs")
        s3.put_object(Bucket="jobs", Key="a/sourcedir.tar.gz", Body=packed.getvalue())
        environment = {"AWS_REGION": "us-east-1"}
        training_script.fetch("s3://jobs/a/sourcedir.tar.gz", tmp_path / "code", environment)
        assert (tmp_path / "code/train.py").read_text() == "print(1)"
        with pytest.raises(TrainingFailed, match=r"s3://jobs/absent cannot be downloaded: .*404"):
            training_script.fetch("s3://jobs/absent", tmp_path / "empty", environment)


def test_code_in_s3_needs_boto3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(TrainingFailed, match="boto3 is not installed; the image of this project has it"):
        training_script.fetch("s3://jobs/a.tar.gz", tmp_path / "code", {})


def test_an_archive_with_a_file_outside_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"))
    with pytest.raises(TrainingFailed, match=r"holds '\.\./escaped', which is outside the code directory"):
        training_script.fetch(str(tmp_path / "source.tar.gz"), tmp_path / "code", {})
    assert not (tmp_path / "escaped").exists()
