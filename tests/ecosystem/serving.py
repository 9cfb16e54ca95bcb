"""Serve an archive of another tool by the interpreter that has that tool, or see why it is refused."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.contract.running import Server, start, wait_until

START_S = 120.0  # importing these tools takes seconds on a busy machine


@contextlib.contextmanager
def served(model_dir: Path, base_dir: Path, python: str, **environment: str) -> Iterator[Server]:
    """A server of a copy of `model_dir`, ready; it ends by itself when it is told to."""
    base_dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(model_dir, base_dir / "model")
    server = start(base_dir, {"PIP_NO_INDEX": "1", **environment}, python=python)
    try:
        wait_until(
            lambda: server.process.poll() is not None or server.ping() == 200, "it is ready", START_S, server.log
        )
        assert server.process.poll() is None, server.log()
        yield server
    finally:
        status = server.terminate() if server.process.poll() is None else None
    assert status == 0


def checked(model_dir: Path, python: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `python -m inference check` says of `model_dir`."""
    return subprocess.run(
        [python, "-m", "inference", "check", str(model_dir)],
        env={**os.environ, "PYTHONSAFEPATH": "1", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
