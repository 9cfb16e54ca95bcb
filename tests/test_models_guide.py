"""docs/guides/models.md claims nothing without a test, names only tests that exist, and only settings that exist."""

from __future__ import annotations

import re

import pytest

from tests.claims import NAMED, missing_tests, page, rows, settings_in, unknown_settings

PAGE = page("guides/models.md")


@pytest.mark.parametrize(("heading", "least"), [("Compared with other servers", 12), ("What Cortex promised", 20)])
def test_every_row_names_a_test_or_says_that_it_is_not_here(heading: str, least: int) -> None:
    claims = rows(PAGE, heading)
    assert len(claims) >= least
    assert [row for row in claims if not NAMED.search(row[-1]) and "(#not-here)" not in row[1]] == []


def test_every_named_test_exists() -> None:
    assert missing_tests(PAGE) == []


def test_every_variable_on_the_page_is_a_setting() -> None:
    assert len(settings_in(PAGE)) > 10
    assert unknown_settings(PAGE) == []


def test_every_series_on_the_page_is_one_of_the_server() -> None:
    known = page("observability.md")
    series = set(re.findall(r"\btidegate_[a-z_]+\b", PAGE))
    assert series
    assert [name for name in series if name not in known] == []


def test_every_note_of_a_source_is_there_and_used() -> None:
    table, _, notes = PAGE.partition("\n## Compared with other servers\n")[2].partition("\n[1] ")
    given = {int(number) for number in re.findall(r"\[(\d+)\] ", "[1] " + notes.partition("\n## ")[0])}
    used = {int(number) for number in re.findall(r"\[(\d+)\]", table)}
    assert given == used == set(range(1, max(used) + 1))
