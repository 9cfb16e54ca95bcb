"""What the documentation says about settings is what the code does."""

from __future__ import annotations

from pathlib import Path

from tidegate.inference.settings import describe

SETTINGS = Path(__file__).parents[1] / "docs" / "settings.md"


def row(names: tuple[str, ...], default: str, meaning: str) -> str:
    """The table row of one setting: its names in order of precedence, its default, its meaning."""
    variables = "<br>".join(f"`{name}`" for name in names)
    return f"| {variables} | {f'`{default}`' if default else 'unset'} | {meaning.replace('|', chr(92) + '|')} |"


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    """Row for row: every name with its precedence, its default and its meaning."""
    wanted = [row(*setting) for setting in describe()]
    written = [line for line in SETTINGS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert written == wanted, "docs/settings.md should have these rows:\n" + "\n".join(wanted)
