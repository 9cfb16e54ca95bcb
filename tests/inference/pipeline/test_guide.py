"""The examples of docs/guides/stages.md do what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from tests.inference.pipeline.guide import PAGE, examples, handler
from tidegate.pipeline import Stage


@pytest.mark.parametrize("number", range(len(examples())))
def test_an_example_prints_what_stands_below_it(number: int, tmp_path: Path) -> None:
    """As a script of its own, as a reader would try it."""
    program, output = examples()[number]
    script = tmp_path / "example.py"
    script.write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == output, done.stderr


def test_there_are_examples_alone_with_errors_with_processes_and_on_a_loop() -> None:
    """The pattern finds them all, and the handler, which is tested where a server is."""
    assert len(examples()) == 4
    assert "def predict_fn" in handler()
    assert PAGE.count("```python\n") == 5


def test_every_option_of_a_stage_is_on_the_page() -> None:
    """In the table, by its name, with its default."""
    listed = re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)
    assert set(listed) == {field.name for field in fields(Stage)} - {"function"}
