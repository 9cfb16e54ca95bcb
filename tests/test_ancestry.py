"""docs/ancestry.md claims nothing that no test or command shows, and names only what exists."""

from __future__ import annotations

import re

import pytest

from tests.claims import NAMED, REPOSITORY, missing_tests, page, rows, settings_in, unknown_settings

PAGE = page("ancestry.md")
ANCESTORS = re.findall(r"\n## (.+)\n(?:(?!\n## )[\s\S])*?\n\| there \|", PAGE)
COMMAND = re.compile(r"`python -m ([\w.]+)[^`]*`")


def test_every_ancestor_has_a_table() -> None:
    for name in ("GauGAN", "Studio.ML", "PADL", "AWS", "Cortex"):
        assert [heading for heading in ANCESTORS if name in heading], name
    assert len(ANCESTORS) == 5


@pytest.mark.parametrize("heading", ANCESTORS)
def test_every_row_is_shown_by_something_or_says_that_it_is_not_here(heading: str) -> None:
    """What is partly here has both: the test of the part, and the words."""
    claims = rows(PAGE, heading)
    assert len(claims) > 10
    assert [row for row in claims if len(row) != 4 or not all(row[:2])] == []
    for _, here, wrong, shown in claims:
        if shown:
            assert wrong, f"what was wrong there? {here}"
            assert NAMED.search(shown) or COMMAND.search(shown), here
        else:
            assert here.startswith("**Not here"), here
            assert re.search(r"\*\*Not here(?: yet)?\*\*.{12,}", here), f"why not? {here}"


def test_every_named_test_exists() -> None:
    assert missing_tests(PAGE) == []


def test_every_command_is_one_of_ours() -> None:
    """`python -m benchmarks.images` is benchmarks/images.py, or the package with its __main__."""
    commands = [name for name in COMMAND.findall(PAGE) if name != "pytest"]
    assert len(commands) > 4
    for name in commands:
        path = REPOSITORY / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name


def test_every_variable_on_the_page_is_a_setting() -> None:
    assert len(settings_in(PAGE)) > 4
    assert unknown_settings(PAGE) == []
    known = page("settings.md")
    assert [name for name in re.findall(r"`(MODEL_\w+)`", PAGE) if f"`{name}`" not in known] == []
