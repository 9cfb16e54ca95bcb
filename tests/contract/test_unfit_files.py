"""What stands where a file is looked for and is none is refused by its name, and nobody waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.models import DOUBLE
from tests.contract.running import free_port, write_files
from tidegate.inference.layout import unfit as sentence_of

KINDS = {
    "manifest.json": "FIFO",
    "model.pth": "FIFO",
    "model.safetensors.index.json": "FIFO",
    "code/inference.py": "FIFO",
    "code/requirements.txt": "directory",
}


def unfit(root: Path, name: str, kind: str) -> None:
    """A model directory in which `name` is no regular file."""
    write_files(root, {"code/inference.py": DOUBLE})
    (root / name).unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(root / name)
    else:
        (root / name).mkdir()


def run(command: str, model: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-P", "-m", "tidegate", command, str(model)]
    words += ["--json"] if command == "check" else ["--port", str(free_port())]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("command", "name", "kind"),
    [
        *(("check", name, kind) for name, kind in KINDS.items()),
        ("check", "manifest.json", "directory"),
        ("serve", "manifest.json", "FIFO"),
    ],
)
def test_what_is_no_regular_file_is_refused_by_its_name(tmp_path: Path, command: str, name: str, kind: str) -> None:
    unfit(tmp_path, name, kind)
    done = run(command, tmp_path)
    sentence = (
        f"{tmp_path} holds what must be a regular file and is none: {name} (a {kind}); put the file there, or take it "
        "away."
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"tidegate: error: {sentence}"
    if command == "check":
        assert json.loads(done.stdout)["error"] == sentence


def test_the_null_device_and_sockets_are_passed_over(tmp_path: Path) -> None:
    """Containers hide a file by the one, and a script leaves the other."""
    write_files(tmp_path, {"code/inference.py": DOUBLE})
    (tmp_path / ".env").symlink_to(os.devnull)
    assert sentence_of(tmp_path) == ""
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert "zero (a device)" in sentence_of(tmp_path)
