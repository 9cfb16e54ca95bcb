"""docs/infrastructure.md names everything that a user can choose or read; its keys are made by the code."""

from __future__ import annotations

from tests.infra.conftest import ROOT, STAGE_NAMES, Synthesised
from tidegate.infra.stacks.interface_endpoints import INTERFACE_ENDPOINTS, KEY_ENDPOINT, PACKAGE_ENDPOINTS
from tidegate.infra.stage.context import KEYS

DOCUMENT = (ROOT / "docs" / "infrastructure.md").read_text()


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
