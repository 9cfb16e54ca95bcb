"""The templates of every stage and mode pass cdk-nag and cfn-lint, and cdk-nag is really asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.conftest import SAMPLES, STAGE_NAMES, Synthesise, Synthesised

NAMES = [*STAGE_NAMES, *sorted(path.stem for path in SAMPLES.glob("*.toml"))]
# What a stage may have to be told; everything else that a check finds is an error.
TOLD = {"tidegate:default-model", "tidegate:rollout-of-one-instance", "tidegate:cost"}


@pytest.fixture(scope="module")
def every_stage(all_stages: dict[str, Synthesised], samples: dict[str, Synthesised]) -> dict[str, Synthesised]:
    return all_stages | samples


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_passes_cdk_nag(name: str, every_stage: dict[str, Synthesised]) -> None:
    """A finding that nobody acknowledged would have failed the synthesis; the report would name it."""
    report = every_stage[name].report

    assert "AwsSolutions" not in report
    assert '"failure"' not in report


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_warns_of_nothing_but_what_its_owner_chose(name: str, every_stage: dict[str, Synthesised]) -> None:
    rules = {
        violation["ruleName"].removeprefix("Annotation::")
        for report in json.loads(every_stage[name].report)["pluginReports"]
        for violation in report.get("violations", [])
    }

    assert rules <= TOLD


def test_a_wildcard_that_nobody_acknowledged_fails_the_synthesis(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tidegate.infra.rights import execution_role

    monkeypatch.setattr(execution_role.ExecutionRole, "_acknowledge", lambda *_: None)
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        synthesise(stage="dev", outdir=tmp_path)

    report = (tmp_path / "validation-report.json").read_text()
    assert "tidegate-dev-data-<AWS::AccountId>-<AWS::Region>/models/*]" in report
    assert "AwsSolutions-IAM5[Resource::*]" not in report


def test_every_template_passes_cfn_lint(every_stage: dict[str, Synthesised]) -> None:
    templates = [path for stage in every_stage.values() for path in stage.directory.glob("*.template.json")]
    # That zones are written out, which the stage file says, it passes over in what the command line synthesises.
    words = [Path(sys.executable).with_name("cfn-lint"), *templates, "--ignore-checks", "W3010"]
    lint = subprocess.run(words, capture_output=True, text=True, check=False)

    assert len(templates) > 40
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_no_stack_has_a_function_or_a_custom_resource(every_stage: dict[str, Synthesised]) -> None:
    kinds = {
        resource["Type"]
        for stage in every_stage.values()
        for template in stage.templates.values()
        for resource in template.to_json()["Resources"].values()
    }

    assert not [kind for kind in kinds if kind.startswith(("AWS::Lambda", "Custom::", "AWS::CloudFormation"))]


def test_a_stage_has_the_stacks_of_its_tables_and_no_others(every_stage: dict[str, Synthesised]) -> None:
    small = {"storage", "registry", "endpoint"}
    units = {name: set(stage.templates) - small for name, stage in every_stage.items()}

    assert all(small <= set(stage.templates) for stage in every_stage.values())
    assert units == {
        "local": set(),
        "dev": set(),
        "prod": set(),
        "realtime": {"batch", "models", "observability"},
        "variants": set(),
        "async": {"observability"},
        "serverless": {"batch", "observability"},
        "component": {"batch", "models", "network", "observability"},
        "multimodel": {"api", "observability"},
        "private": {"batch", "models", "network", "observability"},
        "approved": {"batch", "models", "observability"},
        "repository": {"batch", "network", "observability"},
        "rolling": {"observability"},
        "fallback": {"network", "observability"},
        "reserved": {"observability"},
        "pipeline": {"batch", "network", "observability"},
        "adapters": {"api"},
    }
