"""A signal that comes before there is a loop to hear it is obeyed as soon as there is one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.models import DOUBLE
from tests.contract.running import free_port, write_files
from tests.contract.test_command_line import ENVIRONMENT

PROGRAM = """
import os, sys, threading
import uvloop

number, made = int(sys.argv.pop(1)), uvloop.new_event_loop
if sys.argv.pop(1) == "a thread":  # such as a download leaves behind
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def make():
    os.kill(os.getpid(), number)
    for _ in range(1000):  # whichever thread has taken it, the handler runs here
        pass
    return made()

uvloop.new_event_loop = make
from tidegate.inference.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize("beside", ["nothing", "a thread"])
def test_a_signal_while_the_loop_is_made_ends_the_program(
    command: str, number: signal.Signals, beside: str, tmp_path: Path
) -> None:
    write_files(tmp_path, {"model/code/inference.py": DOUBLE})
    ended = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(int(number)), beside, command, "model"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "SAGEMAKER_BIND_TO_PORT": str(free_port())},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == (0 if command == "serve" else 128 + number), ended.stderr
    assert "Traceback" not in ended.stderr
