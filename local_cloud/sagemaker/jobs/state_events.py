"""Tells EventBridge that the status of a job has changed, as the service does.

Source: "Events that Amazon SageMaker AI sends to Amazon EventBridge" (automating-sagemaker-with-eventbridge): the
detail is what the Describe operation answers, with times in milliseconds.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from tidegate.local_cloud.sagemaker.model_packages import Announce
from tidegate.local_cloud.sagemaker.state import Json

logger = logging.getLogger(__name__)


def tell_state(announce: Announce, kind: str, arn: str, description: Json) -> None:
    """``kind`` is the words between `SageMaker` and `State Change` of the detail-type. Call it without a lock."""
    try:
        announce(f"SageMaker {kind} State Change", arn, _in_milliseconds(description))
    except Exception:
        # The job is as it is; only whoever waits for the event does not hear of it.
        logger.exception("the state of %s could not be announced", arn)


def _in_milliseconds(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {name: _in_milliseconds(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_in_milliseconds(item) for item in value]
    return value
