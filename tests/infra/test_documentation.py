"""docs/infrastructure.md names everything that a user can set, choose or read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from tests.infra.conftest import ROOT, STAGE_NAMES, Synthesised
from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.value import Value
from tidegate.infra.stacks.interface_endpoints import INTERFACE_ENDPOINTS, KEY_ENDPOINT, PACKAGE_ENDPOINTS
from tidegate.infra.stage.context import KEYS

DOCUMENT = (ROOT / "docs" / "infrastructure.md").read_text()


def tables(annotation: Any = Stage) -> Iterator[type[Value]]:
    """Every class of a stage file."""
    if isinstance(annotation, type) and issubclass(annotation, Value):
        yield annotation
        for field in annotation.model_fields.values():
            yield from tables(field.annotation)
    else:
        for part in get_args(annotation):
            yield from tables(part)


def written(value: Any) -> str:
    """A default as a table of the page has it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def rows() -> dict[str, set[str]]:
    """What the tables of the page give as the default of each key; a key may be in several tables."""
    defaults: dict[str, set[str]] = {}
    for line in DOCUMENT.splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")]
        if len(cells) > 3:
            for key in cells[1].replace("`", "").split(", "):
                defaults.setdefault(key, set()).add(cells[2])
    return defaults


ALL_TABLES = sorted(set(tables()), key=lambda table: table.__name__)


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.__name__)
def test_every_key_of_a_stage_file_is_explained_with_its_default(table: type[Value]) -> None:
    explained = rows()
    for name, field in table.model_fields.items():
        assert name in explained, f"{table.__name__}.{name}"
        if field.is_required():
            assert explained[name] & {"required", "chooses"}, f"{table.__name__}.{name}: {explained[name]}"
        elif not isinstance(field.get_default(call_default_factory=True), Value | dict):
            default = written(field.get_default(call_default_factory=True)) or "none"
            assert default in explained[name], f"{table.__name__}.{name}={default}: {explained[name]}"


def test_every_key_of_the_command_line_is_explained() -> None:
    assert all(f"`-c {key}=" in DOCUMENT for key in KEYS)


def test_every_stage_is_explained() -> None:
    assert all(f"| `{name}`" in DOCUMENT for name in STAGE_NAMES)


def test_every_way_out_of_a_network_is_explained() -> None:
    ways = INTERFACE_ENDPOINTS | KEY_ENDPOINT | PACKAGE_ENDPOINTS

    assert all(f"| `{service}` | {reason} |" in DOCUMENT for service, reason in ways.items())


def test_every_output_of_every_stack_is_explained(
    all_stages: dict[str, Synthesised], samples: dict[str, Synthesised]
) -> None:
    outputs = {
        name
        for stage in [*all_stages.values(), *samples.values()]
        for template in stage.templates.values()
        for name in template.to_json().get("Outputs", {})
    }

    assert not [name for name in outputs if f"`{name}`" not in DOCUMENT]
