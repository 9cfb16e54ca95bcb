"""Where the containers of a stage write, by the names that SageMaker gives. Read without the CDK, too."""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.infra.configuration import Stage

# One for all jobs of an account in a Region. Source: SageMaker guide, "Log groups and streams that Amazon SageMaker
# sends to Amazon CloudWatch Logs".
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"
# The same of processing jobs, among them those of Model Monitor.
PROCESSING_JOBS = "/aws/sagemaker/ProcessingJobs"


def of_stage(stage: Stage, endpoint_name: str) -> Mapping[str, int | None]:
    """Where the stage's containers write, and for how many days it is kept; None where SageMaker makes the group."""
    days = stage.retention.logs_days
    groups = {f"/aws/sagemaker/Endpoints/{endpoint_name}": days, TRANSFORM_JOBS: stage.retention.transform_logs_days}
    if stage.hosting.mode == "component":
        groups[f"/aws/sagemaker/InferenceComponents/{endpoint_name}"] = days
    return groups
