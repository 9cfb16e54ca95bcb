"""docs/batch.md and docs/promotion.md name what users meet: endings, the manifest, rights, commands."""

from __future__ import annotations

import re

import pytest

from tests.infra.conftest import ROOT, Synthesised
from tests.infra.templates import as_list
from tidegate.infra.batch import transform_job
from tidegate.infra.batch.content_types import BY_ENDING
from tidegate.infra.promotion import rollout_machine
from tidegate.infra.versions import models_command

BATCH = (ROOT / "docs" / "batch.md").read_text()
PROMOTION = (ROOT / "docs" / "promotion.md").read_text()


def keys(expression: str) -> list[str]:
    """The keys of an object in JSONata."""
    return re.findall(r"^\s*'(\w+)':", expression, re.MULTILINE)


def test_every_ending_is_in_the_table_with_its_content_type() -> None:
    rows = [row for row in BATCH.splitlines() if row.startswith("| `.")]

    for ending, content_type in BY_ENDING.items():
        (row,) = (row for row in rows if f"`.{ending}`" in row)
        assert content_type in row or f"{content_type.partition('/')[0]}/…" in row


def test_every_key_of_the_manifest_and_of_the_message_is_explained() -> None:
    manifest, message = keys(transform_job._MANIFEST), keys(rollout_machine._MESSAGE)

    assert len(manifest) == 12
    assert not [key for key in manifest if f"`{key}`" not in BATCH]
    assert len(message) == 6
    assert not [key for key in message if f"`{key}`" not in PROMOTION]


@pytest.mark.parametrize(("unit", "document"), [("batch", BATCH), ("models", PROMOTION)])
def test_every_action_of_the_machines_is_in_the_table(
    unit: str, document: str, samples: dict[str, Synthesised]
) -> None:
    """Log delivery and X-Ray are named as such."""
    actions = {
        action
        for sample in ("approved", "private")
        for role in samples[sample].properties(unit, "AWS::IAM::Role").values()
        if role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "states.amazonaws.com"}
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
        if not action.startswith(("logs:", "xray:"))
    }

    assert actions
    assert not [action for action in actions if f"`{action}`" not in document]


def test_every_command_is_shown() -> None:
    usage = models_command._parser().format_help()
    commands = re.findall(r"^    (\w+) +\w", usage, re.MULTILINE)

    assert commands == ["register", "list", "approve", "reject", "promote", "delete"]
    assert not [command for command in commands if f"tidegate models {command}" not in PROMOTION]
