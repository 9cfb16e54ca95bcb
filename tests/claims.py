"""Pages whose tables claim something and name what shows it: their rows, and whether what they name is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
_VARIABLE = re.compile(r"\b(?:TIDEGATE|SAGEMAKER)_[A-Z0-9_]+\b")


def page(name: str) -> str:
    """The text of a page, named from `docs/`."""
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


@cache
def functions_in(path: str) -> frozenset[str]:
    """The test functions of a file, those of classes as Class::function, and state machines by their name.

    A class of tests is there by its own name too. A file that does not exist has none.
    """
    if not (REPOSITORY / path).is_file():
        return frozenset()
    found: set[str] = set()
    for node in ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".TestCase"):
            found |= {ast.unparse(target) for target in node.targets}
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {
            prefix + each.name
            for each in functions
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
        }
    return frozenset(found)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, whose last column is `shown by`; without the table's own first lines."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip()[1:-1] for line in section.splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    assert table[0][-1] == "shown by"
    return table[2:]


def missing_tests(text: str) -> list[str]:
    """The tests that a page names and that are not there."""
    named = NAMED.findall(text)
    assert named
    return [f"{path}::{name}" for path, name in named if name not in functions_in(path)]


def settings_in(text: str) -> set[str]:
    """The variables of the server that a page names."""
    return set(_VARIABLE.findall(text))


def unknown_settings(text: str) -> list[str]:
    """The variables of the server that a page names and that the page of settings does not have."""
    known = settings_in(page("settings.md"))
    return sorted(settings_in(text) - known)
