"""`check` says of an archive what `serve` says: the same verdict, by the same sentence, after the same set-up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.container import pure_wheel
from tests.contract.models import DOUBLE
from tests.contract.running import Server, start, wait_until, write_files
from tests.contract.test_start_and_stop import with_example

BRINGS = "import brought\n" + DOUBLE

CASES: dict[str, tuple[dict[str, str | bytes], dict[str, str]]] = {
    "a good one": ({"code/inference.py": DOUBLE}, {}),
    "an example that is answered": (dict(with_example(b"[[2.0, 4.0]]")), {}),
    "an example that is answered otherwise": (dict(with_example(b"[[3.0, 4.0]]")), {}),
    "packages from the archive": ({"code/inference.py": BRINGS, "code/requirements.txt": "brought==1.0"}, {}),
    "a package that is nowhere": ({"code/inference.py": BRINGS, "code/requirements.txt": "brought==2.0"}, {}),
    "requirements that are no text": ({"code/inference.py": DOUBLE, "code/requirements.txt": b"\xff\x00\xff"}, {}),
    "a package that is not asked for": ({"code/inference.py": BRINGS}, {}),
    "nothing in it": ({}, {}),
    "nothing that can be served": ({"readme.txt": "hello"}, {}),
    "a script that is no Python": ({"code/inference.py": "def model_fn(:\n"}, {}),
    "a model_fn that raises": (
        {"code/inference.py": "def model_fn(model_dir):\n    raise OSError('no weights')\n"},
        {},
    ),
    "a model_fn that dies": (
        {"code/inference.py": "import ctypes\ndef model_fn(model_dir):\n    ctypes.string_at(0)\n"},
        {},
    ),
    "a model_fn that is slow": (
        {"code/inference.py": "import time\ndef model_fn(model_dir):\n    time.sleep(600)\n"},
        {"TIDEGATE_LOAD_TIMEOUT_S": "1"},
    ),
    "a program that is not there": ({"code/inference.py": DOUBLE}, {"SAGEMAKER_PROGRAM": "serve.py"}),
    "a variable with a wrong value": ({"code/inference.py": DOUBLE}, {"TIDEGATE_WORKERS": "many"}),
}


@pytest.mark.parametrize("case", CASES)
def test_check_and_serve_agree_on_an_archive_and_say_the_same(tmp_path: Path, case: str) -> None:
    files, environment = CASES[case]
    (tmp_path / "model").mkdir()
    write_files(tmp_path / "model", files)
    if "code/requirements.txt" in files:
        pure_wheel.write(tmp_path / "model/code/wheels", "brought", "1.0", "VALUE = 1\n")
    server = start(tmp_path, environment)
    try:
        checked = check(tmp_path / "model", **environment)
        wait_until(lambda: server.process.poll() is not None or server.ping() == 200, "the verdict", log=server.log)
        refused = server.process.poll() is not None
        assert (checked.returncode, refused) == ((1, True) if checked.returncode else (0, False)), checked.stderr
        if refused:
            assert last_line(checked.stderr) == last_line(server.log())
            assert last_line(checked.stderr).startswith("tidegate: error: ")
            assert "may take traffic" not in checked.stdout
        else:
            assert checked.stdout.splitlines()[-1] == "this model may take traffic"
    finally:
        stop(server)


FACTS = """
import json, os, signal, sys, threading
import torch

def model_fn(model_dir):
    facts = {
        "cwd": os.getcwd(), "path": sys.path[:2], "threads": torch.get_num_threads(),
        "all_threads": len(threading.enumerate()),
        "packages": any("tidegate-packages-" in p for p in sys.path),
        "pythonpath": [p for p in os.environ["PYTHONPATH"].split(os.pathsep) if "tidegate-packages-" not in p],
        "leads_group": os.getpgid(0) == os.getpid(), "signals": [callable(signal.getsignal(n)) for n in (2, 15)],
        "variables": {n: v for n, v in os.environ.items() if n.startswith(("TIDEGATE_", "OMP_", "OPENBLAS_", "MINE"))},
        "imported": sorted(m for m in sys.modules if m.startswith("inference.")), "safe_path": sys.flags.safe_path,
        "stdin": os.readlink("/proc/self/fd/0"),
    }
    with open(os.environ["MINE"], "w") as file:
        json.dump(facts, file)
    return 1
"""


def test_user_code_finds_in_a_check_what_it_finds_in_the_server(tmp_path: Path) -> None:
    write_files(tmp_path / "model", {"code/inference.py": FACTS, "code/requirements.txt": "brought==1.0"})
    pure_wheel.write(tmp_path / "model/code/wheels", "brought", "1.0", "VALUE = 1\n")
    environment = {"TIDEGATE_WORKERS": "2", "OMP_NUM_THREADS": "3", "PYTHONPATH": "/users/own"}
    server = start(tmp_path, {**environment, "MINE": str(tmp_path / "served.json")})
    try:
        checked = check(tmp_path / "model", **environment, MINE=str(tmp_path / "checked.json"))
        assert checked.returncode == 0, checked.stderr
        wait_until(lambda: server.ping() == 200, "the server is ready", log=server.log)
    finally:
        stop(server)
    facts = [json.loads((tmp_path / name).read_bytes()) for name in ("served.json", "checked.json")]
    for found in facts:
        found["variables"].pop("MINE")
        found["variables"].pop("TIDEGATE_HOST", None)  # of the test's server alone
    assert facts[0] == facts[1]
    assert facts[0]["packages"]
    assert facts[0]["threads"] == 3


def test_a_model_of_many_must_fit_into_memory_in_a_check_too(tmp_path: Path) -> None:
    write_files(tmp_path / "model", {"code/inference.py": DOUBLE})
    many = {"SAGEMAKER_MULTI_MODEL": "on", "TIDEGATE_MIN_FREE_MEMORY_BYTES": str(1 << 40)}
    assert check(tmp_path / "model", SAGEMAKER_MULTI_MODEL="on").returncode == 0
    refused = check(tmp_path / "model", **many)
    assert refused.returncode == 1
    assert last_line(refused.stderr) == (
        "tidegate: error: The model 'model' needs about 0 MiB, and 0 MiB are left for models."
    )


def test_a_check_that_is_interrupted_leaves_no_process_and_says_so_by_its_status(tmp_path: Path) -> None:
    script = (
        "import os, time\ndef model_fn(model_dir):\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
    )
    write_files(tmp_path / "model", {"code/inference.py": script})
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "inference", "check", str(tmp_path / "model")], stderr=subprocess.PIPE
    )
    pid = tmp_path / "model" / "pid"
    wait_until(lambda: pid.exists() and pid.read_text(), "the model loads")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    wait_until(lambda: not Path("/proc", pid.read_text()).exists(), "the worker is gone")


def check(model_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("SAGEMAKER_", "TIDEGATE_", "TS_", "OMP_", "OTEL_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "inference", "check", str(model_dir)],
        env={**kept, "TIDEGATE_WORKERS": "1", "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def last_line(text: str) -> str:
    """Without the one thing in a sentence that differs from process to process."""
    return re.sub(r"worker \d+", "worker N", text.strip().splitlines()[-1])


def stop(server: Server) -> None:
    if server.process.poll() is None:
        server.terminate()
