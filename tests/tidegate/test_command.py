"""The command line, as it is installed, in folders that hold a user's `inference.py`."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tests.tidegate.installations import Installation

USERS_OWN = """
def model_fn(model_dir):
    return "a model"

print("the user's script runs")
"""


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
    """Such as another checkout of Tidegate, with all that it imports."""
    for name in ("inference", "tidegate"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "inference" / "__main__.py").write_text(
        "import tidegate.it, sys; print(tidegate.it.NAME, sys.argv[1:])"
    )
    (tmp_path / "tidegate" / "it.py").write_text("NAME = 'another checkout'\n")
    done = installed.run("python", "-m", "inference", "check", "model", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "another checkout ['check', 'model']\n")


def test_an_interpreter_without_arguments_starts_as_before(installed: Installation, tmp_path: Path) -> None:
    """What site reads at each start says nothing, imports nothing and raises nothing, also where there is no `argv`."""
    (start,) = installed.home.glob("lib/python*/site-packages/tidegate.pth")
    program = f"import sys; del sys.argv; exec(open({str(start)!r}).read()); print('tidegate' in sys.modules)"
    done = installed.run("python", "-c", program, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    for words in (["-m", "json.tool", "--help"], ["-m", "compileall", "check"]):
        assert "import 'tidegate.inference" not in installed.run("python", "-v", *words, cwd=tmp_path).stderr


def test_the_commands_of_training_hooks_are_there_too(installed: Installation, tmp_path: Path) -> None:
    done = installed.run("tidegate", "list", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"tidegate: error: there is no repository {tmp_path}/nowhere\n"
    assert "publish" in installed.run("tidegate", "--help", cwd=tmp_path).stdout


def test_one_command_leads_to_the_local_cloud_and_to_the_doctor(installed: Installation, tmp_path: Path) -> None:
    for words, usage in (
        (["cloud", "--help"], "usage: tidegate cloud [-h] {up,down,status,logs,doctor}"),
        (["cloud", "up", "--help"], "usage: tidegate cloud up "),
        (["doctor", "--help"], "usage: tidegate doctor "),
    ):
        done = installed.run("tidegate", *words, cwd=tmp_path)
        assert done.stdout.startswith(usage), done.stderr
    status = installed.run("tidegate", "cloud", "status", cwd=tmp_path, LOCAL_CLOUD_DIR=str(tmp_path / "none"))
    assert (status.returncode, status.stdout) == (1, "")
    assert status.stderr == f"local cloud: not up in {tmp_path / 'none'}\n"
    wrong = installed.run("tidegate", "cloud", "sideways", cwd=tmp_path)
    assert wrong.returncode == 2


FISH = shutil.which("fish")
ASK_BASH = """
eval "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_tidegate
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_a_shell_completes_commands_and_options(from_a_wheel: Installation, tmp_path: Path) -> None:
    said = from_a_wheel.run("tidegate", "completion", "bash", cwd=tmp_path)
    assert said.returncode == 0, said.stderr

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", ASK_BASH, "bash", said.stdout, *words],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert {"serve", "check", "pack", "cloud", "doctor", "--version"} <= set(completed("tidegate", ""))
    assert completed("tidegate", "cl") == ["cloud"]
    assert completed("tidegate", "cloud", "") == ["up", "down", "status", "logs", "doctor", "--help"]
    assert completed("tidegate", "cloud", "up", "--ser") == ["--server"]
    assert completed("tidegate", "serve", "model/", "--po") == ["--port"]
    assert completed("tidegate", "serve", "mod") == [], "files are the shell's own to complete"
    assert FISH is not None or not os.environ.get("REQUIRE_FISH"), "CI installs fish"
    if FISH is not None:
        script = from_a_wheel.run("tidegate", "completion", "fish", cwd=tmp_path).stdout

        (tmp_path / "empty").mkdir()

        def completed_by_fish(line: str) -> list[str]:
            done = subprocess.run(
                [FISH, "--no-config", "-c", f"{script}\ncomplete --do-complete '{line}'"],
                cwd=tmp_path / "empty",
                env={"HOME": str(tmp_path), "PATH": os.defpath},
                capture_output=True,
                text=True,
                check=True,
            )
            return sorted(done.stdout.split())

        for line in ("tidegate ", "tidegate cl", "tidegate cloud ", "tidegate cloud up --ser", "tidegate serve m --po"):
            in_bash = completed(*line.split(" "))
            in_fish = completed_by_fish(line)
            assert in_fish == sorted(in_bash), line
    zsh = from_a_wheel.run("tidegate", "completion", "zsh", cwd=tmp_path)
    assert zsh.stdout.endswith(said.stdout)
    assert zsh.stdout.startswith("autoload -U +X bashcompinit")
