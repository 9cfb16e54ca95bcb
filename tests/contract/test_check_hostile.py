"""`check` of archives and scripts that mean harm, or do some: one sentence, one object, and nothing in between."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.running import wait_until, write_files
from tests.processes import started

GOOD = "def model_fn(model_dir):\n    return 1\n"
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
"""From linux/prctl.h and linux/capability.h: by these root reads what nobody may."""


def without_override() -> None:
    """Let permissions hold for root as they do for others."""
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def check(model: Path) -> tuple[int, dict[str, Any], str]:
    """The exit status, the object that was printed, and what was written to standard error."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tidegate", "check", str(model), "--json"],
        env={key: value for key, value in os.environ.items() if not key.startswith(("SAGEMAKER_", "TIDEGATE_"))},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=without_override,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


REFUSED: dict[str, tuple[dict[str, str], str | None, str]] = {
    "a manifest of many brackets": (
        {"manifest.json": '{"format_version": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}"},
        None,
        "manifest.json is nested too deeply to be a manifest.",
    ),
    "a folder that nobody may look into": ({}, "code", "code/requirements.txt cannot be read: Permission denied."),
    "requirements that nobody may read": (
        {"code/requirements.txt": "six"},
        "code/requirements.txt",
        "code/requirements.txt cannot be read: Permission denied.",
    ),
    "a script that ends the process": (
        {"code/inference.py": "import sys\ndef model_fn(model_dir):\n    sys.exit(0)\n"},
        None,
        "model_fn raised SystemExit: 0.",
    ),
    "a script that ends it at once": (
        {"code/inference.py": "import os\ndef model_fn(model_dir):\n    os._exit(0)\n"},
        None,
        "its worker was gone.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_loaded_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    files, closed, end = REFUSED[case]
    write_files(tmp_path, {"code/inference.py": GOOD} | files)
    if closed is not None:
        (tmp_path / closed).chmod(0)
    try:
        status, found, errors = check(tmp_path)
    finally:
        (tmp_path / "code").chmod(0o755)
    assert status == 1
    assert found["error"].endswith(end), found["error"]
    assert errors.splitlines()[-1] == f"tidegate: error: {found['error']}"


def test_whatever_a_script_prints_the_object_stands_alone(tmp_path: Path) -> None:
    """By Python, by the descriptor, by a child, by a fork that comes back, under a name that colours."""
    script = (
        "import os, sys\nprint('{')\ndef model_fn(model_dir):\n    print('x' * 100_000)\n    os.write(1, b'raw')\n"
        "    os.system('echo child')\n    sys.__stdout__.write('own')\n    if os.fork() == 0:\n        print('fork')\n"
        "    return type('Red\\x1b[31m', (), {})()\n"
    )
    write_files(tmp_path, {"code/inference.py": script, "a\x1b[31m\nb.bin": "", "z" * 200 + ".bin": ""})
    (Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff\xfe.pth"))).write_bytes(b"")
    status, found, errors = check(tmp_path)
    assert status == 0, errors
    assert found["load"]["kind"] == "Red"
    assert "child" in errors
    (empty,) = [each for each in found["warnings"] if each["code"] == "empty_model_file"]
    assert "\x1b" not in empty["message"]
    assert len(empty["message"]) < 400


def test_an_interrupted_check_prints_an_object_too(tmp_path: Path) -> None:
    """Also where user code hangs and lets no exception out; its process ends with the check."""
    script = (
        "import os, time\ndef model_fn(model_dir):\n    open('pid', 'w').write(str(os.getpid()))\n"
        "    while True:\n        try:\n            time.sleep(100)\n        except BaseException:\n            pass\n"
    )
    write_files(tmp_path, {"code/inference.py": script})
    command = [sys.executable, "-P", "-m", "tidegate", "check", str(tmp_path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text(), "the model loads")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert json.loads(printed)["error"] == "The check was stopped by SIGINT."
    wait_until(lambda: not Path("/proc", pid.read_text()).exists(), "the worker is gone")


def test_a_look_that_hangs_ends_by_a_signal_too(tmp_path: Path) -> None:
    """A disk may hang where no check foresees it."""
    write_files(tmp_path, {"code/inference.py": GOOD})
    program = (
        "import sys, threading\nfrom tidegate.inference.frontend.check import report\n"
        "def look(model_dir, settings):\n    (model_dir / 'looking').touch()\n    threading.Event().wait()\n"
        "report.look = look\nfrom tidegate.inference.__main__ import main\nsys.exit(main())\n"
    )
    command = [sys.executable, "-P", "-c", program, "check", str(tmp_path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "looking").exists, "it looks")
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 143
    assert json.loads(printed)["error"] == "The check was stopped by SIGTERM."


def test_a_reader_that_has_seen_enough_changes_no_verdict(tmp_path: Path) -> None:
    write_files(tmp_path, {"code/inference.py": GOOD})
    command = [sys.executable, "-P", "-m", "tidegate", "check", str(tmp_path)]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"checking ")
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert b"Traceback" not in errors
    assert b"BrokenPipe" not in errors
