"""What the documentation says about settings is what the code does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tidegate.inference.settings import describe

SETTINGS = Path(__file__).parents[1] / "docs" / "settings.md"


def row(names: tuple[str, ...], default: str, meaning: str) -> str:
    """The table row of one setting: its names in order of precedence, its default, its meaning."""
    variables = "<br>".join(f"`{name}`" for name in names)
    return f"| {variables} | {f'`{default}`' if default else 'unset'} | {meaning.replace('|', chr(92) + '|')} |"


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    """Row for row: every name with its precedence, its default and its meaning."""
    wanted = [row(*setting) for setting in describe()]
    written = [line for line in SETTINGS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert written == wanted, "docs/settings.md should have these rows:\n" + "\n".join(wanted)


ROOT = SETTINGS.parents[1]
FOLDERS = ("tidegate", "inference", "training_hooks", "infra", "local_cloud", "client", "container", "website")
NAMED_AS_A_WHOLE = ("inference/worker/compat/", "tidegate/starter/template/")
"""Modules that bear the names that AWS's have and old scripts import, and a project of its own."""


def named_in_the_table() -> list[str]:
    """What the tables "Where is …?" name, as paths below the root: a heading may name the folder of its table."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("\n## Where is …?\n")[2].partition("\n## ")[0]
    named, folder = [], ""
    for line in section.splitlines():
        if heading := re.fullmatch(r"### `(.+/)`", line):
            folder = heading[1]
        elif line.startswith("| "):
            named += [folder + name for name in re.findall(r"`([\w/]+(?:\.py|/))`", line.split(" | ", 1)[-1])]
    return named


def test_the_table_where_is_what_names_every_module_and_none_that_is_gone() -> None:
    """Packages' own `__init__.py` aside: they only say what the folder is."""
    modules = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py" and not str(path.relative_to(ROOT)).startswith(NAMED_AS_A_WHOLE)
    }
    named = named_in_the_table()
    missing, gone = modules - set(named), set(named) - modules - set(NAMED_AS_A_WHOLE)
    assert not missing, "docs/architecture.md should say where these are found:\n" + "\n".join(sorted(missing))
    assert not gone, "docs/architecture.md names what is not there:\n" + "\n".join(sorted(gone))


def test_make_help_names_targets_that_there_are_and_the_one_of_the_environment_alone() -> None:
    alone = {"PATH": os.environ["PATH"]}  # not the flags of a make that runs the tests
    said = subprocess.run(
        [shutil.which("make") or "make", "help"],
        cwd=ROOT,
        env=alone,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    named = set(re.findall(r"^make ([\w-]+)", said.stdout, re.MULTILINE))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"env", "demo", "help"} <= named <= targets
