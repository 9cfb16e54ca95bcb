"""The gallery: `make example` lists the examples, runs the one that is named, and says which there are."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples import __main__ as gallery
from tests.examples.demonstrating import demonstrated

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/__init__.py"))


@pytest.fixture
def gallery_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command, as its status and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["examples", *arguments])
        status = gallery.main()
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def names_in(text: str) -> list[str]:
    return re.findall(r"^  (\w+) {2,}\S", text, re.MULTILINE)


def test_without_a_name_every_example_is_listed(gallery_run: Callable[..., tuple[int, str, str]]) -> None:
    """A line each, which says what it shows, and what it needs where that is more than `make env` installs."""
    status, out, _ = gallery_run()
    assert status == 0
    assert names_in(out) == NAMES
    assert len(NAMES) == 9
    for name in ("text", "voice"):
        assert re.search(rf"^  {name} .* Needs the internet: \d+ MB from PyPI\.$", out, re.MULTILINE)


def test_a_wrong_name_is_an_error_that_lists_them(gallery_run: Callable[..., tuple[int, str, str]]) -> None:
    status, out, error = gallery_run("digit")
    assert (status, out) == (2, "")
    assert error.startswith("There is no example 'digit'. There are:")
    assert names_in(error) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_declared_alike(name: str) -> None:
    """One line that says what it shows, a demonstration, and a section and a row of the page."""
    package = importlib.import_module(f"examples.{name}")
    assert re.fullmatch(r"[A-Z][^\n]+\.", (package.__doc__ or "").partition("\n")[0])
    assert isinstance(package.NEEDS, str)
    main = importlib.import_module(f"examples.{name}.demo").main
    assert not inspect.signature(main).parameters
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| \[`{name}`\]\(#[\w-]+\) \| .* \| `make example NAME={name}` \| .* \|$", page, re.MULTILINE)


def test_make_takes_the_name_of_its_command_line_alone() -> None:
    """Some shells have a variable NAME of their own."""
    for words, shown in ((["NAME=paint"], "python -m examples paint"), ([], "python -m examples")):
        done = subprocess.run(
            ["make", "--dry-run", "--assume-old=env", *words, "example"],  # noqa: S607
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "NAME": "my-computer"},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert done.stdout.splitlines()[-1].strip() == shown


def test_the_demonstration_of_stories_reads_one_as_it_is_made(tmp_path: Path) -> None:
    """Streamed, whole, and as a chat."""
    said = demonstrated("stories", temporary=tmp_path)
    assert re.search(r"^     Once upon a time there was a fox.{40,}$", said, re.MULTILINE)
    first, last = re.findall(r"the first character came after ([\d.]+) s, the last after ([\d.]+) s", said)[0]
    assert float(first) <= float(last)
    assert re.search(r"^     the same \d+ characters in one answer$", said, re.MULTILINE)
    assert re.search(r"^     assistant  Once upon a time there was an owl called ", said, re.MULTILINE)


def test_the_demonstration_of_a_table_estimates_patients(tmp_path: Path) -> None:
    """By a form of ONNX, which the server has proved."""
    said = demonstrated("tabular", temporary=tmp_path)
    (error, usual) = re.findall(r"88 patients: off by ([\d.]+) \(.*\); their mean would be off by ([\d.]+)", said)[0]
    assert float(error) < float(usual)
    assert len(re.findall(r"^     p\d{3} +\d+ +\d+$", said, re.MULTILINE)) == 5
