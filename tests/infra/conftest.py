"""Every stage is synthesised once per test run: starting the CDK's kernel takes seconds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aws_cdk.assertions import Template

ROOT = Path(__file__).parents[2]
STAGE_NAMES = ("local", "dev", "prod")
UNITS = ("storage", "registry", "endpoint")


@pytest.fixture(scope="session")
def node_on_path() -> Iterator[None]:
    """The CDK starts `node` from PATH when it is imported; the one that `make env` chose lies beside this Python."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    yield
    os.environ["PATH"] = before


@dataclass(frozen=True)
class Synthesised:
    """One stage's templates, by unit, and the directory they lie in."""

    directory: Path
    templates: dict[str, Template]

    def properties(self, unit: str, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of every resource of `kind`, by logical id."""
        return {name: resource["Properties"] for name, resource in self.templates[unit].find_resources(kind).items()}

    def only(self, unit: str, kind: str) -> dict[str, Any]:
        """The properties of the one resource of `kind`."""
        (properties,) = self.properties(unit, kind).values()
        return properties

    @property
    def report(self) -> str:
        """What validation found: broken rules and warnings."""
        return (self.directory / "validation-report.json").read_text()

    def artifact(self, unit: str) -> dict[str, Any]:
        """What the command line is told about the stack: environment, tags, protection."""
        manifest = json.loads((self.directory / "manifest.json").read_text())
        artifact: dict[str, Any] = manifest["artifacts"][unit]
        return artifact


Synthesise = Callable[..., Synthesised]


@pytest.fixture(scope="session")
def synthesise(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> Synthesise:
    """Synthesise a stage as the command line would, with the feature flags of cdk.json and `-c` values."""
    from aws_cdk.assertions import Template

    from infra import app
    from infra.stages import DEFAULT_STAGE, STAGES

    flags = json.loads((ROOT / "cdk.json").read_text())["context"]

    def synthesise(*, stages: dict[str, Any] = STAGES, outdir: Path | None = None, **context: str) -> Synthesised:
        directory = outdir or tmp_path_factory.mktemp("cdk.out")
        app.build(stages, DEFAULT_STAGE, context=flags | context, outdir=str(directory)).synth()
        templates = {
            unit: Template.from_json(json.loads((directory / f"{unit}.template.json").read_text())) for unit in UNITS
        }
        return Synthesised(directory=directory, templates=templates)

    return synthesise


@pytest.fixture(scope="session")
def all_stages(synthesise: Synthesise) -> dict[str, Synthesised]:
    """Every stage of infra/stages.py."""
    return {name: synthesise(stage=name) for name in STAGE_NAMES}


@pytest.fixture(params=STAGE_NAMES)
def stage(request: pytest.FixtureRequest, all_stages: dict[str, Synthesised]) -> Synthesised:
    """Each stage in turn."""
    return all_stages[request.param]
