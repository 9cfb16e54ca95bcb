"""What a variable of the AWS container did besides what its name says, and does no more."""

from __future__ import annotations

import pytest

from tidegate.inference.settings import read


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


@pytest.mark.parametrize(
    ("variables", "workers"),
    [
        ({"SAGEMAKER_TS_MIN_WORKERS": "2", "SAGEMAKER_TS_MAX_WORKERS": "8"}, 2),
        ({"SAGEMAKER_TS_MIN_WORKERS": "2", "SAGEMAKER_MODEL_SERVER_WORKERS": "4"}, 2),
        ({"SAGEMAKER_TS_MAX_WORKERS": "8", "SAGEMAKER_MODEL_SERVER_WORKERS": "4"}, 4),
        ({"SAGEMAKER_TS_MAX_WORKERS": "3"}, 3),
        ({"TS_DEFAULT_WORKERS_PER_MODEL": "5", "SAGEMAKER_MODEL_SERVER_WORKERS": "4"}, 5),
    ],
)
def test_the_number_of_workers_is_the_least_that_torchserve_was_told_to_keep(
    variables: dict[str, str], workers: int
) -> None:
    """It started that many and no more; its own variables went over the toolkit's properties file."""
    assert read(variables).workers == workers


def test_values_of_deployments_that_exist_are_taken() -> None:
    """Found in public code: a time limit of hours, and the largest request size that TorchServe could be told."""
    settings = read(
        {
            "TS_DEFAULT_RESPONSE_TIMEOUT": "10000",
            "TS_DEFAULT_STARTUP_TIMEOUT": "600",
            "TS_MAX_RESPONSE_SIZE": "2147483647",
            "TS_MAX_REQUEST_SIZE": "2147483647",
        }
    )
    assert (settings.timeout_s, settings.load_timeout_s) == (10_000, 600)
    assert (settings.max_response_bytes, settings.max_body_bytes) == (2**31 - 1, 2**30)
