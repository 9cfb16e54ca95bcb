"""The promotion construct is synthesised once; its machine is executed many times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.infra.state_machines import ACCOUNT, REGION
from tests.infra.templates import Synthesised

ROOT = Path(__file__).parents[3]
GROUP = "tidegate-dev"


@pytest.fixture(scope="package")
def promotion_stack(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> Synthesised:
    """A stack with nothing but the promotion construct, checked by cdk-nag, with the feature flags of cdk.json."""
    import aws_cdk as cdk
    from cdk_nag import AwsSolutionsChecks

    from tidegate.infra.promotion.promotion import Promotion
    from tidegate.infra.stage.names import Names

    directory = tmp_path_factory.mktemp("promotion")
    app = cdk.App(outdir=str(directory), context=json.loads((ROOT / "cdk.json").read_text())["context"])
    stack = cdk.Stack(app, "models", env=cdk.Environment(account=ACCOUNT, region=REGION))
    Promotion(
        stack,
        "Promotion",
        names=Names(prefix="tidegate", stage="dev"),
        group=GROUP,
        component=False,
        email="ml-team@example.com",
        key_arn=None,
    )
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    file = directory / "models.template.json"
    return Synthesised(template=json.loads(file.read_text()), file=file)
