"""requirements.txt of a training script, with pip itself and wheels that lie beside it; needs no docker."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from container.entrypoint import training_requirements
from container.entrypoint.training_failure import TrainingFailed
from tests.container import pure_wheel
from tests.inference import package_sources

LOOK = "import httptools, doubling, pytest; print(httptools.__file__, doubling.FACTOR, httptools.VERSION)"


@pytest.fixture
def code_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)  # not this machine's
    code = tmp_path / "code"
    code.mkdir()
    return code


def test_what_a_job_brings_is_its_own_and_what_it_replaces_is_told_and_stays(
    code_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = version("httptools")
    pure_wheel.write(code_dir / "wheels", "httptools", "0.0.1", "VERSION = 1\n")
    pure_wheel.write(code_dir / "wheels", "doubling", "1.0", "FACTOR = 2\n")
    (code_dir / "requirements.txt").write_text("httptools==0.0.1\ndoubling\ntorch\n")
    environment = dict(os.environ)

    interpreter = training_requirements.install(code_dir, environment)

    told = capsys.readouterr()
    assert f"brings httptools 0.0.1 in the place of {installed}, for this job alone" in told.err
    assert "doubling" not in told.err
    assert "Successfully installed doubling-1.0 httptools-0.0.1" in told.out
    seen = subprocess.run([interpreter, "-c", LOOK], capture_output=True, text=True, check=True).stdout.split()
    assert Path(seen[0]).is_relative_to(interpreter.parents[1])
    assert seen[1:] == ["2", "1"]
    ours = "import httptools, importlib.metadata as m; print(m.version('httptools'), hasattr(httptools, 'VERSION'))"
    unchanged = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True, check=True).stdout
    assert unchanged.split() == [installed, "False"]

    assert environment["PATH"].split(":")[0] == str(interpreter.parent)
    torchrun = interpreter.parent / "torchrun"
    assert torchrun.read_text().startswith(f"#!{interpreter}\n")
    assert os.access(torchrun, os.X_OK)


def test_torch_stays_and_who_wants_another_is_told(code_dir: Path) -> None:
    pure_wheel.write(code_dir / "wheels", "torch", "9.9", "")
    (code_dir / "requirements.txt").write_text("torch==9.9\n")
    stays = version("torch").replace("+", r"\+")
    with pytest.raises(
        TrainingFailed, match=rf"wants torch==9\.9, but torch stays at the installed version, {stays}\.$"
    ):
        training_requirements.install(code_dir, dict(os.environ))


def test_without_requirements_nothing_is_made(code_dir: Path) -> None:
    environment = {"PATH": "/bin"}
    assert training_requirements.install(code_dir, environment) == Path(sys.executable)
    assert environment == {"PATH": "/bin"}
    assert list(code_dir.parent.iterdir()) == [code_dir]


def test_a_git_reference_of_a_job_is_what_is_installed_and_its_checkout_is_the_jobs_own(code_dir: Path) -> None:
    origin = package_sources.repository(code_dir.parent / "origin")
    before = set(Path(sys.prefix).iterdir())
    (code_dir / "requirements.txt").write_text(
        f"git+file://{origin}@v1#subdirectory=python\n-e git+file://{origin}@v1#egg=tg_flat\n"
    )
    interpreter = training_requirements.install(code_dir, dict(os.environ))
    look = "import tg_deep, tg_flat; print(tg_deep.ORIGIN, tg_flat.ORIGIN, tg_flat.__file__, sep='|')"
    seen = subprocess.run([interpreter, "-c", look], capture_output=True, text=True, check=True).stdout.split("|")
    assert seen[:2] == ["commit 1", "commit 1"]
    assert Path(seen[2]).is_relative_to(interpreter.parents[1] / "src")
    assert set(Path(sys.prefix).iterdir()) == before


def test_a_constraint_of_the_machine_does_not_hide_which_torch_a_job_wants(
    code_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code_dir.parent / "constraints.txt").write_text("torch<=99\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(code_dir.parent / "constraints.txt"))
    pure_wheel.write(code_dir / "wheels", "torch", "9.9", "")
    (code_dir / "requirements.txt").write_text("torch==9.9\n")
    with pytest.raises(TrainingFailed, match=r"wants torch==9\.9, but torch stays at the installed version"):
        training_requirements.install(code_dir, dict(os.environ))


def test_requirements_of_a_job_that_are_no_text_are_told_with_the_place(code_dir: Path) -> None:
    (code_dir / "requirements.txt").write_bytes(b"numpy  # caf\xe9\n")
    with pytest.raises(TrainingFailed, match=r"requirements\.txt is not UTF-8 text: byte 12 cannot be decoded\.$"):
        training_requirements.install(code_dir, dict(os.environ))
