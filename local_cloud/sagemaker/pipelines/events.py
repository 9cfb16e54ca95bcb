"""Tells EventBridge how executions and their steps stand, as the service does.

Source: "Events that Amazon SageMaker AI sends to Amazon EventBridge", pipeline execution and pipeline step
(https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidegate.local_cloud.sagemaker.model_packages import Announce
from tidegate.local_cloud.sagemaker.pipelines.execution import Execution, StepRun
from tidegate.local_cloud.sagemaker.state import Json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineEvents:
    """``lock`` guards the state that is told of; call without it."""

    announce: Announce
    lock: threading.Lock

    def tell_execution(self, execution: Execution, *, previous: str | None) -> None:
        with self.lock:
            detail = {
                "pipelineExecutionDisplayName": execution.display_name,
                "currentPipelineExecutionStatus": execution.status,
                "previousPipelineExecutionStatus": previous,
                "executionStartTime": _moment(execution.created),
                "executionEndTime": _moment(execution.ended),
                "pipelineExecutionDescription": execution.description,
                "pipelineArn": execution.pipeline_arn,
                "pipelineExecutionArn": execution.arn,
            }
        self._tell("SageMaker Model Building Pipeline Execution Status Change", execution, detail)

    def tell_step(self, execution: Execution, run: StepRun, *, previous: str | None) -> None:
        with self.lock:
            detail = {
                "metadata": _camel(run.metadata),
                "stepStartTime": _moment(run.started),
                "stepEndTime": _moment(run.ended),
                "stepName": run.name,
                "stepType": run.kind,
                "previousStepStatus": previous,
                "currentStepStatus": run.status,
                "failureReason": run.failure,
                "cacheHitResult": run.cached_from and {"sourcePipelineExecutionArn": run.cached_from},
                "pipelineArn": execution.pipeline_arn,
                "pipelineExecutionArn": execution.arn,
            }
        self._tell("SageMaker Model Building Pipeline Execution Step Status Change", execution, detail)

    def _tell(self, happened: str, execution: Execution, detail: Json) -> None:
        known = {name: value for name, value in detail.items() if value is not None}
        try:
            self.announce(happened, execution.arn, known)
        except Exception:
            # The execution goes on; only whoever waits for the event does not hear of it.
            logger.exception("how %s stands could not be announced", execution.arn)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {name[0].lower() + name[1:]: _camel(item) for name, item in value.items()}
    return value
