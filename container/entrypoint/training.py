"""`train`: the script of a training job from its configuration to its exit status.

1. read /opt/ml/input/config, find the script and bring it to /opt/ml/code, install its requirements
2. run it with the SM_* variables; its output goes through, the end of its standard error is kept
3. SIGTERM (stop, time limit, Spot) goes to the script, which has 120 s to save what it has
4. a failure is told in /opt/ml/output/failure, and the exit status is the script's own
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from container.entrypoint import training_command, training_requirements, training_script, training_torchrun
from container.entrypoint.held_signals import held
from container.entrypoint.memory_limit import memory_ran_out
from container.entrypoint.training_failure import TrainingFailed, failure_text, forget_failure, report
from container.entrypoint.training_variables import command_line, gpus, read_job, variables

KEPT_ERROR_BYTES = 16 * 1024
BY_SIGNAL = 128  # a shell's status for a process that signal n ended is 128 + n


def run(environment: MutableMapping[str, str]) -> int:
    """Run the job that lies below SAGEMAKER_BASE_DIR; returns the exit status of the container."""
    base_dir = Path(environment.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
    child = _Child()
    # Before anything that takes time: process 1 of a container ignores a signal that it does not handle.
    signal.signal(signal.SIGTERM, child.pass_on)
    signal.signal(signal.SIGINT, child.pass_on)
    try:
        forget_failure(base_dir / "output")
        job = read_job(base_dir)
        program = training_script.program_of(job, environment)
        source = training_script.source_of(job, environment)
        code_dir = base_dir / "code"
        training_script.fetch(source, code_dir, environment)
        script = training_script.script_in(code_dir, program)
        training_script.warn_of_package(code_dir)
        interpreter = training_requirements.install(code_dir, environment)
        for name in ("model", "output/data"):
            (base_dir / name).mkdir(parents=True, exist_ok=True)
        environment.update(variables(job, program, source, environment))
        together = training_torchrun.is_asked(job)
        if together:
            words = training_torchrun.command(job, script, interpreter, gpus(), environment)
            for name, value in training_torchrun.network(job).items():
                environment.setdefault(name, value)
        else:
            words = training_command.command(script, interpreter)
        words += command_line(job.user_hyperparameters)
        status, errors = child.run(words, code_dir, environment, is_launcher=together)
        if status != 0:
            where = ""
            if together and (first := training_torchrun.first_failure(errors)) is not None:
                rank, status = first
                where, errors = f" on rank {rank}", training_torchrun.of_the_script(errors)
            raise TrainingFailed(failure_text(how_it_ended(program, status, where), errors), _exit_status(status))
    except TrainingFailed as failure:
        _tell(base_dir, str(failure))
        return failure.status
    except OSError as error:
        _tell(base_dir, f"the training job cannot be run: {error}.")
        return 1
    except Exception as error:
        # Whatever it is, a job does not end without saying why where the platform looks.
        traceback.print_exc()
        _tell(base_dir, f"the training job cannot be run: {type(error).__name__}: {error}.")
        return 1
    return 0


def how_it_ended(program: str, status: int, where: str = "") -> str:
    """The end of a script in a sentence; a negative status is the signal that ended it."""
    if status == -signal.SIGKILL and memory_ran_out():
        return f"{program} was ended by SIGKILL{where}: the container has no more memory."
    if status < 0:
        return f"{program} was ended by {signal.Signals(-status).name}{where}."
    return f"{program} ended with exit status {status}{where}."


def _exit_status(status: int) -> int:
    return BY_SIGNAL - status if status < 0 else status


def _tell(base_dir: Path, reason: str) -> None:
    print(f"tidegate: error: {reason.splitlines()[0]}", file=sys.stderr, flush=True)  # noqa: T201
    try:
        report(base_dir / "output", reason)
    except OSError as error:
        print(f"tidegate: error: the failure file cannot be written: {error}", file=sys.stderr, flush=True)  # noqa: T201


class _Child:
    """The script's process. A signal that comes before it is there ends the job."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_launcher = False

    def pass_on(self, number: int, _frame: FrameType | None) -> None:
        if self._process is None:
            raise TrainingFailed(f"the job was stopped by {signal.Signals(number).name} before its script ran.", 143)
        # torchrun itself takes a signal for a failure; what the processes of the script make of it is their own.
        ranks = training_torchrun.ranks_of(self._process.pid) if self._is_launcher else []
        for pid in ranks or [self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def run(
        self, words: Sequence[str], code_dir: Path, environment: MutableMapping[str, str], *, is_launcher: bool
    ) -> tuple[int, str]:
        """The script's exit status, -n where signal n ended it, and the end of what it wrote to standard error."""
        kept = bytearray()
        self._is_launcher = is_launcher
        with held():  # the script may run, and wait for its signal, before `Popen` returns
            self._process = process = subprocess.Popen(
                list(words), cwd=code_dir, env=dict(environment), stderr=subprocess.PIPE
            )
        assert process.stderr is not None  # noqa: S101 - asked for above
        reader = threading.Thread(target=_pass_through, args=(process.stderr, kept), daemon=True)
        reader.start()
        status = _reap_until(process.pid)
        # A grandchild that lives on may hold the pipe open for ever.
        reader.join(timeout=2)
        return status, kept.decode("utf-8", errors="replace")


def _pass_through(source: IO[bytes], kept: bytearray) -> None:
    while chunk := os.read(source.fileno(), 65536):
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
        kept += chunk
        del kept[:-KEPT_ERROR_BYTES]


def _reap_until(pid: int) -> int:
    """Wait for `pid`, and for whatever else was left to us: process 1 is the parent of all orphans."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)
