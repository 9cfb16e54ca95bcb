"""Symbolic links in an archive work here and not on SageMaker, which is said by the name of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.models import DOUBLE
from tests.contract.running import running, start, write_files

REPOSITORY = Path(__file__).parents[2]


def linked(root: Path, kind: str) -> str:
    """A model directory with a link in it; returns how it is named."""
    write_files(root, {"code/inference.py": DOUBLE, "weights/v1/model.pth": "weights"})
    link, target = {
        "file": ("model.pth", "weights/v1/model.pth"),
        "folder": ("weights/latest", "v1"),
        "absolute": ("code/numbers.txt", "/etc/hostname"),
        "dangling": ("code/gone.py", "no/such.py"),
    }[kind]
    (root / link).symlink_to(target)
    return f"{link} (to {target})"


@pytest.mark.parametrize("kind", ["file", "folder", "absolute", "dangling"])
def test_check_refuses_symbolic_links_by_their_names(tmp_path: Path, kind: str) -> None:
    named = linked(tmp_path, kind)
    command = [sys.executable, "-P", "-m", "inference", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=300)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"tidegate: error: {tmp_path} holds symbolic links, which SageMaker does not take in an archive: {named}; pack "
        "the files that they lead to (tar -h)."
    )


def test_serve_warns_of_symbolic_links_once_and_a_multi_model_load_refuses_them(tmp_path: Path) -> None:
    write_files(tmp_path / "one" / "model", {"code/inference.py": DOUBLE, "notes.txt": "x"})
    (tmp_path / "one" / "model" / "latest.txt").symlink_to("notes.txt")
    server = start(tmp_path / "one", {})
    try:
        server.wait_until(lambda: server.ping() == 200, "it serves")
        assert server.post(b"[[1]]").json() == [[2.0]]
        (said,) = [entry for entry in server.entries() if "latest.txt (to notes.txt)" in entry["message"]]
        assert said["level"] == "warning"
    finally:
        server.terminate()
    named = linked(tmp_path / "many", "file")
    with running({}, SAGEMAKER_MULTI_MODEL="true") as server:
        body = json.dumps({"model_name": "linked", "url": str(tmp_path / "many")})
        reply = server.request("POST", "/models", body, {"content-type": "application/json"})
        assert (reply.status, reply.error["code"]) == (500, "model_load_failed")
        assert named in reply.error["message"]
        (tmp_path / "many" / "model.pth").unlink()
        assert server.request("POST", "/models", body, {"content-type": "application/json"}).status == 200
