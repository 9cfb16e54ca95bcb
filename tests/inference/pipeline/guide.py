"""The examples of docs/guides/stages.md."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[3] / "docs" / "guides" / "stages.md").read_text(encoding="utf-8")


def examples() -> list[tuple[str, str]]:
    """Each program with the output that the page gives it."""
    return re.findall(r"^```python\n((?:(?!```).*\n)*)```\n\n```text\n((?:(?!```).*\n)*)```", PAGE, re.MULTILINE)


def handler() -> str:
    """The script of an archive."""
    return re.findall(r"^```python\n(# code/inference\.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]


def lines() -> tuple[str, str]:
    """What a batch transform's input holds, and its output."""
    section = PAGE.partition("\n## In batch transform\n")[2]
    given, got = re.findall(r"^```text\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[:2]
    return given, got
