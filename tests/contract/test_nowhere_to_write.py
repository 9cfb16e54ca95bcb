"""A server that can write no file says so in one line that names TMPDIR, where it has to write one at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.container import pure_wheel
from tests.contract.models import DOUBLE
from tests.contract.running import Server, free_port, wait_until, write_files
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend import temporary
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
from tidegate.inference.settings import Settings

REPOSITORY = Path(__file__).parents[2]


def start_unwritable(base: Path, **environment: str) -> Server:
    """A server that may write no byte into any file, as if every disk were full."""
    port = free_port()
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"ulimit -f 0; exec {sys.executable} -P -m inference serve"],
        cwd=REPOSITORY,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "TIDEGATE_HOST": "127.0.0.1",
            "TIDEGATE_WORKERS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Server(process=process, port=port, model_dir=base / "model", log_path=base / "none")


def with_requirements(root: Path) -> None:
    write_files(root, {"code/inference.py": DOUBLE, "code/requirements.txt": "brought==1.0"})
    pure_wheel.write(root / "code/wheels", "brought", "1.0", "VALUE = 1\n")


def test_requirements_that_can_be_put_nowhere_are_one_line_and_exit_1(tmp_path: Path) -> None:
    with_requirements(tmp_path / "model")
    server = start_unwritable(tmp_path, TMPDIR="/no/such/place")
    said, _ = server.process.communicate(timeout=300)
    last = said.decode().splitlines()[-1]
    assert server.process.returncode == 1
    assert last.startswith("tidegate: error: ")
    assert "'/tmp'" in last, "what was tried"
    assert last.endswith("set TMPDIR to a directory that can be written.")
    assert "Traceback" not in said.decode()


def test_a_load_of_a_multi_model_endpoint_that_has_no_place_is_model_load_failed(tmp_path: Path) -> None:
    with_requirements(tmp_path / "one")
    write_files(tmp_path / "two", {"code/inference.py": DOUBLE})
    server = start_unwritable(tmp_path, SAGEMAKER_MULTI_MODEL="true")
    try:
        wait_until(lambda: server.ping() == 200, "it serves")
        replies = {}
        for name in ("one", "two"):
            body = json.dumps({"model_name": name, "url": str(tmp_path / name)})
            replies[name] = server.request("POST", "/models", body, {"content-type": "application/json"})
        assert (replies["one"].status, replies["one"].error["code"]) == (500, "model_load_failed")
        assert replies["one"].error["message"].endswith("set TMPDIR to a directory that can be written.")
        assert replies["two"].status == 200, "it needs none"
    finally:
        server.process.terminate()
        server.process.communicate(timeout=300)


@pytest.mark.parametrize("why", ["no candidate", "gone meanwhile"])
def test_what_was_tried_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    monkeypatch.setattr("tempfile.tempdir", None if why == "no candidate" else places[0])
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: places)
    with pytest.raises(DeploymentError) as caught:
        temporary.new_folder("It", "x-")
    tried = {
        "no candidate": f"No usable temporary directory found in {places}",
        "gone meanwhile": f"{places[0]}: No such file or directory",
    }[why]
    assert str(caught.value) == f"It cannot be put anywhere ({tried}); set TMPDIR to a directory that can be written."


def test_sessions_without_a_place_name_the_variable_that_gives_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # no /dev/shm
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    with pytest.raises(DeploymentError, match=r"^Sessions cannot be put anywhere .*; set TMPDIR to a directory"):
        StatefulSessions(Settings(stateful_sessions=True))
    (tmp_path / "file").touch()
    with pytest.raises(
        DeploymentError, match=r"^Sessions cannot be kept in .*file \(SAGEMAKER_SESSIONS_PATH\): File ex"
    ):
        StatefulSessions(Settings(stateful_sessions=True, sessions_path=tmp_path / "file"))
