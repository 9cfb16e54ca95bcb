"""docs/security.md claims nothing without a test, names only tests that exist, and forgets none of the attacks."""

from __future__ import annotations

from tests.claims import NAMED, functions_in, missing_tests, page, settings_in, unknown_settings

PAGE = page("security.md")


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
    assert missing_tests(PAGE) == []


def test_every_attack_that_is_tested_is_on_the_page() -> None:
    attacks = "tests/contract/test_attacks.py"
    assert functions_in(attacks) - {name for path, name in NAMED.findall(PAGE) if path == attacks} == set()


def test_every_variable_on_the_page_is_a_setting() -> None:
    assert settings_in(PAGE)
    assert unknown_settings(PAGE) == []
