"""The README's own commands, in its order: a new model is trained, checked, packed, served, deployed and asked.

    README_PICTURE=docs/pictures/terminal.svg python -m pytest tests/ecosystem/readme -k picture

makes the picture of the terminal anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest
import torch

from tests.contract.running import free_port
from tests.contract.test_command_line import ENVIRONMENT, serving
from tests.ecosystem.environments import REPOSITORY
from tests.ecosystem.page import Step, checkout, taken
from website import terminal

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of code below `### heading`."""
    section = README.partition(f"\n### {heading}\n")[2].partition("\n##")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found


def run(commands: str, directory: Path) -> str:
    """What `commands` print; they are those of a reader whose PATH has this environment first."""
    done = subprocess.run(
        ["bash", "-ec", commands],  # noqa: S607
        cwd=directory,
        env={**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A checkout with `model/` and `model.tar.gz`."""

    directory: Path

    def probabilities(self, rows: list[list[float]]) -> list[list[float]]:
        """What model.pth makes of `rows`, in torch."""
        weights = torch.load(self.directory / "model" / "model.pth")
        found: list[list[float]] = (torch.tensor(rows) @ weights["weight"].T + weights["bias"]).softmax(dim=1).tolist()
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = checkout(tmp_path_factory.mktemp("readme") / "checkout")
    train, inference = blocks("Write a new model", "python")
    (directory / "train.py").write_text(train, encoding="utf-8")
    (directory / "code").mkdir()
    (directory / "code" / "inference.py").write_text(inference, encoding="utf-8")
    build, _ = blocks("Write a new model", "bash")
    commands, serve = build.strip().rsplit("\n", 1)
    assert serve == "tidegate serve model.tar.gz"
    run(commands, directory)
    return Made(directory=directory)


def test_a_new_model_is_saved_checked_packed_and_served(made: Made) -> None:
    """The answer that curl prints is that of the saved weights."""
    _, ask = blocks("Write a new model", "bash")
    (rows,) = re.findall(r"-d '(.*)'", ask)
    port = free_port()
    with serving("model.tar.gz", f"--port={port}", cwd=made.directory, port=port):
        asked = ask.replace("localhost:8080", f"127.0.0.1:{port}").replace("curl", "curl --silent --fail")
        said = run(asked, made.directory)
    (expected,) = made.probabilities(json.loads(rows))
    assert json.loads(said) == [pytest.approx(expected, rel=1e-4)]


def words(lines: list[str]) -> str:
    """Their words, with a sign for each number and its unit: those differ from machine to machine."""
    return re.sub(r"-?\d[\d,.e+-]*( (?:B|kB|MB|s|ms|µs)\b)?", "#", " ".join(" ".join(lines).split()))


def test_the_picture_shows_what_the_commands_say(made: Made) -> None:
    check, serve = (
        line.partition(" #")[0].strip() for line in blocks("Bring your model.tar.gz", "bash")[0].splitlines()
    )
    _, ask = blocks("Write a new model", "bash")
    port = free_port()
    environment = {
        **ENVIRONMENT,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    checked = terminal.said(check, made.directory, environment)
    with terminal.saying(serve, made.directory, environment, until=r"ready \(workers") as served:
        asked = terminal.said(
            ask.strip().replace("localhost:8080", f"127.0.0.1:{port}").replace("curl", "curl -s"),
            made.directory,
            environment,
        )
    assert served.lines[-1].split(" ", 1)[1].startswith("ready (workers")

    def anywhere(part: terminal.Said) -> terminal.Said:
        return terminal.Said(
            part.command, tuple(re.sub(r"/\S*/tidegate-model-\w+", "/tmp/mine", x) for x in part.lines)
        )

    session = [anywhere(part) for part in (checked, served, terminal.Said(ask.strip(), asked.lines))]
    if place := os.environ.get("README_PICTURE"):
        shown = [
            terminal.Said(part.command, tuple(line.replace(str(port), "8080") for line in part.lines))
            for part in session
        ]
        picture = terminal.drawn(shown, "Tidegate at a terminal", "An archive is checked and served, and answers.")
        Path(place).write_text(picture, encoding="utf-8")

    picture = (REPOSITORY / "docs" / "pictures" / "terminal.svg").read_text(encoding="utf-8")
    rows = [unescape(re.sub(r"<[^>]+>", "", row)) for row in re.findall(r"<text[^>]*>(.*)</text>", picture)]
    for part in (session[0], session[2]):  # which lines of the second worker come before "ready" is a matter of luck
        drawn = words(rows[rows.index(f"$ {part.command}") :])
        assert drawn.startswith(words([f"$ {part.command}", *part.lines]))


def test_the_local_cloud_deploys_answers_and_runs_the_batch(made: Made) -> None:
    (commands,) = blocks("Deploy to your laptop", "bash")
    (step,) = taken(made.directory, [Step("Deploy to your laptop", [commands])])

    (row,) = json.loads((made.directory / "request.json").read_text(encoding="utf-8"))
    (answer,) = re.findall(r"^\[\[.*\]\]", step.said, re.MULTILINE)
    assert json.loads(answer) == [pytest.approx(made.probabilities([row])[0], rel=1e-4)]

    (result,) = (made.directory / "results").iterdir()
    records, answers = (
        [[float(cell) for cell in line.split(",")] for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (made.directory / "rows.csv", result)
    )
    assert len(answers) == len(records) > 1
    for found, expected in zip(answers, made.probabilities(records), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_archive_that_exists_is_checked_by_the_command_on_the_page(made: Made) -> None:
    check, serve = blocks("Bring your model.tar.gz", "bash")[0].splitlines()
    assert serve.startswith("tidegate serve model.tar.gz ")
    run(check, made.directory)
