"""The pages about compatibility and errors say what is so."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from tidegate.inference import errors

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"


def cells(page: Path, since: str = "") -> list[list[str]]:
    """The rows of a page's tables from a heading on, without their heads."""
    text = page.read_text(encoding="utf-8")
    assert since in text
    lines = [line for line in text[text.index(since) :].splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    heads = {number - 1 for number, row in enumerate(rows) if row[0] == "---"}
    return [row for number, row in enumerate(rows) if number not in heads and row[0] != "---"]


CLAUSES = cells(PAGE, since="\n## Where code is found\n")
"""What stands before them is their sum for somebody who has an archive."""


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", CLAUSES, ids=[row[0][:60] for row in CLAUSES])
def test_a_clause_has_a_verdict_and_what_is_fixed_a_test(row: list[str]) -> None:
    verdict, reason = row[1], " | ".join(row[2:]).strip(" |")
    assert verdict in {"same", "fixed", "not offered"}
    if verdict == "not offered":
        assert reason, "say why"
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(\w+)`", reason)
    assert named or verdict != "fixed", "name the test"
    for path, function in named:
        assert function in functions(ROOT / path), f"{path} has no {function}"


def test_there_is_a_row_for_every_part_of_the_contract() -> None:
    assert len(CLAUSES) > 60
    assert {row[1] for row in CLAUSES} == {"same", "fixed", "not offered"}


def test_the_page_of_errors_has_the_whole_family_and_nothing_else() -> None:
    """Each class with its status and code, once, and with words for when it comes and what to do."""
    family = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.RequestError)]
    wanted = sorted(
        ("400 to 599" if each is errors.RaisedByHandler else str(each.status), f"`{each.code}`") for each in family
    )
    rows = cells(ROOT / "docs" / "errors.md")
    assert sorted((row[0], row[1]) for row in rows) == wanted
    assert all(len(row) == 4 and all(row) for row in rows)


@pytest.mark.parametrize("page", ["compatibility.md", "errors.md", "migration.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []


def test_the_variables_of_the_migration_page_exist() -> None:
    from tidegate.inference.settings import describe

    known = {name for names, _, _ in describe() for name in names}
    text = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\b(?:TIDEGATE|SAGEMAKER)_[A-Z_]+[A-Z]", text)) <= known
