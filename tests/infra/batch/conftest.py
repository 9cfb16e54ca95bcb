"""The batch construct is synthesised once; the machines in it are executed many times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infra.state_machines import ACCOUNT, REGION
from tests.infra.templates import Synthesised

BUCKET = f"tidegate-dev-data-{ACCOUNT}-{REGION}"
PARAMETER = "/tidegate/dev/model-name"
ROOT = Path(__file__).parents[3]
SynthesiseBatch = Callable[..., Synthesised]


@pytest.fixture(scope="package")
def synthesise_batch(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> SynthesiseBatch:
    """A stack with nothing but the batch construct, checked by cdk-nag, with the feature flags of cdk.json."""
    import aws_cdk as cdk
    from cdk_nag import AwsSolutionsChecks

    from tidegate.infra.batch.jobs import BatchJobs
    from tidegate.infra.configuration.batch import Batch
    from tidegate.infra.stage.names import Names

    flags = json.loads((ROOT / "cdk.json").read_text())["context"]

    def synthesise(*, key_arn: str | None = None, volume_key_arn: str | None = None, **batch: Any) -> Synthesised:
        directory = tmp_path_factory.mktemp("batch")
        app = cdk.App(outdir=str(directory), context=flags)
        stack = cdk.Stack(app, "batch", env=cdk.Environment(account=ACCOUNT, region=REGION))
        BatchJobs(
            stack,
            "Batch",
            names=Names(prefix="tidegate", stage="dev"),
            bucket=BUCKET,
            batch=Batch(**batch),
            key_arn=key_arn,
            volume_key_arn=volume_key_arn,
            tags={"project": "tidegate", "stage": "dev"},
        )
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        app.synth()
        file = directory / "batch.template.json"
        return Synthesised(template=json.loads(file.read_text()), file=file)

    return synthesise


@pytest.fixture(scope="package")
def batch_stack(synthesise_batch: SynthesiseBatch) -> Synthesised:
    """Everything on."""
    return synthesise_batch(
        on_upload=True,
        schedule="cron(0 3 * * ? *)",
        schedule_timezone="Europe/Berlin",
        schedule_input="batch/input/nightly/{date}/",
        content_types={"WAV": "audio/wav"},
        email="ml-team@example.com",
    )
