"""What a variable of the AWS container did besides what its name says, and does no more."""

from __future__ import annotations

import pytest

from inference.settings import read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_TS_BATCH_SIZE", "8"),
        ("SAGEMAKER_TS_MAX_BATCH_DELAY", "20"),
    ],
)
def test_a_variable_of_torchserves_batches_leaves_workers_and_time_limit_alone(name: str, value: str) -> None:
    """There, any of the five wrote a model configuration with one worker and 60 s over what else was set."""
    others = {"SAGEMAKER_MODEL_SERVER_WORKERS": "4", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "300"}
    settings = read({**others, name: value})
    assert (settings.workers, settings.timeout_s) == (4, 300.0)
