"""The real `cdk` command line, started at the repository's root as a user would, without credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.command_line import cdk
from tests.infra.conftest import ROOT, SHIPPED, STAGE_NAMES


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_cdk_synth_writes_the_three_templates_of_a_stage(stage: str, tmp_path: Path) -> None:
    synth = cdk("synth", "--quiet", "-c", f"stage={SHIPPED / stage}.toml", output=tmp_path)

    assert synth.returncode == 0, synth.stderr
    assert {path.name.partition(".")[0] for path in tmp_path.glob("*.template.json")} == {
        "storage",
        "registry",
        "endpoint",
    }


def test_a_stage_that_does_not_exist_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    synth = cdk("synth", "--quiet", "-c", "stage=nosuch", output=tmp_path)
    there = ", ".join(sorted(path.stem for path in (ROOT / "infra" / "stages").glob("*.toml")))

    assert synth.returncode == 1
    assert f"tidegate: error: -c stage=nosuch does not exist; infra/stages/ has {there}: " in synth.stderr
    assert "Traceback" not in synth.stderr


def test_a_mistyped_key_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    synth = cdk("synth", "--quiet", "-c", "model_url=s3://bucket/model.tar.gz", output=tmp_path)

    assert synth.returncode == 1
    assert "tidegate: error: -c model_url=s3://bucket/model.tar.gz is not known" in synth.stderr
    assert "Traceback" not in synth.stderr
