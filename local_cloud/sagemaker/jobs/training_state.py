"""The plain state of a training job, how it changes, and how it is described."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tidegate.local_cloud.sagemaker.jobs.artifacts import key_below
from tidegate.local_cloud.sagemaker.jobs.training_rules import DEFAULT_MAX_RUNTIME_S
from tidegate.local_cloud.sagemaker.state import Json, now

_FAILURE_REASON_CHARS = 1024  # DescribeTrainingJob: FailureReason
_MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "Interrupted": "Training job interrupted; it starts again",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}


@dataclass(slots=True, kw_only=True)
class TrainingJob:
    """One job. Whoever changes it holds the lock of the room."""

    name: str
    arn: str
    request: Json
    created: datetime
    modified: datetime
    tuning_arn: str | None = None
    status: str = "InProgress"
    transitions: list[Json] = field(default_factory=list)
    started: datetime | None = None
    ended: datetime | None = None
    trained_s: float = 0.0
    failure_reason: str | None = None
    final_metrics: dict[str, tuple[float, datetime]] = field(default_factory=dict)
    reused_by: str | None = None
    """The job that took over the warm pool of this one."""
    stopping: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    worker: threading.Thread | None = None

    @property
    def secondary(self) -> str:
        status: str = self.transitions[-1]["Status"]
        return status

    @property
    def is_over(self) -> bool:
        return self.status in ("Completed", "Failed", "Stopped")

    @property
    def stopping_condition(self) -> Json:
        return {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME_S, **self.request.get("StoppingCondition", {})}

    @property
    def output_uri(self) -> str:
        """Where the archives go: `S3OutputPath/JOB/output`."""
        scheme, _, path = self.request["OutputDataConfig"]["S3OutputPath"].partition("://")
        return f"{scheme}://{key_below(path, f'{self.name}/output')}"

    @property
    def is_compressed(self) -> bool:
        return bool(self.request["OutputDataConfig"].get("CompressionType", "GZIP") == "GZIP")

    @property
    def artifacts_uri(self) -> str:
        return f"{self.output_uri}/model.tar.gz" if self.is_compressed else f"{self.output_uri}/model/"

    @property
    def keep_alive_s(self) -> int:
        seconds: int = self.request["ResourceConfig"].get("KeepAlivePeriodInSeconds", 0)
        return seconds

    def goes_to(self, secondary: str) -> None:
        """Ends the secondary status that it has, and begins another."""
        moment = now()
        if self.transitions:
            self.transitions[-1].setdefault("EndTime", moment)
        self.transitions.append({"Status": secondary, "StartTime": moment, "StatusMessage": _MESSAGES[secondary]})
        self.modified = moment

    def ends(self, status: str, secondary: str, reason: str | None = None) -> None:
        self.goes_to(secondary)
        self.transitions[-1]["EndTime"] = self.modified
        self.status, self.ended = status, self.modified
        self.failure_reason = reason[:_FAILURE_REASON_CHARS] if reason else None

    def cut_off(self, status: str, reason: str | None) -> None:
        """As a job ends whose process is gone."""
        self.ends(status, status, reason)

    def warm_pool(self) -> Json | None:
        """WarmPoolStatus: kept after its end for KeepAlivePeriodInSeconds, unless another job takes it over."""
        if not self.keep_alive_s:
            return None
        if self.ended is None:
            return {"Status": "InUse"}
        if self.reused_by is not None:
            return {"Status": "Reused", "ReusedByJob": self.reused_by}
        kept_s = (now() - self.ended).total_seconds()
        if self.status == "Completed" and kept_s < self.keep_alive_s:
            return {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": int(kept_s)}
        retained_s = self.keep_alive_s if self.status == "Completed" else 0
        return {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": retained_s}

    def described(self) -> Json:
        """The members of DescribeTrainingJob."""
        description = {key: value for key, value in self.request.items() if key != "Tags"}
        for member in ("NetworkIsolation", "InterContainerTrafficEncryption", "ManagedSpotTraining"):
            description.setdefault(f"Enable{member}", False)
        description |= {
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self.secondary,
            "SecondaryStatusTransitions": [dict(transition) for transition in self.transitions],
            "ModelArtifacts": {"S3ModelArtifacts": self.artifacts_uri},
            # The service describes these two also where they were not given, and the SDKs read them.
            "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP", **self.request["OutputDataConfig"]},
            "StoppingCondition": self.stopping_condition,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "ProfilingStatus": "Disabled",
        }
        description |= {"TuningJobArn": self.tuning_arn} if self.tuning_arn else {}
        description |= {"TrainingStartTime": self.started} if self.started else {}
        description |= {"FailureReason": self.failure_reason} if self.failure_reason else {}
        if self.final_metrics:
            description["FinalMetricDataList"] = [
                {"MetricName": name, "Value": value, "Timestamp": moment}
                for name, (value, moment) in self.final_metrics.items()
            ]
        if self.ended:
            description["TrainingEndTime"] = self.ended
            if self.started:
                seconds = max(round(self.trained_s), 1)
                description |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        if warm_pool := self.warm_pool():
            description["WarmPoolStatus"] = warm_pool
        return description

    def summary(self) -> Json:
        """The members of a summary in ListTrainingJobs."""
        summary: Json = {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self.secondary,
        }
        summary |= {"TrainingEndTime": self.ended} if self.ended else {}
        if warm_pool := self.warm_pool():
            summary["WarmPoolStatus"] = warm_pool
        return summary

    def could_use_the_pool_of(self, other: TrainingJob) -> bool:
        """Whether this job fits into the warm pool of another; "Matching training jobs" (train-warm-pools)."""
        warm_pool = other.warm_pool()
        if not self.keep_alive_s or warm_pool is None or warm_pool["Status"] != "Available":
            return False
        return _pool_key(self.request) == _pool_key(other.request)

    def deadline_of_waiting(self) -> datetime | None:
        """When MaxWaitTimeInSeconds is over, which counts from the creation."""
        wait_s = self.stopping_condition.get("MaxWaitTimeInSeconds")
        return None if wait_s is None else self.created + timedelta(seconds=wait_s)


def _pool_key(request: Json) -> Json:
    resources = request["ResourceConfig"]
    compared = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")
    return {
        "role": request["RoleArn"],
        "image": request["AlgorithmSpecification"]["TrainingImage"],
        "network": request.get("VpcConfig"),
        "isolated": request.get("EnableNetworkIsolation", False),
        "encrypted": request.get("EnableInterContainerTrafficEncryption", False),
        **{member: resources.get(member) for member in compared},
    }
