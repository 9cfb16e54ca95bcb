"""Running commands so that nothing of them outlives the caller: each in a process group of its own."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

GRACE_S = 10.0
SHOWN_LINES = 15


class CommandFailed(Exception):
    """A command ended badly; the text is one sentence and the last lines that the command printed."""


def run(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    directory: Path,
    echo: str | None = None,
    timeout_s: float = 600.0,
) -> str:
    """Run a command to its end, keep its output in `log`, and return it.

    Args:
        command: program and arguments.
        log: gets standard output and standard error.
        environment: of the command.
        directory: where it runs.
        echo: lines that begin with this are printed while the command runs.
        timeout_s: how long it may take.

    Raises:
        CommandFailed: it ended with a status other than 0 or took too long.
    """
    with (
        log.open("wb") as output,
        started(
            command,
            environment=environment,
            directory=directory,
            stdout=output if echo is None else subprocess.PIPE,
            stderr=subprocess.STDOUT if echo is None else output,
        ) as process,
    ):
        try:
            printed = [] if echo is None else _follow(process, echo)
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{command[0]} took more than {timeout_s:g} s, see {log}") from None
    text = log.read_text(errors="replace") if echo is None else "\n".join(printed)
    if status:
        shown = last_lines(log.read_text(errors="replace") or text)
        raise CommandFailed(f"'{' '.join(command[:4])} ...' ended with status {status}; it said last:{shown}")
    return text


@contextmanager
def started(
    command: Sequence[str], *, environment: Mapping[str, str], directory: Path, **files: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs for the length of the block; it and all that it started have ended afterwards.

    Args:
        command: program and arguments.
        environment: of the command.
        directory: where it runs.
        files: its `stdout` and `stderr`, as `subprocess.Popen` takes them.
    """
    with ExitStack() as around:
        with _held_signals():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                env=dict(environment),
                cwd=directory,
                # A group of its own: programs such as cdk start others, and an interruption has to reach them all.
                start_new_session=True,
                **files,
            )
            around.callback(end_group, process)
        yield process


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the command's group: SIGTERM, and SIGKILL to what does not obey."""
    with _held_signals():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def last_lines(text: str) -> str:
    """The end of what a command said, indented, for an error."""
    return "".join(f"\n    | {line}" for line in text.strip().splitlines()[-SHOWN_LINES:])


@contextmanager
def _held_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM come at the end of the block.

    One whose handler raises within `Popen` would leave a process behind of which nobody knows. They are not blocked:
    the process would inherit that.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)


def _follow(process: subprocess.Popen[bytes], echo: str) -> list[str]:
    assert process.stdout is not None
    printed: list[str] = []
    for raw in process.stdout:
        line = raw.decode(errors="replace").rstrip()
        printed.append(line)
        if line.startswith(echo):
            print(f"     {line}", flush=True)
    return printed
