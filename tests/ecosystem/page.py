"""A page of the documentation as a program: its commands in one shell, one after the other, and what each step said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.ecosystem.environments import REPOSITORY

LIMIT_S = 800
"""Of a whole page, on a machine that does other things as well."""

_OWN = {".git", ".venv", ".local_cloud", "build", "cdk.out", "cdk.context.json"}
_FOREIGN = ("AWS_", "CDK_", "SM_", "SAGEMAKER_", "TIDEGATE_", "LOCAL_CLOUD_", "PYTHON")
"""How variables begin that a reader's shell may have, and that would change what the commands do."""
_BLOCK = re.compile(
    r"^(?:## (?P<heading>[^\n]+)|```(?P<language>bash|text)\n(?P<text>.*?)^```)$", re.MULTILINE | re.DOTALL
)


@dataclass
class Step:
    """One heading of the page: its commands, and lines that they print, in which `…` stands for anything."""

    heading: str
    commands: list[str] = field(default_factory=list)
    promised: list[str] = field(default_factory=list)
    said: str = ""


def steps(page: Path) -> list[Step]:
    """The steps of a page that have commands: its blocks that are called bash."""
    found: list[Step] = []
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if heading := block["heading"]:
            found.append(Step(heading))
        elif not found:
            continue
        elif block["language"] == "bash":
            found[-1].commands.append(block["text"])
        else:
            found[-1].promised += block["text"].splitlines()
    return [step for step in found if step.commands]


def checkout(directory: Path) -> Path:
    """A checkout of its own: the files are links to ours, and what the commands write stays in it."""
    directory.mkdir()
    for path in REPOSITORY.iterdir():
        if path.name not in _OWN:
            (directory / path.name).symlink_to(path)
    return directory


def taken(directory: Path, page: list[Step], python: str = sys.executable) -> list[Step]:
    """Take the steps in `directory`, a checkout, with `python` first on PATH; return them with what they said."""
    script = "set -euo pipefail\n"
    for number, step in enumerate(page):
        script += f"exec > said-{number} 2>&1\n" + "".join(step.commands)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    tools = os.pathsep.join([str(Path(python).parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    temporary = directory / "tmp"
    temporary.mkdir()
    environment = kept | {"PATH": tools, "TMPDIR": str(temporary)}
    ended = "the page took too long"
    try:
        done = subprocess.run(
            ["bash", "-c", script],  # noqa: S607
            cwd=directory,
            env=environment,
            check=False,
            timeout=LIMIT_S,
        )
        ended = f"exit status {done.returncode}"
    except subprocess.TimeoutExpired:
        pass  # what was said until then tells more
    finally:
        subprocess.run([sys.executable, "-m", "local_cloud", "down"], cwd=directory, env=environment, check=True)
    for number, step in enumerate(page):
        file = directory / f"said-{number}"
        step.said = file.read_text(encoding="utf-8") if file.is_file() else ""
    told = "\n".join(f"== {step.heading}\n{step.said}" for step in page)
    assert ended == "exit status 0", told
    return page
