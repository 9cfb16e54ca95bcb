"""`tidegate serve [MODEL] [--host …] [--port …]` on a real socket, and what its arguments may not be."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.models import DOUBLE
from tests.contract.running import Server, free_port, wait_until, write_files

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("SAGEMAKER_", "TIDEGATE_", "TS_", "OTEL_"))}
TIDEGATE = [sys.executable, "-P", "-m", "tidegate"]


@contextlib.contextmanager
def serving(*arguments: str, cwd: Path, port: int, **environment: str) -> Iterator[Server]:
    log_path = cwd / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*TIDEGATE, "serve", *arguments],
            cwd=cwd,
            env={**ENVIRONMENT, "TIDEGATE_WORKERS": "1", **environment},
            stdout=log,
            stderr=log,
        )
    server = Server(process=process, port=port, model_dir=cwd, log_path=log_path)
    try:
        wait_until(lambda: process.poll() is not None or server.ping() == 200, "the server is ready", log=server.log)
        assert process.poll() is None, server.log()
        yield server
    finally:
        if process.poll() is None:
            server.terminate()


def refusal(*arguments: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """Exit status and last line of a command that ends by itself; another port than 8080, which others may have."""
    done = subprocess.run(
        [*TIDEGATE, *arguments],
        cwd=cwd,
        env={**ENVIRONMENT, "SAGEMAKER_BIND_TO_PORT": str(free_port()), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_a_directory_is_served_from_where_its_owner_stands(tmp_path: Path) -> None:
    """Its name is relative, the port comes from the environment, and the network is not let in."""
    write_files(tmp_path, {"mine/code/inference.py": DOUBLE, "elsewhere/model/code/inference.py": "raise OSError"})
    port = free_port()
    with serving(
        "..", cwd=tmp_path / "mine/code", port=port, SAGEMAKER_BIND_TO_PORT=str(port), SAGEMAKER_BASE_DIR="../elsewhere"
    ) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]
        assert '"host": "127.0.0.1"' in server.log()


def test_the_command_line_beats_the_environment(tmp_path: Path) -> None:
    write_files(tmp_path, {"code/inference.py": DOUBLE})
    port = free_port()
    with serving(
        ".",
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        cwd=tmp_path,
        port=port,
        SAGEMAKER_BIND_TO_PORT="1",
        TIDEGATE_HOST="127.0.0.2",
    ) as server:
        assert f'"host": "127.0.0.1", "port": {port}' in server.log()


def test_it_ends_after_the_idle_time_that_the_command_line_says(tmp_path: Path) -> None:
    write_files(tmp_path, {"code/inference.py": DOUBLE})
    status, line = refusal(
        "serve", ".", "--kill-after", "0.5", f"--port={free_port()}", cwd=tmp_path, TIDEGATE_IDLE_EXIT_S="86400"
    )
    assert status == 0
    assert '"message": "stopped"' in line


def test_without_a_directory_everything_is_as_in_the_container(tmp_path: Path) -> None:
    write_files(tmp_path, {"model/code/inference.py": DOUBLE})
    port = free_port()
    with serving(cwd=tmp_path, port=port, SAGEMAKER_BIND_TO_PORT=str(port), SAGEMAKER_BASE_DIR=str(tmp_path)) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]
        assert '"host": "0.0.0.0"' in server.log()


@pytest.mark.skipif(Path("/opt/ml/model").exists(), reason="this machine is such a container")
def test_outside_a_container_a_serve_that_names_no_directory_says_how(tmp_path: Path) -> None:
    assert refusal("serve", cwd=tmp_path) == (
        1,
        "tidegate: error: The model directory /opt/ml/model does not exist; name another as the argument of serve, or "
        "the directory that holds model/ by SAGEMAKER_BASE_DIR.",
    )


@pytest.mark.parametrize("command", ["serve", "check"])
def test_what_is_no_model_directory_is_said_with_the_way_out(tmp_path: Path, command: str) -> None:
    write_files(tmp_path, {"model.pth": b"weights"})
    assert refusal(command, "model.pth", cwd=tmp_path) == (
        1,
        "tidegate: error: model.pth is a file; name the directory that holds it, or an archive of that (model.tar.gz).",
    )
    assert refusal(command, "https://example.com/model.tar.gz", cwd=tmp_path) == (
        1,
        "tidegate: error: https://example.com/model.tar.gz is not a model address: use s3://, a "
        "directory or an archive.",
    )
    assert refusal(command, "nowhere", cwd=tmp_path) == (
        1,
        f"tidegate: error: The model directory {tmp_path}/nowhere does not exist.",
    )


def test_arguments_that_cannot_be_obeyed_are_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for port in ("65536", "http", "-1", "8080.0", "²"):
        status, line = refusal("serve", f"--port={port}", cwd=tmp_path)
        assert status == 2
        assert line == (
            f"tidegate serve: error: argument --port: '{port}' is not valid: "
            "it must be a whole number from 1 to 65535, or 0 for a free port"
        )
    for seconds in ("0", "soon", "nan"):
        status, line = refusal("serve", f"--kill-after={seconds}", cwd=tmp_path)
        assert status == 2
        assert line == (
            f"tidegate serve: error: argument --kill-after: '{seconds}' is not valid: it must be a number from 0.1 to "
            "604800"
        )
    status, line = refusal(
        "serve", "model", "--host", "no.such.host.invalid", cwd=tmp_path, SAGEMAKER_BIND_TO_PORT="8080"
    )
    assert status == 1
    assert line.startswith("tidegate: error: Port 8080 on no.such.host.invalid cannot be taken: ")
    assert refusal("serve", "model", cwd=tmp_path, SAGEMAKER_MULTI_MODEL="on") == (
        1,
        "tidegate: error: SAGEMAKER_MULTI_MODEL loads models on request, so serve takes no MODEL; to serve a folder of "
        "archives, set TIDEGATE_MODEL_REPOSITORY to it instead.",
    )
    assert refusal("serve", "model", cwd=tmp_path, TIDEGATE_MODEL_REPOSITORY="models") == (
        1,
        "tidegate: error: TIDEGATE_MODEL_REPOSITORY names the models that are served, and MODEL names one; leave one "
        "of them out.",
    )
