"""Hyperparameter tuning jobs: training jobs one after the other, and the best of them by its final metric.

The strategies are Random and Grid; Bayesian is run as Random, because nothing here learns from the jobs before. Source:
CreateHyperParameterTuningJob in the API reference, "How Hyperparameter Tuning Works" in the developer guide. The
sentences about a missing metric and about failed jobs are the service's own.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from tidegate.local_cloud.sagemaker.errors import ServiceError, resource_not_found, validation_exception
from tidegate.local_cloud.sagemaker.jobs.job_table import JobTable
from tidegate.local_cloud.sagemaker.jobs.training_jobs import TrainingJobs
from tidegate.local_cloud.sagemaker.jobs.training_rules import check_training_request
from tidegate.local_cloud.sagemaker.jobs.training_state import TrainingJob
from tidegate.local_cloud.sagemaker.jobs.tuning_ranges import check_ranges, drawn, grid, size
from tidegate.local_cloud.sagemaker.model_packages import Announce
from tidegate.local_cloud.sagemaker.state import Identity, Json, Tags, now, page, part

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_FAILED_AT_FIRST = 5  # after so many jobs without a success the service gives up
_OF_THE_DEFINITION = (
    "RoleArn",
    "InputDataConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "StoppingCondition",
    "VpcConfig",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "RetryStrategy",
    "Environment",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One training job of a tuning job, with the hyperparameters that were chosen for it."""

    job: TrainingJob
    tuned: dict[str, str]


@dataclass(slots=True, kw_only=True)
class TuningJob:
    """One tuning job's plain state."""

    name: str
    arn: str
    request: Json
    created: datetime
    modified: datetime
    status: str = "InProgress"
    ended: datetime | None = None
    failure_reason: str | None = None
    trials: list[Trial] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    worker: threading.Thread | None = None

    @property
    def config(self) -> Json:
        config: Json = self.request["HyperParameterTuningJobConfig"]
        return config

    @property
    def definition(self) -> Json:
        definition: Json = self.request["TrainingJobDefinition"]
        return definition

    @property
    def objective(self) -> Json:
        objective: Json = self.config["HyperParameterTuningJobObjective"]
        return objective

    def cut_off(self, status: str, reason: str | None) -> None:
        """As a job ends whose process is gone."""
        self.status, self.failure_reason, self.ended = status, reason, now()
        self.modified = self.ended

    def value_of(self, trial: Trial) -> float | None:
        """The final value of the objective; None for a job that has not completed, or that printed none."""
        found = trial.job.final_metrics.get(self.objective["MetricName"])
        return found[0] if found is not None and trial.job.status == "Completed" else None

    def best(self) -> Trial | None:
        valued = [(value, trial) for trial in self.trials if (value := self.value_of(trial)) is not None]
        if not valued:
            return None
        choose = max if self.objective["Type"] == "Maximize" else min
        return choose(valued, key=lambda pair: pair[0])[1]

    def combinations(self) -> Iterator[dict[str, str]]:
        """What is to be tried, in order."""
        ranges, limits = self.config.get("ParameterRanges", {}), self.config["ResourceLimits"]
        if self.config["Strategy"] == "Grid":
            return grid(ranges)
        return drawn(ranges, seed=self.config.get("RandomSeed"), count=limits["MaxNumberOfTrainingJobs"])

    def counters(self) -> Json:
        statuses = [trial.job.status for trial in self.trials]
        succeeded = sum(self.value_of(trial) is not None for trial in self.trials)
        pending = sum(status in ("InProgress", "Stopping") for status in statuses)
        return {
            "TrainingJobStatusCounters": {
                "Completed": statuses.count("Completed"),
                "InProgress": pending,
                "RetryableError": 0,
                "NonRetryableError": statuses.count("Failed"),
                "Stopped": statuses.count("Stopped"),
            },
            "ObjectiveStatusCounters": {
                "Succeeded": succeeded,
                "Pending": pending,
                "Failed": len(statuses) - succeeded - pending,
            },
        }

    def summary_of(self, trial: Trial) -> Json:
        """The members of HyperParameterTrainingJobSummary."""
        job, value = trial.job, self.value_of(trial)
        pending = job.status in ("InProgress", "Stopping")
        summary: Json = {
            "TrainingJobName": job.name,
            "TrainingJobArn": job.arn,
            "CreationTime": job.created,
            "TrainingJobStatus": job.status,
            "TunedHyperParameters": trial.tuned,
            "ObjectiveStatus": "Pending" if pending else "Failed" if value is None else "Succeeded",
        }
        summary |= {"TrainingStartTime": job.started} if job.started else {}
        summary |= {"TrainingEndTime": job.ended} if job.ended else {}
        summary |= {"FailureReason": job.failure_reason} if job.failure_reason else {}
        if value is not None:
            summary["FinalHyperParameterTuningJobObjectiveMetric"] = {**self.objective, "Value": value}
        return summary

    def described(self) -> Json:
        """The members of DescribeHyperParameterTuningJob."""
        description = {key: value for key, value in self.request.items() if key != "Tags"}
        description |= {
            "HyperParameterTuningJobArn": self.arn,
            "HyperParameterTuningJobStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            **self.counters(),
        }
        description |= {"HyperParameterTuningEndTime": self.ended} if self.ended else {}
        description |= {"FailureReason": self.failure_reason} if self.failure_reason else {}
        best = self.best()
        return description | ({"BestTrainingJob": self.summary_of(best)} if best is not None else {})

    def summary(self) -> Json:
        """The members of HyperParameterTuningJobSummary."""
        return {
            "HyperParameterTuningJobName": self.name,
            "HyperParameterTuningJobArn": self.arn,
            "HyperParameterTuningJobStatus": self.status,
            "Strategy": self.config["Strategy"],
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "ResourceLimits": self.config["ResourceLimits"],
            **self.counters(),
        } | ({"HyperParameterTuningEndTime": self.ended} if self.ended else {})

    def training_request(self, name: str, tuned: dict[str, str]) -> Json:
        """The CreateTrainingJob request of a trial."""
        definition = self.definition
        kept = {member: definition[member] for member in _OF_THE_DEFINITION if member in definition}
        if "HyperParameterTuningResourceConfig" in definition:
            # Of several kinds of instances the first is what the service would prefer.
            given = dict(definition["HyperParameterTuningResourceConfig"])
            preferred, _ = (given.pop("InstanceConfigs", None) or [{}])[0], given.pop("AllocationStrategy", None)
            kept["ResourceConfig"] = {**given, **preferred}
        return {
            "TrainingJobName": name,
            "AlgorithmSpecification": definition["AlgorithmSpecification"],
            "HyperParameters": {
                **definition.get("StaticHyperParameters", {}),
                **tuned,
                "_tuning_objective_metric": self.objective["MetricName"],
            },
            **kept,
        }


@dataclass(slots=True, kw_only=True)
class TuningJobs:
    """All tuning jobs of this SageMaker; ``training`` runs their training jobs."""

    KEPT: ClassVar[tuple[str, ...]] = ("_table._jobs",)

    training: TrainingJobs
    identity: Identity
    tags: Tags
    announce: Announce
    _table: JobTable[TuningJob] = field(init=False)

    def __post_init__(self) -> None:
        self._table = JobTable(
            kind="HyperParameter Tuning Job",
            taken="Hyper parameter tuning job names must be unique within an AWS account and region, and a tuning job"
            " with this name already exists",
            missing=lambda name: resource_not_found(
                f"Amazon SageMaker can't find a tuning job with the name {name} in this region."
            ),
            tags=self.tags,
            announce=self.announce,
        )

    def create(self, request: Json) -> Json:
        """CreateHyperParameterTuningJob."""
        name = request["HyperParameterTuningJobName"]
        arn, moment = self.identity.arn("hyper-parameter-tuning-job", name), now()
        _check(request)
        job = TuningJob(name=name, arn=arn, request=request, created=moment, modified=moment)
        trial = job.training_request(f"{name}-001", {})
        check_training_request(trial)
        self.training.check_inputs(trial)
        self._table.start(job, lambda: self._work(job))
        return {"HyperParameterTuningJobArn": arn}

    def describe(self, request: Json) -> Json:
        """DescribeHyperParameterTuningJob."""
        return self._table.described(request["HyperParameterTuningJobName"])

    def listing(self, request: Json) -> Json:
        """ListHyperParameterTuningJobs."""
        summaries = self._table.summaries()
        items, token = page(
            summaries, request, name_key="HyperParameterTuningJobName", status_key="HyperParameterTuningJobStatus"
        )
        return {"HyperParameterTuningJobSummaries": items} | ({"NextToken": token} if token else {})

    def trials(self, request: Json) -> Json:
        """ListTrainingJobsForHyperParameterTuningJob."""
        with self._table.lock:
            job = self._table.find(request["HyperParameterTuningJobName"])
            summaries = [job.summary_of(trial) for trial in job.trials]
        if request.get("SortBy") == "FinalObjectiveMetricValue":
            wanted = request.get("StatusEquals")
            metric = "FinalHyperParameterTuningJobObjectiveMetric"
            # Jobs without a value are left out, as the API reference says.
            valued = [item for item in summaries if metric in item and wanted in (None, item["TrainingJobStatus"])]
            descending = request.get("SortOrder", "Ascending") == "Descending"
            valued.sort(key=lambda item: float(item[metric]["Value"]), reverse=descending)
            items, token = part(valued, request)
        else:
            items, token = page(summaries, request, name_key="TrainingJobName", status_key="TrainingJobStatus")
        return {"TrainingJobSummaries": items} | ({"NextToken": token} if token else {})

    def stop(self, request: Json) -> Json:
        """StopHyperParameterTuningJob."""
        with self._table.lock:
            job = self._table.find(request["HyperParameterTuningJobName"])
            if job.status not in ("InProgress", "Stopping"):
                raise validation_exception(
                    f"The request was rejected because the hyperparameter tuning job is in status {job.status}."
                )
            job.status, job.modified = "Stopping", now()
            job.stopping.set()
        return {}

    def arns(self) -> set[str]:
        return self._table.arns()

    def resume(self) -> list[str]:
        """After a restart: a job that was running has failed."""
        return self._table.resume()

    def close(self) -> None:
        """Starts no more training jobs; returns when nothing is left running. ``training`` ends the running ones."""
        for job in self._table.shut():
            job.stopping.set()
        self._table.close()

    def _work(self, job: TuningJob) -> None:
        self._table.tell(job)
        status, reason = "Completed", None
        try:
            self._try_all(job)
            if job.stopping.is_set():
                status = "Stopped"
            elif job.best() is None:
                status = "Failed"
                reason = _why_there_is_no_best(job)
        except ServiceError as error:  # its training jobs are not accepted any more
            status, reason = "Failed", f"ClientError: {error.message}"
        except Exception as error:
            logger.exception("tuning job %s broke", job.name)
            status, reason = "Failed", f"InternalServerError: {type(error).__name__}: {error}"
        with self._table.lock:
            job.status, job.ended, job.failure_reason = status, now(), reason
            job.modified = job.ended
        self._table.tell(job)
        logger.info("tuning job %s: %s %s", job.name, status, reason or "")

    def _try_all(self, job: TuningJob) -> None:
        began = time.monotonic()
        max_runtime_s = job.config["ResourceLimits"].get("MaxRuntimeInSeconds", float("inf"))
        for number, tuned in enumerate(job.combinations(), start=1):
            if job.stopping.is_set() or _is_satisfied(job):
                return
            name = f"{job.name}-{number:03d}-{secrets.token_hex(4)}"
            training = self.training.begin(job.training_request(name, tuned), tuning_arn=job.arn)
            with self._table.lock:
                job.trials.append(Trial(training, tuned))
                job.modified = now()
            is_stopped = False
            while not training.is_over:
                late = time.monotonic() - began >= max_runtime_s
                if (job.stopping.is_set() or late) and not is_stopped:
                    is_stopped = True
                    self.training.end(training)
                time.sleep(_POLL_S)
            if time.monotonic() - began >= max_runtime_s:
                return
            if number == _FAILED_AT_FIRST and all(trial.job.status == "Failed" for trial in job.trials):
                return


def _why_there_is_no_best(job: TuningJob) -> str:
    if any(trial.job.status == "Completed" for trial in job.trials):
        metric = job.objective["MetricName"]
        return f"ClientError: no training job has written the objective metric {metric} as its Regex expects it."
    return "All training jobs failed. Please take a look at the training jobs failures to get more details."


def _is_satisfied(job: TuningJob) -> bool:
    """Whether TuningJobCompletionCriteria say that there is no need to go on."""
    criteria = job.config.get("TuningJobCompletionCriteria", {})
    best = job.best()
    value = None if best is None else job.value_of(best)
    if best is None or value is None:
        return False
    target = criteria.get("TargetObjectiveMetricValue")
    if target is not None:
        return bool(value >= target if job.objective["Type"] == "Maximize" else value <= target)
    patience = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
    return bool(patience is not None and len(job.trials) - 1 - job.trials.index(best) >= patience)


def _check(request: Json) -> None:
    """The rules of CreateHyperParameterTuningJob that its shapes do not state. Raises a ValidationException."""
    config, definition = request["HyperParameterTuningJobConfig"], request.get("TrainingJobDefinition")
    if definition is None:
        raise validation_exception("The local cloud needs TrainingJobDefinition.")
    if ("ResourceConfig" in definition) == ("HyperParameterTuningResourceConfig" in definition):
        raise validation_exception(
            "TrainingJobDefinition takes either ResourceConfig or HyperParameterTuningResourceConfig."
        )
    objective = config.get("HyperParameterTuningJobObjective")
    metrics = [item["Name"] for item in definition["AlgorithmSpecification"].get("MetricDefinitions", [])]
    if objective is None or objective["MetricName"] not in metrics:
        raise validation_exception(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the metric"
            " definitions."
        )
    strategy, limits = config["Strategy"], config["ResourceLimits"]
    check_ranges(config.get("ParameterRanges", {}), strategy)
    asked = limits.get("MaxNumberOfTrainingJobs")
    if strategy != "Grid" and asked is None:
        raise validation_exception(f"The strategy {strategy} needs MaxNumberOfTrainingJobs.")
    if strategy == "Grid":
        count = size(config["ParameterRanges"])
        if asked is not None and asked != count:
            raise validation_exception(
                f"MaxNumberOfTrainingJobs is {asked}; the strategy Grid has {count} combinations of these ranges."
            )
    clash = set(definition.get("StaticHyperParameters", {})) & {
        item["Name"] for kind in config.get("ParameterRanges", {}).values() for item in kind
    }
    if clash:
        raise validation_exception(
            f"These hyperparameters are static and have a range as well: {', '.join(sorted(clash))}."
        )
