"""`tidegate init`: the project is written whole or not at all, and does what its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.claims import REPOSITORY
from tidegate.starter.command import NotWritten, write

BIN = Path(sys.executable).parent


def init(folder: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "tidegate", "init", folder], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_commands_of_the_project_s_readme_train_test_check_deploy_and_ask(tmp_path: Path) -> None:
    done = init("two-moons", tmp_path)
    assert done.returncode == 0, done.stderr
    project = tmp_path / "two-moons"
    written = [str(path.relative_to(tmp_path)) for path in project.rglob("*") if path.is_file()]
    assert sorted(done.stdout.splitlines()) == sorted(written)
    sections = re.split(r"^## ", (project / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    commands = {part.partition("\n")[0]: re.findall(r"^```sh\n(.*?)^```$", part, re.M | re.S) for part in sections}
    (every_day,), (locally,) = commands["Every day"], commands["A deployment without an account"]
    run = subprocess.run(
        ["/bin/bash", "-ec", f"{every_day}\ntrap 'tidegate cloud down' EXIT\n{locally}"],
        cwd=project,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert float(re.search(r"accuracy: ([\d.]+)", run.stdout)[1]) > 0.9  # type: ignore[index]
    assert "2 passed" in run.stdout
    assert "this model may take traffic" in run.stdout
    assert re.search(r'\[\{"label": "upper", .*\{"label": "lower", ', run.stdout)


@pytest.mark.parametrize("name", ["Churn", "9lives", "a--b", "a-", "a" * 17, "ä", "a b", "a_b"])
def test_a_name_that_the_stacks_could_not_have_is_refused_by_the_rule(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotWritten, match="cannot be a project's name: use at most 16"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    for name, reason in (("mine", "is there already, and holds something"), ("file", "is a file")):
        done = init(name, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("tidegate: error: ")
        assert reason in done.stderr
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "mine", "mine/notes.txt"]


def test_an_empty_folder_and_one_that_is_not_there_yet_are_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert write(tmp_path / "empty") == write(tmp_path / "far" / "away")
    for folder in (tmp_path / "empty", tmp_path / "far" / "away"):
        assert (folder / ".gitignore").is_file()
        assert f'prefix = "{folder.name}"' in (folder / "stages" / "dev.toml").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "far"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name, reason in (("file/churn", "cannot be written: "), ("link", "is a file, or a link that leads nowhere")):
        done = init(name, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"tidegate: error: {name} {reason}")
        assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_project_may_be_made_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "churn").mkdir()
    monkeypatch.chdir(tmp_path / "churn")
    assert "train.py" in write(Path())
    assert (tmp_path / "churn" / "train.py").is_file()


def test_the_project_is_synthesised_with_the_flags_that_our_stacks_are_tested_with(tmp_path: Path) -> None:
    write(tmp_path / "churn")
    assert (tmp_path / "churn" / "cdk.json").read_bytes() == (REPOSITORY / "cdk.json").read_bytes()
