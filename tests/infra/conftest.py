"""Every stage is synthesised once for this room: starting the CDK's kernel takes seconds.

What is set for the room goes with it: other rooms, which the same process may have next, must not find it.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aws_cdk.assertions import Template

ROOT = Path(__file__).parents[2]
STAGE_NAMES = ("local", "dev", "prod")
# The stages as the project ships them. Those of infra/stages/ are their user's, who may change, add and remove them
# without breaking a test.
SHIPPED = Path(__file__).with_name("shipped")
# One stage of each mode with everything that goes with it.
SAMPLES = Path(__file__).with_name("stages")


@pytest.fixture(scope="package")
def node_on_path() -> Iterator[None]:
    """The CDK starts `node` from PATH when it is imported; the one that `make env` chose lies beside this Python."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    yield
    os.environ["PATH"] = before


@pytest.fixture(scope="package", autouse=True)
def shipped_stages() -> Iterator[None]:
    """`dev` means the stage that the project ships, whatever became of the file in infra/stages/."""
    from tidegate.infra.stage import stage_file

    with pytest.MonkeyPatch.context() as here:
        here.setattr(stage_file, "STAGES", SHIPPED)
        yield


@pytest.fixture(scope="package", autouse=True)
def no_cloud_of_the_shell() -> Iterator[None]:
    """A shell may have the variables of a local cloud or a profile, which would win over moto; or an account for the
    CDK, which would be asked at a synthesis.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in [
            name for name in os.environ if name.startswith(("AWS_ENDPOINT_URL", "AWS_PROFILE", "CDK_DEFAULT"))
        ]:
            environment.delenv(name)
        yield


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


@pytest.fixture(scope="package")
def synthesise(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> Synthesise:
    """Synthesise a stage as the command line would, with the feature flags of cdk.json and `-c` values.

    `changes` are tables of the stage file that are to be otherwise; None takes a key away.
    """
    from aws_cdk.assertions import Template

    from tidegate.infra import app
    from tidegate.infra.configuration import Stage
    from tidegate.infra.stage import context, stage_file

    flags = json.loads((ROOT / "cdk.json").read_text())["context"]

    def synthesise(*, changes: dict[str, Any] | None = None, outdir: Path | None = None, **given: str) -> Synthesised:
        def choose(values: Mapping[str, object]) -> Stage:
            if changes is None:
                return context.choose(values)
            path = stage_file.find(given.get("stage", stage_file.DEFAULT_STAGE))
            table = merged(tomllib.loads(path.read_text()), changes)
            return context.override(path, stage_file.parse({"name": path.stem} | table), given)

        directory = outdir or tmp_path_factory.mktemp("cdk.out")
        app.build(choose=choose, context=flags | given, outdir=str(directory)).synth()
        templates = {
            path.name.removesuffix(".template.json"): Template.from_json(json.loads(path.read_text()))
            for path in sorted(directory.glob("*.template.json"))
        }
        return Synthesised(directory=directory, templates=templates)

    return synthesise


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`table` with `changes`; tables in tables are merged too."""
    result = dict(table)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = value
    return result


@pytest.fixture(scope="package")
def all_stages(synthesise: Synthesise) -> dict[str, Synthesised]:
    """Every stage that the project ships."""
    return {name: synthesise(stage=name) for name in STAGE_NAMES}


@pytest.fixture(params=STAGE_NAMES)
def stage(request: pytest.FixtureRequest, all_stages: dict[str, Synthesised]) -> Synthesised:
    """Each stage in turn."""
    return all_stages[request.param]


@pytest.fixture(scope="package")
def samples(synthesise: Synthesise) -> dict[str, Synthesised]:
    """Every sample, by the name of its file."""
    return {path.stem: synthesise(stage=str(path)) for path in sorted(SAMPLES.glob("*.toml"))}
