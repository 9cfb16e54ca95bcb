"""docs/security.md claims nothing without a test, names only tests that exist, and forgets none of the attacks."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions_in(path: str) -> frozenset[str]:
    """The test functions that a file defines."""
    tree = ast.parse((REPOSITORY / path).read_text())
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def claims() -> list[str]:
    """The rows of the tables whose second column is `shown by`."""
    rows, inside = [], False
    for line in PAGE.splitlines():
        if line.startswith("| claim | shown by |"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("| ---"):
            rows.append(line)
    return rows


def test_every_claim_names_at_least_one_test() -> None:
    assert len(claims()) > 20
    assert [row for row in claims() if not NAMED.search(row.split("|")[2])] == []


def test_every_named_test_exists() -> None:
    named = NAMED.findall(PAGE)
    missing = [
        f"{path}::{name}" for path, name in named if not (REPOSITORY / path).is_file() or name not in functions_in(path)
    ]
    assert missing == []


def test_every_attack_that_is_tested_is_on_the_page() -> None:
    attacks = "tests/contract/test_attacks.py"
    assert functions_in(attacks) - {name for path, name in NAMED.findall(PAGE) if path == attacks} == set()


def test_every_variable_on_the_page_is_a_setting() -> None:
    settings = (REPOSITORY / "docs" / "settings.md").read_text()
    variables = set(re.findall(r"`(TIDEGATE_\w+)`", PAGE))
    assert variables
    assert [name for name in variables if f"`{name}`" not in settings] == []
