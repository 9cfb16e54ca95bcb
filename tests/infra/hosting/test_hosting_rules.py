"""Every mode, with all that it can have, passes cdk-nag and cfn-lint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.conftest import ROOT
from tests.infra.hosted import FULL, add_endpoint

# cfn-lint knows names of instance types from the specification of Regions; the API's own list is tested elsewhere.
REGION = "eu-central-1"


@pytest.fixture(scope="module")
def synthesised(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> Path:
    """The templates of all modes; a finding of cdk-nag would fail the synthesis."""
    import aws_cdk as cdk
    from cdk_nag import AwsSolutionsChecks

    directory = tmp_path_factory.mktemp("hosting")
    flags = json.loads((ROOT / "cdk.json").read_text())["context"]
    app = cdk.App(context=flags, outdir=str(directory))
    for mode, hosting in FULL.items():
        name = mode.replace("_", "-")
        add_endpoint(cdk.Stack(app, name), hosting, size_gib=3)
        add_endpoint(cdk.Stack(app, f"{name}-unnamed"), hosting, model_name=None)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return directory


def test_no_mode_breaks_a_rule_of_cdk_nag(synthesised: Path) -> None:
    """Without anything acknowledged; tests/infra/stacks/test_rules.py shows that a finding fails the synthesis."""
    report = json.loads((synthesised / "validation-report.json").read_text())

    assert report["pluginReports"] == []


def test_every_mode_passes_cfn_lint(synthesised: Path) -> None:
    templates = sorted(synthesised.glob("*.template.json"))
    lint = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--regions", REGION, "--", *templates],
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(templates) == 2 * len(FULL)
    assert lint.returncode == 0, lint.stdout + lint.stderr
