"""docs/guides/check.md lists every warning that there is, and none besides."""

from __future__ import annotations

import re
from pathlib import Path

from tests.claims import page

PAGE = page("guides/check.md")
INFERENCE = Path(__file__).parents[3] / "inference"


def test_every_warning_is_on_the_page_and_every_one_on_the_page_exists() -> None:
    sources = [*(INFERENCE / "frontend/check").glob("*.py"), *(INFERENCE / "worker").rglob("*.py")]
    there = {code for path in sources for code in re.findall(r'code="(\w+)"', path.read_text())}
    table = PAGE.partition("\n## Warnings\n")[2]
    told = {code for row in re.findall(r"^\| (`.*?) \|", table, re.M) for code in re.findall(r"`(\w+)`", row)}
    assert len(told) > 20
    assert told == there
