"""How a job ends, and what it leaves for the platform to show; the real entry point in a process, without docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from container.entrypoint import training
from container.entrypoint.memory_limit import memory_ran_out
from tests.container.entry_point import TRAIN, job, start, train


def test_what_an_earlier_job_said_is_forgotten(tmp_path: Path) -> None:
    base_dir = job(tmp_path, "print('trained')\n")
    (base_dir / "output").mkdir()
    (base_dir / "output/failure").write_text("of an earlier job")
    assert train(base_dir).returncode == 0
    assert not (base_dir / "output/failure").exists()


def test_a_configuration_that_nobody_foresaw_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    base_dir = job(tmp_path, "print('trained')\n")
    (base_dir / "input/config/resourceconfig.json").write_text(json.dumps({"hosts": 5}))
    done = train(base_dir)
    assert done.returncode == 1
    assert (
        base_dir / "output/failure"
    ).read_text() == "the training job cannot be run: TypeError: 'int' object is not iterable."
    assert "Traceback" in done.stderr


def test_an_argument_that_is_too_long_for_the_system_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    base_dir = job(tmp_path, "print('trained')\n")
    (base_dir / "input/config/hyperparameters.json").write_text(json.dumps({"long": "x" * 200_000}))
    assert train(base_dir).returncode == 1
    assert "Argument list too long" in (base_dir / "output/failure").read_text()


SIGNALLED_WHILE_THE_SCRIPT_STARTS = f"""
import os, signal, subprocess, time
from pathlib import Path
begin = subprocess.Popen.__init__

def begin_slowly(self, *words, **how):
    begin(self, *words, **how)
    while not Path(os.environ["SCRIPT_RUNS"]).exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGTERM)

subprocess.Popen.__init__ = begin_slowly
{TRAIN}
"""


def test_a_signal_reaches_a_script_that_runs_before_its_starter_knows_of_it(tmp_path: Path) -> None:
    """It has its time to save what it has."""
    runs = tmp_path / "runs"
    script = (
        "import pathlib, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(6))\n"
        f"pathlib.Path({str(runs)!r}).touch()\nwhile True:\n    time.sleep(0.01)\n"
    )
    base_dir = job(tmp_path / "job", script)
    with start(base_dir, program=SIGNALLED_WHILE_THE_SCRIPT_STARTS, SCRIPT_RUNS=str(runs)) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 6, errors


@pytest.mark.parametrize(
    ("file", "text", "ran_out"),
    [
        ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n", True),
        ("memory.events", "low 0\noom 0\noom_kill 0\n", False),
        ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", True),
        ("memory/usage", "", False),
    ],
)
def test_a_kill_for_memory_is_known_from_the_control_group(tmp_path: Path, file: str, text: str, ran_out: bool) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert memory_ran_out(tmp_path) is ran_out


def test_a_script_that_was_killed_for_memory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training.how_it_ended("train.py", -11) == "train.py was ended by SIGSEGV."
    monkeypatch.setattr(training, "memory_ran_out", lambda: True)
    assert training.how_it_ended("train.py", -9) == "train.py was ended by SIGKILL: the container has no more memory."
