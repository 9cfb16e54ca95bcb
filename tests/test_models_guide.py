"""docs/guides/models.md claims nothing without a test, names only tests that exist, and only settings that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "guides" / "models.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


@cache
def functions_in(path: str) -> frozenset[str]:
    """The test functions that a file defines, those of classes as Class::function, and state machines by their name."""
    if not (REPOSITORY / path).is_file():
        return frozenset()
    found: set[str] = set()
    for node in ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".TestCase"):
            found |= {ast.unparse(target) for target in node.targets}
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + each.name for each in functions if isinstance(each, ast.FunctionDef)}
    return frozenset(found)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, whose last column is `shown by`; without the table's own first lines."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line.strip("| ").split(" |") for line in section.splitlines() if line.startswith("|")]
    assert table[0][-1].strip() == "shown by"
    return table[2:]


@pytest.mark.parametrize(("heading", "least"), [("Beside others", 12), ("What Cortex promised", 20)])
def test_every_row_names_a_test_or_says_that_it_is_not_here(heading: str, least: int) -> None:
    claims = rows(heading)
    assert len(claims) >= least
    assert [row for row in claims if not NAMED.search(row[-1]) and "(#not-here)" not in row[1]] == []


def test_every_named_test_exists() -> None:
    named = NAMED.findall(PAGE)
    assert [f"{path}::{name}" for path, name in named if name not in functions_in(path)] == []


def test_every_variable_on_the_page_is_a_setting() -> None:
    settings = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    variables = set(re.findall(r"\b(?:TIDEGATE|SAGEMAKER)_[A-Z_]+\b", PAGE))
    assert len(variables) > 10
    assert [name for name in variables if name not in settings] == []


def test_every_series_on_the_page_is_one_of_the_server() -> None:
    page = (REPOSITORY / "docs" / "observability.md").read_text(encoding="utf-8")
    series = set(re.findall(r"\btidegate_[a-z_]+\b", PAGE))
    assert series
    assert [name for name in series if name not in page] == []


def test_every_note_of_a_source_is_there_and_used() -> None:
    table, _, notes = PAGE.partition("\n## Beside others\n")[2].partition("\n[1] ")
    given = {int(number) for number in re.findall(r"\[(\d+)\] ", "[1] " + notes.partition("\n## ")[0])}
    used = {int(number) for number in re.findall(r"\[(\d+)\]", table)}
    assert given == used == set(range(1, max(used) + 1))
