"""The templates pass cdk-nag and cfn-lint, and cdk-nag is really asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.conftest import Synthesise, Synthesised


def test_every_stage_passes_cdk_nag(all_stages: dict[str, Synthesised]) -> None:
    """A finding that nobody acknowledged would have failed the synthesis; the report would name it."""
    for stage in all_stages.values():
        assert "AwsSolutions" not in stage.report
        assert '"failure"' not in stage.report


def test_a_wildcard_that_nobody_acknowledged_fails_the_synthesis(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from infra import execution_role

    monkeypatch.setattr(execution_role.ExecutionRole, "_acknowledge", lambda *_: None)
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        synthesise(stage="dev", outdir=tmp_path)

    report = (tmp_path / "validation-report.json").read_text()
    assert "tidegate-dev-data-<AWS::AccountId>-<AWS::Region>/models/*]" in report
    assert "AwsSolutions-IAM5[Resource::*]" not in report


def test_every_template_passes_cfn_lint(all_stages: dict[str, Synthesised]) -> None:
    templates = [path for stage in all_stages.values() for path in stage.directory.glob("*.template.json")]
    lint = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *templates], capture_output=True, text=True, check=False
    )

    assert len(templates) == 9
    assert lint.returncode == 0, lint.stdout + lint.stderr
