"""docs/infrastructure.md names everything that a user can set, choose or read."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from infra.configuration import Hosting, ImageUri, RepositoryImage, Retention, Stage
from infra.context import KEYS
from infra.stages import STAGES
from tests.infra.conftest import ROOT, Synthesised

DOCUMENT = (ROOT / "docs" / "infrastructure.md").read_text()


@pytest.mark.parametrize("value", [Stage, Hosting, Retention], ids=lambda value: value.__name__)
def test_every_key_of_the_configuration_is_explained(value: type) -> None:
    missing = [field.name for field in fields(value) if f"`{field.name}`" not in DOCUMENT]

    assert not missing


@pytest.mark.parametrize("value", [Hosting, Retention], ids=lambda value: value.__name__)
def test_the_defaults_in_the_tables_are_those_of_the_code(value: type) -> None:
    rows = {
        row.split("|")[1].strip(" `"): row.split("|")[2].strip(" `")
        for row in DOCUMENT.splitlines()
        if row.startswith("|")
    }

    for field in fields(value):
        if field.default is not None:
            assert rows[field.name] == ("required" if field.default is MISSING else str(field.default))


def test_every_way_to_name_an_image_is_explained() -> None:
    assert all(f"`{kind.__name__}(" in DOCUMENT for kind in (ImageUri, RepositoryImage))


def test_every_key_of_the_command_line_is_explained() -> None:
    assert all(f"`-c {key}=" in DOCUMENT for key in KEYS)


def test_every_stage_is_explained() -> None:
    assert all(f"| `{name}`" in DOCUMENT for name in STAGES)


def test_every_output_and_every_statement_of_the_role_is_explained(stage: Synthesised) -> None:
    outputs = [name for template in stage.templates.values() for name in template.to_json()["Outputs"]]
    (policy,) = stage.only("endpoint", "AWS::IAM::Role")["Policies"]
    sids = [statement["Sid"] for statement in policy["PolicyDocument"]["Statement"]]

    assert not [name for name in outputs + sids if f"`{name}`" not in DOCUMENT]
