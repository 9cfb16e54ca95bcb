"""docs/installation.md: the extras are those of the package, and its commands take what it says."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest

from tests.claims import REPOSITORY
from tidegate import __main__ as tidegate

PAGE = (REPOSITORY / "docs" / "installation.md").read_text(encoding="utf-8")
FOR_OURSELVES = {"dev", "examples"}
"""Extras of a clone."""


def rows() -> dict[str, tuple[str, str]]:
    """What each extra is for and brings, by its name."""
    found = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    return {name: (purpose, brings) for name, purpose, brings in found}


def test_the_table_has_every_extra_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert rows().keys() == project["optional-dependencies"].keys() - FOR_OURSELVES
    for name, (_, brings) in rows().items():
        listed = " ".join(project["optional-dependencies"][name]).lower()
        for package in re.findall(
            r"[A-Za-z][\w-]+-[\w-]+|\b(?:torch|numpy|moto|boto3|tqdm|pyarrow|onnx\w*|psutil)\b", brings
        ):
            assert package.lower() in listed, f"{name} does not bring {package}"


def test_each_command_stands_with_the_extra_that_it_asks_for() -> None:
    for extra, (purpose, _) in rows().items():
        for name in re.findall(r"`(?:tidegate )?(\w+)`", purpose.partition("; with")[0]):
            if name in tidegate.COMMANDS:
                assert tidegate.COMMANDS[name].extra == extra, name


def test_the_commands_that_print_json_are_those_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = re.findall(r"^\* \*\*`--json`\*\* .*: (.+)\.$", PAGE, re.MULTILINE)
    for command in re.findall(r"`([\w ]+)`", line):
        monkeypatch.setattr("sys.argv", ["tidegate", *shlex.split(command), "--help"])
        with pytest.raises(SystemExit):
            tidegate.run()
        assert "--json" in capsys.readouterr().out, command
