"""local_cloud/README.md in an environment that has `tidegate[local]` and pytest, and nothing of Tidegate's server."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ecosystem.environments import HERE, REPOSITORY
from tests.installing import install
from tests.tidegate.installations import build, copy_of_the_checkout

PAGE = (REPOSITORY / "local_cloud" / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.timeout(1200)  # the environment is a fixture
_FOREIGN = ("AWS_", "CDK_", "SM_", "SAGEMAKER_", "TIDEGATE_", "LOCAL_CLOUD_", "PYTHON", "PYTEST_", "VIRTUAL_ENV")


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of code below `## heading`."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment. What it needs of PyPI is installed once for each list of it; the wheel is new each time."""
    root = tmp_path_factory.mktemp("wheel")
    wheel = build("wheel", copy_of_the_checkout(root / "checkout"), root / "dist")
    (words,) = blocks("Install", "bash")
    assert words == 'make dist\npip install "$(ls dist/tidegate-*.whl)[local]"\n'
    environment = HERE / "local"
    constraints = REPOSITORY / "constraints.txt"
    lists = (constraints.read_bytes(), (REPOSITORY / "pyproject.toml").read_bytes(), sys.version.encode())
    wanted, stamp = hashlib.sha256(b"".join(lists)).hexdigest(), environment / "made-from"
    HERE.mkdir(parents=True, exist_ok=True)
    with (HERE / "local.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = environment / "bin" / "python"
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(environment, ignore_errors=True)
            run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
            install(python, "--constraint", str(constraints), f"tidegate[local] @ {wheel.as_uri()}", "pytest")
            stamp.write_text(wanted)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        run([*pip, "--no-deps", "--no-index", "--force-reinstall", str(wheel)])
    return environment


def run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


def shell(home: Path, directory: Path, commands: str) -> str:
    """What commands print, in a shell with the environment activated and nothing of AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    done = subprocess.run(
        ["bash", "-ec", commands],  # noqa: S607
        cwd=directory,
        env={**kept, "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_extra_is_enough_and_brings_no_torch(home: Path, tmp_path: Path) -> None:
    there = {path.name.partition("-")[0].lower() for path in home.glob("lib/python*/site-packages/*.dist-info")}
    assert {"tidegate", "moto", "boto3", "psutil"} <= there
    assert not {"torch", "uvloop", "pillow", "aws_cdk_lib"} & there
    said = shell(home, tmp_path, "tidegate cloud doctor; ! tidegate serve model; ! tidegate pack model")
    assert "server: Tidegate's own server cannot run here: torch, " in said
    assert "tidegate: error: This command needs torch: pip install 'tidegate[serve]'." in said
    assert (home / "bin" / "tidegate").is_file()
    assert list(home.glob("lib/python*/site-packages/tidegate/local_cloud/README.md"))


def test_the_first_answer_comes_as_the_page_says(home: Path, tmp_path: Path) -> None:
    """`up` with somebody else's server, an endpoint, its answer, what runs, what it wrote, `down`."""
    up, after = blocks("The first answer", "bash")
    (ask,) = blocks("The first answer", "python")
    (answer,) = blocks("The first answer", "output")
    (tmp_path / "ask.py").write_text(ask, encoding="utf-8")
    try:
        said = shell(home, tmp_path, f"{up}\npython ask.py\necho ---\n{after}")
    finally:
        left = shell(home, tmp_path, "tidegate cloud down")
    first, _, rest = said.partition("---\n")
    assert first.endswith(answer), said
    assert re.search(r"^  mine +InService +all +1 +mine", rest, re.MULTILINE), said
    assert "POST /invocations" in rest
    assert "local cloud: was not up" in left
    assert not (tmp_path / ".local_cloud").exists()


def test_the_tests_of_the_page_pass_in_a_project_of_their_own(home: Path, tmp_path: Path) -> None:
    server = blocks("The first answer", "bash")[0].partition("END'\n")[2].partition("END\n")[0]
    (tmp_path / "server.py").write_text(server, encoding="utf-8")
    for block in blocks("In your tests", "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name, block
        (tmp_path / name[1]).write_text(block, encoding="utf-8")
    assert "1 passed" in shell(home, tmp_path, "pytest --override-ini=cache_dir=.cache")
    (printed,) = blocks("In your tests", "output")
    assert shell(home, tmp_path, "python in_a_script.py") == printed


def test_the_page_gives_the_exit_codes_of_the_command(home: Path, tmp_path: Path) -> None:
    told = shell(home, tmp_path, "tidegate cloud --help").partition("exit codes:\n")[2]
    page = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.partition("## Exit codes")[2], re.MULTILINE))
    assert sorted(re.findall(r"^ +(\d+) ", told, re.MULTILINE)) == sorted(page)
