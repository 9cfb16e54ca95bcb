"""A server without a container has an /opt/ml of its own, or a sentence says that it has not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import started
from tidegate.local_cloud.sagemaker import private_opt_ml

LAUNCHER = (sys.executable, "-I", "-S", private_opt_ml.__file__)
LOOK = """
import json, os
print(json.dumps({
    "model": open("/opt/ml/model/word").read(), "opt": sorted(os.listdir("/opt")), "here": os.getcwd(),
    "process": os.getpid(), "session": os.getsid(0), "user": os.geteuid(),
}))
raise SystemExit(7)
"""
# Runs a command where the kernel refuses every further namespace, as a locked-down machine does.
REFUSED = """
import ctypes, os, sys
from contextlib import suppress
user, group = os.geteuid(), os.getegid()
if ctypes.CDLL(None).unshare(0x10000000) == 0:  # else this machine refuses by itself
    with suppress(OSError):
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            open(f"/proc/self/{name}", "w").write(text)
        for kind in ("mnt", "user"):
            open(f"/proc/sys/user/max_{kind}_namespaces", "w").write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""
START = """
import sys
from pathlib import Path
from tidegate.local_cloud.sagemaker.container import ContainerSpec
from tidegate.local_cloud.sagemaker.process_container import ProcessRunner
base = Path(sys.argv[1])
runner = ProcessRunner(base / "registry", (sys.executable, "-c", sys.argv[2]))
container = runner.start(ContainerSpec(image="", base_dir=base, environment={}, log=base / "log"))
print(container.wait(), container.last_words())
container.stop()
"""


# How util-linux gets on this machine what the launcher is about to ask for.
UNSHARE = {
    "as this user": ("unshare", "--mount", "true"),
    "in a user namespace": ("unshare", "--map-root-user", "--mount", "true"),
}
WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-sys_admin")


def works(*command: str) -> bool:
    found = shutil.which(command[0]) is not None
    return found and subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "word").write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    ("needed", "prefix"),
    [
        (UNSHARE["as this user"], ()),
        (UNSHARE["in a user namespace"], ()),
        # With root's right to mount, no user namespace is asked for.
        ((*WITHOUT_RIGHTS, *UNSHARE["in a user namespace"]), WITHOUT_RIGHTS),
    ],
)
def test_a_command_sees_its_directory_at_opt_ml_and_the_machine_stays_as_it_was(
    base: Path, needed: tuple[str, ...], prefix: tuple[str, ...]
) -> None:
    if not works(*needed):
        pytest.skip(f"this machine refuses: {' '.join(needed)}")
    before = sorted(path.name for path in Path("/opt").iterdir())
    with started(
        [*prefix, *LAUNCHER, str(base), sys.executable, "-c", LOOK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        said, complaint = process.communicate()
    assert complaint == b""
    assert json.loads(said) == {
        "model": "mine",
        "opt": sorted({*before, "ml"}),
        "here": str(base),
        "process": process.pid,
        "session": process.pid,
        "user": os.geteuid(),
    }
    assert process.returncode == 7
    assert sorted(path.name for path in Path("/opt").iterdir()) == before


def test_a_signal_reaches_the_command_itself(base: Path) -> None:
    command = "import signal; print('ready', flush=True); signal.pause()"
    with started([*LAUNCHER, str(base), sys.executable, "-c", command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
    assert process.returncode == -signal.SIGTERM


def test_where_the_kernel_refuses_one_line_says_so_and_the_command_runs(base: Path) -> None:
    command = [sys.executable, "-c", REFUSED, *LAUNCHER, str(base), sys.executable, "-c", "print('runs')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "runs\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{private_opt_ml.NOTE}the kernel refuses a mount namespace (")
    assert line.endswith("or run containers (tidegate cloud up --container)")


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        ("cannot open '/opt/ml/model/x.whl'", True),
        ("file:///opt/ml/model/x.whl is not there", True),
        ("no weights in {}/opt/ml/model", False),
        ("no predict_fn", False),
    ],
)
def test_a_failure_that_names_opt_ml_is_explained_where_the_kernel_refused(
    base: Path, said: str, explained: bool
) -> None:
    line = f"tidegate: error: {said.format(base)}"
    command = f"import sys; print({line!r}); sys.exit(1)"
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, sys.executable, "-c", START, str(base), command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith(f"1 {line}")
    assert (f"({private_opt_ml.NOTE}" in done.stdout) == explained


def test_what_lies_below_opt_ml_itself_is_not_covered() -> None:
    done = subprocess.run(
        [*LAUNCHER, "/opt/ml/somewhere", sys.executable, "-c", "print('runs')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "runs\n"
    assert f"{private_opt_ml.NOTE}/opt/ml/somewhere is below it" in done.stderr
