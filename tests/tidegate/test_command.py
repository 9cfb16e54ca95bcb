"""The command line, as it is installed, in folders that hold a user's `inference.py`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("tidegate", "inference", "pyproject.toml", "setup.py", "README.md", "LICENSE")

USERS_OWN = """
def model_fn(model_dir):
    return "a model"

print("the user's script runs")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A virtual environment of its own in which Tidegate is installed."""

    home: Path

    def run(self, *words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "TIDEGATE_", "SAGEMAKER_", "TS_"))
        }
        program, *arguments = words
        command = [str(self.home / "bin" / program), *arguments]
        return subprocess.run(
            command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False, timeout=100
        )


SOURCE_ARCHIVE = "import setuptools.build_meta as build, sys; build.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module", params=["source archive", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Installed by pip from a wheel, made of what the source archive holds, or editable as `make env` does it."""
    root = tmp_path_factory.mktemp("installed")
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / "sources" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (root / "sources").mkdir(exist_ok=True)
            shutil.copy(source, root / "sources" / name)
    run([sys.executable, "-m", "venv", "--without-pip", str(root / "home")])
    (site,) = (root / "home").glob("lib/python*/site-packages")
    # torch and what else the server needs come from the environment of this test, which is not installed into.
    below = [place for place in sys.path if place.endswith(("site-packages", "dist-packages"))]
    (site / "of_the_test.pth").write_text("\n".join(below))
    pip = [sys.executable, "-m", "pip", "--python", str(root / "home" / "bin" / "python")]
    what = ["--editable", str(root / "sources")]
    if request.param == "source archive":
        run([sys.executable, "-c", SOURCE_ARCHIVE, str(root)], cwd=root / "sources")
        what = [str(path) for path in root.glob("*.tar.gz")]
    run([*pip, "install", "--quiet", "--no-cache-dir", "--no-index", "--no-deps", "--no-build-isolation", *what])
    return Installation(home=root / "home")


def run(command: list[str], cwd: Path | None = None) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    environment = kept | {"PIP_CONFIG_FILE": os.devnull}  # not this machine's
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A model directory with the script in `code/` and, as flat archives have it, beside `code/`."""
    for folder in ("", "code"):
        (tmp_path / "model" / folder).mkdir(exist_ok=True)
        (tmp_path / "model" / folder / "inference.py").write_text(USERS_OWN)
    return tmp_path / "model"


@pytest.mark.parametrize("place", ["code", "."])
@pytest.mark.parametrize(
    "words",
    [
        ["tidegate"],
        ["python", "-m", "tidegate"],
        ["python", "-m", "inference"],
        ["python", "-minference"],
        ["python", "-um", "inference"],
        ["python", "-W", "error", "-X", "utf8", "-m", "inference"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_command_is_ours_whatever_the_working_directory_and_pythonpath_hold(
    installed: Installation, archive: Path, words: list[str], command: str, place: str
) -> None:
    """By the sentence about a directory that is not there, which comes before torch is imported."""
    for pythonpath in ({}, {"PYTHONPATH": "."}, {"PYTHONPATH": f"/nowhere:{archive / 'code'}"}):
        done = installed.run(*words, command, "nowhere", cwd=archive / place, **pythonpath)
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr
            == f"tidegate: error: The model directory {archive / place}/nowhere does not exist.\n".replace("/./", "/")
        )


def test_the_command_says_its_version(installed: Installation, archive: Path) -> None:
    done = installed.run("tidegate", "--version", cwd=archive)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tidegate {metadata.version('tidegate')}\n", "")


@pytest.mark.parametrize("words", [["tidegate"], ["python", "-m", "inference"]], ids=" ".join)
def test_a_check_from_inside_code_is_a_check(installed: Installation, archive: Path, words: list[str]) -> None:
    good = installed.run(*words, "check", "..", cwd=archive / "code")
    assert good.returncode == 0, good.stderr
    assert good.stdout.splitlines()[-1] == "this model may take traffic"
    (archive / "code" / "inference.py").write_text("def model_fn(model_dir):\n    raise OSError('no weights')\n")
    bad = installed.run(*words, "check", "..", cwd=archive / "code")
    assert bad.returncode == 1
    assert bad.stderr.splitlines()[-1] == (
        f"tidegate: error: {archive}/code/inference.py, line 2: model_fn raised OSError: no weights."
    )


@pytest.mark.parametrize(
    "words", [["-m", "inference"], ["-m", "inference", "train"], ["inference.py", "check"], ["-c", "import inference"]]
)
def test_a_users_own_script_is_still_run_by_every_other_word(
    installed: Installation, archive: Path, words: list[str]
) -> None:
    done = installed.run("python", *words, cwd=archive)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the user's script runs\n", "")


def test_a_package_that_can_be_run_is_what_is_meant_in_its_folder(installed: Installation, tmp_path: Path) -> None:
    """Such as another checkout of Tidegate."""
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "__init__.py").touch()
    (tmp_path / "inference" / "__main__.py").write_text("import sys; print('another checkout', sys.argv[1:])")
    done = installed.run("python", "-m", "inference", "check", "model", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "another checkout ['check', 'model']\n")


def test_an_interpreter_without_arguments_starts_as_before(installed: Installation, tmp_path: Path) -> None:
    """What site reads at each start says nothing, imports nothing and raises nothing, also where there is no `argv`."""
    (start,) = installed.home.glob("lib/python*/site-packages/tidegate.pth")
    program = f"import sys; del sys.argv; exec(open({str(start)!r}).read()); print('tidegate' in sys.modules)"
    done = installed.run("python", "-c", program, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    for words in (["-m", "json.tool", "--help"], ["-m", "compileall", "check"]):
        assert "import 'inference'" not in installed.run("python", "-v", *words, cwd=tmp_path).stderr
