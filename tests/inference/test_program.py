"""A program that is run beside the event loop is waited for, or gone with all that it started."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import uvloop

from tests.contract.running import wait_until
from tidegate.inference.frontend.packages import program

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest) -> asyncio.Runner:
    factory: Callable[[], asyncio.AbstractEventLoop] = LOOPS[request.param]
    return asyncio.Runner(loop_factory=factory)


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def test_status_and_output_are_those_of_the_program(runner: asyncio.Runner, tmp_path: Path) -> None:
    with runner:
        source = "import os, sys; print(os.getcwd(), os.environ['NAME'], flush=True); sys.exit('no')"
        words, variables = python(source), {"NAME": "value"}
        both = runner.run(program.run(words, directory=tmp_path, variables=variables, errors_too=True))
        assert both == (1, f"{tmp_path} value\nno\n".encode())
        assert runner.run(program.run(python("print('yes')"))) == (0, b"yes\n")
        killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        assert runner.run(program.run(python(killed))) == (-signal.SIGKILL, b"")


def test_of_a_long_output_the_end_is_kept(runner: asyncio.Runner) -> None:
    with runner:
        source = f"print('a' * 100 + 'b' * {program.KEPT_BYTES - 1})"
        assert runner.run(program.run(python(source))) == (0, b"b" * (program.KEPT_BYTES - 1) + b"\n")


def test_a_program_that_is_not_there_is_an_error_of_the_system(runner: asyncio.Runner) -> None:
    with runner, pytest.raises(FileNotFoundError):
        runner.run(program.run(["/nowhere/program"]))


@pytest.mark.parametrize("moment", ["it starts", "it runs"])
def test_what_is_cancelled_while_it_starts_or_runs_is_gone_with_all_that_it_started_before_the_loop_is(
    moment: str, runner: asyncio.Runner, tmp_path: Path
) -> None:
    source = (
        "import os, pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'draft')!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(tmp_path / 'draft')!r}, {str(tmp_path / 'pids')!r})\n"
        "child.wait()\n"
    )

    async def leave() -> None:
        before = psutil.Process().children()
        running = asyncio.ensure_future(program.run(python(source)))
        while psutil.Process().children() == before:  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0)
        while not (tmp_path / "pids").exists():
            assert not running.done()
            if moment == "it runs":
                await asyncio.sleep(0.01)
            else:
                time.sleep(0.01)  # noqa: ASYNC251 - the program goes on while the loop has not yet heard of its start
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with runner:
        runner.run(leave())
        started, child = map(int, (tmp_path / "pids").read_text().split())
        assert not psutil.pid_exists(started)
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", "the child is gone")
    gc.collect()  # finds no transport of a closed loop: that would be an error of this test, or of a later one
