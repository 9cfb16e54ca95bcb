"""The plain state of pipelines: their versions, their executions, and the runs of their steps.

Nothing here is a thread, a lock or a function; whoever changes it holds the lock of the room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidegate.local_cloud.sagemaker.state import Json, now

STEP_FAILURE = "Step failure: One or multiple steps failed."
_FAILURE_REASON_CHARS = 1024  # PipelineExecutionStep: FailureReason
RUNNING = ("Starting", "Executing", "Stopping")
"""The states of a step that holds one of the places of MaxParallelExecutionSteps."""


@dataclass(slots=True, kw_only=True)
class StepRun:
    """A step that has begun in an execution."""

    name: str
    kind: str
    display_name: str | None = None
    description: str | None = None
    status: str = "Starting"
    started: datetime = field(default_factory=now)
    ended: datetime | None = None
    attempts: int = 0
    retry_at: datetime | None = None
    """When the next attempt begins, where one failed that is tried again."""
    resource: str | None = None
    """What its Describe operation is asked for: a name, or an ARN."""
    metadata: Json = field(default_factory=dict)
    failure: str | None = None
    cache_key: str | None = None
    cached_from: str | None = None
    """The execution that a hit of the cache comes from."""
    reused_from: str | None = None
    """The execution that a selective execution takes the step's results from."""

    @property
    def is_over(self) -> bool:
        return self.status not in RUNNING

    @property
    def was_run(self) -> bool:
        return self.cached_from is None and self.reused_from is None

    @property
    def outcome(self) -> bool:
        """What a condition step has decided."""
        return bool(self.metadata.get("Condition", {}).get("Outcome") == "True")

    def ends(self, status: str, failure: str | None = None) -> None:
        self.status, self.ended = status, now()
        self.failure = failure[:_FAILURE_REASON_CHARS] if failure else None

    def described(self) -> Json:
        """The members of PipelineExecutionStep."""
        optional = {
            "StepDisplayName": self.display_name,
            "StepDescription": self.description,
            "EndTime": self.ended,
            "FailureReason": self.failure,
            "CacheHitResult": self.cached_from and {"SourcePipelineExecutionArn": self.cached_from},
            "SelectiveExecutionResult": self.reused_from and {"SourcePipelineExecutionArn": self.reused_from},
        }
        return {
            "StepName": self.name,
            "StartTime": self.started,
            "StepStatus": self.status,
            "Metadata": self.metadata,
            "AttemptCount": self.attempts,
        } | {member: value for member, value in optional.items() if value}


@dataclass(slots=True, kw_only=True)
class Execution:
    """One execution of a pipeline. ``definition`` is the text that it runs, ``parameters`` has a value for each."""

    arn: str
    pipeline_name: str
    pipeline_arn: str
    version: int
    definition: str
    role: str
    parameters: Mapping[str, Any]
    created: datetime
    modified: datetime
    experiment: Json = field(default_factory=dict)
    display_name: str
    description: str | None = None
    parallelism: Json | None = None
    selective: Json | None = None
    selected: list[str] | None = None
    """The steps that run; None: all of them."""
    status: str = "Executing"
    ended: datetime | None = None
    failure: str | None = None
    steps: dict[str, StepRun] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def is_over(self) -> bool:
        return self.status not in ("Executing", "Stopping")

    def goes_to(self, status: str, failure: str | None = None) -> None:
        self.status, self.failure, self.modified = status, failure, now()
        self.ended = self.modified if self.is_over else None

    def described(self) -> Json:
        """The members of DescribePipelineExecution."""
        optional = {
            "PipelineExecutionDescription": self.description,
            "PipelineExperimentConfig": self.experiment,
            "FailureReason": self.failure,
            "ParallelismConfiguration": self.parallelism,
            "SelectiveExecutionConfig": self.selective,
        }
        return {
            "PipelineArn": self.pipeline_arn,
            "RoleArn": self.role,
            "PipelineExecutionArn": self.arn,
            "PipelineExecutionDisplayName": self.display_name,
            "PipelineExecutionStatus": self.status,
            "PipelineVersionId": self.version,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "CreatedBy": {},
            "LastModifiedBy": {},
        } | {member: value for member, value in optional.items() if value}

    def summary(self) -> Json:
        """The members of PipelineExecutionSummary."""
        summary: Json = {
            "PipelineExecutionArn": self.arn,
            "StartTime": self.created,
            "PipelineExecutionStatus": self.status,
            "PipelineExecutionDisplayName": self.display_name,
        }
        summary |= {"PipelineExecutionDescription": self.description} if self.description else {}
        return summary | ({"PipelineExecutionFailureReason": self.failure} if self.failure else {})


@dataclass(slots=True, kw_only=True)
class Version:
    """A version of a pipeline: the definition as it was given then."""

    definition: str
    created: datetime
    display_name: str | None = None
    description: str | None = None
    last_execution: str | None = None


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """A pipeline; the last of its versions is the one that it has now, and their numbers count from 1."""

    name: str
    arn: str
    created: datetime
    modified: datetime
    role: str
    display_name: str
    description: str | None = None
    parallelism: Json | None = None
    last_run: datetime | None = None
    versions: list[Version] = field(default_factory=list)

    def described(self, number: int) -> Json:
        """The members of DescribePipeline, with the version of that number."""
        version = self.versions[number - 1]
        optional = {
            "PipelineDescription": self.description,
            "LastRunTime": self.last_run,
            "ParallelismConfiguration": self.parallelism,
            "PipelineVersionDisplayName": version.display_name,
            "PipelineVersionDescription": version.description,
        }
        return {
            "PipelineArn": self.arn,
            "PipelineName": self.name,
            "PipelineDisplayName": self.display_name,
            "PipelineDefinition": version.definition,
            "RoleArn": self.role,
            "PipelineStatus": "Active",
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "CreatedBy": {},
            "LastModifiedBy": {},
        } | {member: value for member, value in optional.items() if value is not None}

    def summary(self) -> Json:
        """The members of PipelineSummary."""
        summary: Json = {
            "PipelineArn": self.arn,
            "PipelineName": self.name,
            "PipelineDisplayName": self.display_name,
            "RoleArn": self.role,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
        }
        summary |= {"PipelineDescription": self.description} if self.description is not None else {}
        return summary | ({"LastExecutionTime": self.last_run} if self.last_run else {})


@dataclass(slots=True)
class PipelinesState:
    """All that the room knows: pipelines and executions by ARN, and the answers to requests with a token."""

    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    answers: dict[str, tuple[Json, Json]] = field(default_factory=dict)
    """Operation and ClientRequestToken to the request and its answer."""

    def executions_of(self, pipeline_arn: str) -> list[Execution]:
        return [execution for execution in self.executions.values() if execution.pipeline_arn == pipeline_arn]
