"""What becomes of a command whose output cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tidegate import command_line

COMMANDS = {
    "tidegate": ("tidegate", "completion", "bash"),
    "tidegate cloud": ("tidegate", "cloud", "--help"),
    "infra": ("tidegate.infra", "prometheus", "dashboard"),
    "client": ("tidegate.client", "--help"),
    "training_hooks": ("tidegate.training_hooks", "--help"),
}


def ended(*words: str, output: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *words], stdout=output, stderr=subprocess.PIPE, text=True, timeout=900, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", COMMANDS)
def test_a_full_disk_is_one_sentence_and_a_reader_that_left_is_none(program: str) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - answers each write as a full disk does
        assert ended(*COMMANDS[program], output=full.fileno()) == (
            1,
            "tidegate: error: standard output: No space left on device\n",
        )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert ended(*COMMANDS[program], output=writer) == (0, "")
    finally:
        os.close(writer)


def test_closed_output_is_read_by_nobody() -> None:
    command = f"exec {sys.executable} -m tidegate completion bash >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=900, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_below_a_file_is_one_sentence_and_other_faults_stay_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_to_a_full_disk() -> None:
        with open("/dev/full", "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write("content")

    assert command_line.run(write_to_a_full_disk) == 1
    assert capsys.readouterr().err == "tidegate: error: No space left on device\n"
    with pytest.raises(FileNotFoundError):
        command_line.run((tmp_path / "none").unlink)


def test_the_status_is_that_of_the_command_and_of_ctrl_c() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert command_line.run(lambda: 3) == 3
    assert command_line.run(lambda: None) == 0
    assert command_line.run(interrupted) == 130


@pytest.mark.parametrize(
    ("own", "default", "counts"), [("eu-west-3", "", "eu-west-3"), ("eu-west-3", "us-east-2", "us-east-2")]
)
def test_a_command_finds_the_region_of_aws_region_where_boto3_would_find_none(
    own: str, default: str, counts: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_REGION", own)
    monkeypatch.setenv("AWS_DEFAULT_REGION", default)
    found = []

    def command() -> None:
        found.append(boto3.Session(aws_access_key_id="a", aws_secret_access_key="b").region_name)

    assert command_line.run(command) == 0
    assert found == [counts]
