"""Several processes of one job: none takes away what another is writing, and the first failure is told."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.contract.running import wait_until
from tidegate.training_hooks import (
    durable_files,
    latest_checkpoint,
    reporting_failure,
    save_checkpoint,
    unfinished_files,
)
from tidegate.training_hooks.unfinished_files import UNTOUCHED_S, remove_abandoned, unfinished


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Run a training script of a few lines in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> int:
    """Return the exit status, and show why where it is not 0."""
    output, errors = process.communicate(timeout=300)
    print(output, errors)
    return process.returncode


SAVING = """\
import pathlib, sys, torch
from tidegate.training_hooks import save_checkpoint
directory = pathlib.Path(sys.argv[1])
(directory / f"ready-{sys.argv[2]}").touch()
while len(list(directory.glob("ready-*"))) < 2:
    pass
for step in range(40):
    save_checkpoint({"weight": torch.ones(1000)}, step=step, directory=directory, keep_last=2)
"""


def test_ranks_that_save_checkpoints_at_once_lose_none(tmp_path: Path) -> None:
    ranks = [start(SAVING, tmp_path, rank) for rank in range(2)]
    assert [ended(rank) for rank in ranks] == [0, 0]
    names = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("ready-"))
    assert names == ["checkpoint-000000000038.pth", "checkpoint-000000000039.pth"]


def test_what_a_living_process_writes_stays_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys\nfrom tidegate.training_hooks.unfinished_files import unfinished\n"
        "with unfinished(pathlib.Path(sys.argv[1]) / 'checkpoint-000000000001.pth') as path:\n"
        "    path.write_text('half')\n    signal.pause()\n"
    )

    def half() -> list[Path]:
        return [path for path in tmp_path.glob(".*.tmp") if path.read_text() == "half"]

    writing = start(program, tmp_path)
    try:
        wait_until(half, "a checkpoint is half written")
        save_checkpoint({"step": 2}, step=2, directory=tmp_path)
        assert len(half()) == 1
    finally:
        os.kill(writing.pid, signal.SIGKILL)
        writing.communicate(timeout=300)
    save_checkpoint({"step": 3}, step=3, directory=tmp_path)
    assert half() == []


def test_what_another_machine_left_goes_when_nothing_was_written_to_it_for_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock may not be seen here, on a shared file system that keeps locks on one machine."""
    with monkeypatch.context() as patch:
        patch.setattr(unfinished_files, "_HOST", "algo-2")
        with unfinished(tmp_path / "checkpoint-1.pth") as path:
            path.write_text("half")
            os.link(path, tmp_path / "kept")
    left = (tmp_path / "kept").rename(path)
    remove_abandoned(tmp_path, ".checkpoint-*.tmp")
    assert left.read_text() == "half"
    long_ago = left.stat().st_mtime - UNTOUCHED_S - 1
    os.utime(left, (long_ago, long_ago))
    remove_abandoned(tmp_path, ".checkpoint-*.tmp")
    assert not left.exists()


def no_locks(descriptor: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def no_links(self: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_without_locks_age_alone_says_what_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished_files.fcntl, "flock", no_locks)
    with unfinished(tmp_path / "checkpoint-1.pth") as path:
        save_checkpoint({"step": 1}, step=1, directory=tmp_path)
        assert path.exists()
        os.utime(path, (1, 1))
        save_checkpoint({"step": 2}, step=2, directory=tmp_path)
        assert not path.exists()
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 2


def test_a_file_that_was_removed_before_it_could_be_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the creation of a file and its lock, another process takes it for an abandoned one."""
    lock = unfinished_files.fcntl.flock
    removed: list[Path] = []

    def late(descriptor: int, operation: int) -> None:
        if not removed:
            removed.extend(tmp_path.glob(".*.tmp"))
            removed[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(unfinished_files.fcntl, "flock", late)
    with unfinished(tmp_path / "model.tar.gz") as path:
        assert path.exists()
        assert removed != [path]


def test_a_checkpoint_that_another_process_removes_meanwhile_is_no_reason_to_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing and the reading, the newest has become an old one."""
    save_checkpoint({"step": 1}, step=1, directory=tmp_path)
    load = torch.load

    def late(path: Path, **options: object) -> object:
        if path.name.endswith("1.pth"):
            save_checkpoint({"step": 2}, step=2, directory=tmp_path, keep_last=1)
        return load(path, **options)

    monkeypatch.setattr(torch, "load", late)
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 2


FAILING = """\
import pathlib, sys, time
from tidegate.training_hooks import reporting_failure
directory, reason, after = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
with reporting_failure(directory):
    while after and not (directory / "failure").exists():
        time.sleep(0.01)
    raise RuntimeError(reason)
"""


def test_the_first_failure_of_several_processes_stays(tmp_path: Path) -> None:
    """The others fail because the first one is gone, and say nothing of why."""
    consequences = [start(FAILING, tmp_path, "connection closed by peer", "later") for _ in range(2)]
    cause = start(FAILING, tmp_path, "out of memory")
    assert [ended(process) for process in (cause, *consequences)] == [1, 1, 1]
    assert (tmp_path / "failure").read_text().startswith("RuntimeError: out of memory\n")
    assert [path.name for path in tmp_path.iterdir()] == ["failure"]


def has_links(_: pytest.MonkeyPatch) -> None:
    pass


def lacks_links(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(durable_files.Path, "hardlink_to", no_links)


@pytest.mark.parametrize("file_system", [has_links, lacks_links])
def test_a_report_that_is_there_stays_and_the_later_one_is_said_to_be_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file_system: Callable[[pytest.MonkeyPatch], None],
) -> None:
    file_system(monkeypatch)
    for reason in ("cause", "consequence"):
        with pytest.raises(ValueError, match=reason), reporting_failure(tmp_path):
            raise ValueError(reason)
    assert (tmp_path / "failure").read_text().startswith("ValueError: cause\n")
    assert (
        capsys.readouterr().err
        == f"training_hooks: {tmp_path}/failure tells of an earlier failure and stays as it is\n"
    )
