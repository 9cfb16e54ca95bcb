"""What is known of a job, as plain data: for the terminal, the page, and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidegate.client.report.figures import Figures
from tidegate.client.report.log_lines import Answered
from tidegate.client.report.objects import Objects
from tidegate.client.report.origins import Found
from tidegate.client.report.spread import Spread

PERCENTILES = (50, 90, 99)
REQUESTS, INPUT, ORIGINS, UTILISATION = "requests", "objects", "origins", "utilisation"
"""The parts that may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the job's time."""

    name: str
    began_s: float
    ended_s: float

    @property
    def duration_s(self) -> float:
        return self.ended_s - self.began_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A part that could not be had."""

    part: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectError:
    """An object that the platform says failed."""

    address: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """How busy an instance was, by CloudWatch, in percent; a core or a GPU is 100."""

    instance: str
    metric: str
    average: float
    greatest: float


@dataclass(slots=True, kw_only=True)
class Report:
    """One transform job, as far as it has come at `made_at`. `job` is what DescribeTransformJob said."""

    name: str
    made_at: datetime
    job: Mapping[str, Any]
    figures: Figures
    has_requests: bool = False
    """Whether the server's lines were there to be counted."""
    objects: Objects | None = None
    found: Found = field(default_factory=Found)
    object_errors: list[ObjectError] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    settings: str = ""
    """What the platform says that it decided: requests at a time, their size, records in them."""
    missing: list[Missing] = field(default_factory=list)

    @property
    def status(self) -> str:
        return str(self.job["TransformJobStatus"])

    @property
    def is_running(self) -> bool:
        return self.status in ("InProgress", "Stopping")

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing that the job should have left."""
        return not any(each.part in (REQUESTS, INPUT) for each in self.missing)

    @property
    def failure_reason(self) -> str:
        return str(self.job.get("FailureReason", ""))

    @property
    def began_s(self) -> float:
        created: datetime = self.job["CreationTime"]
        return created.timestamp()

    @property
    def ended_s(self) -> float:
        ended: datetime = self.job.get("TransformEndTime") or self.made_at
        return ended.timestamp()

    @property
    def billed_s(self) -> float | None:
        """All instances together, from TransformStartTime to TransformEndTime.

        Source: API reference, DescribeTransformJob: "You are billed for the time interval between this time and the
        value of TransformEndTime."
        """
        started: datetime | None = self.job.get("TransformStartTime")
        if started is None:
            return None
        seconds = max(self.ended_s - started.timestamp(), 0.0)
        return seconds * int(self.job.get("TransformResources", {}).get("InstanceCount", 1))

    @property
    def phases(self) -> list[Phase]:
        """The job's time, cut at what is known: the first server's life, the first request and the last response."""
        figures = self.figures
        started: datetime | None = self.job.get("TransformStartTime")
        marks: list[tuple[str, float | None]] = [
            ("instance, image, archive", self.began_s),
            ("model is loaded", figures.first_of("listening")),
            ("waiting for the first request", figures.first_of("ready")),
            ("requests", figures.first_s),
            ("after the last response", figures.last_s),
        ]
        if not any(at_s is not None for _, at_s in marks[1:]):
            marks = [("start", self.began_s), ("job", started.timestamp() if started is not None else None)]
        known = [(name, at_s) for name, at_s in marks if at_s is not None]
        phases, at_s = [], self.began_s
        for (name, _), following in zip(known, [*(at for _, at in known[1:]), self.ended_s], strict=True):
            until_s = min(max(following, at_s), max(self.ended_s, at_s))  # clocks differ
            phases.append(Phase(name=name, began_s=at_s, ended_s=until_s))
            at_s = until_s
        return phases

    @property
    def work_s(self) -> float | None:
        """From the first request to the last response."""
        first_s, last_s = self.figures.first_s, self.figures.last_s
        return None if first_s is None or last_s is None else max(last_s - first_s, 0.0)

    def as_json(self) -> dict[str, Any]:
        """For programs. What is not known is null; names have their units."""
        job, figures, resources = self.job, self.figures, self.job.get("TransformResources", {})
        return {
            "job": self.name,
            "status": self.status,
            "failure_reason": self.failure_reason or None,
            "model": job.get("ModelName"),
            "instance_type": resources.get("InstanceType"),
            "instance_count": resources.get("InstanceCount"),
            "strategy": job.get("BatchStrategy"),
            "split": job.get("TransformInput", {}).get("SplitType", "None"),
            "decided": self.settings or None,
            "created_at": job["CreationTime"].isoformat(),
            "started_at": _iso(job.get("TransformStartTime")),
            "ended_at": _iso(job.get("TransformEndTime")),
            "duration_s": round(self.ended_s - self.began_s, 3),
            "billed_instance_s": None if self.billed_s is None else round(self.billed_s, 3),
            "phases": [{"name": phase.name, "duration_s": round(phase.duration_s, 3)} for phase in self.phases],
            "objects": self._objects(),
            "requests": self._requests() if self.has_requests else None,
            "over_time": {
                "began_at_s": figures.over_time.began_s,
                "slot_s": figures.over_time.width_s,
                "requests": [slot.requests for slot in figures.over_time.slots],
                "records": [slot.records for slot in figures.over_time.slots],
                "request_bytes": [slot.request_bytes for slot in figures.over_time.slots],
                "failed": [slot.failed for slot in figures.over_time.slots],
                "at_hand": [round(slot.busy_s / figures.over_time.width_s, 3) for slot in figures.over_time.slots],
            },
            "slowest": [self._request(request) for request in figures.slowest],
            "errors": [
                {
                    "status": kind.status,
                    "code": kind.code,
                    "count": kind.count,
                    "cause": kind.cause or None,
                    "first": self._request(kind.first) | {"error": kind.first.error},
                }
                for kind in figures.kinds.values()
            ],
            "object_errors": [{"object": each.address, "error": each.says} for each in self.object_errors],
            "instances": [
                {
                    "instance": name,
                    "requests": of.requests,
                    "failed": of.failed,
                    "records": of.records,
                    "request_bytes": of.request_bytes,
                    "busy_s": round(of.busy_s, 3),
                }
                for name, of in figures.instances.items()
            ],
            "utilisation": [
                {"instance": each.instance, "metric": each.metric, "average": each.average, "max": each.greatest}
                for each in self.used
            ],
            "missing": [{"part": each.part, "why": each.why} for each in self.missing],
        }

    def _objects(self) -> dict[str, Any] | None:
        objects = self.objects
        if objects is None:
            return None
        return {
            "inputs": len(objects.inputs),
            "input_bytes": objects.input_bytes,
            "written": objects.written,
            "output_bytes": objects.output_bytes,
            "unwritten": objects.unwritten[:100],
            "more": objects.cut,
            "blank_lines": self.found.blank_lines,
        }

    def _requests(self) -> dict[str, Any]:
        figures = self.figures
        return {
            "count": figures.requests,
            "failed": figures.failed,
            "records": figures.records,
            "records_unknown": figures.records_unknown,
            "request_bytes": figures.request_bytes,
            "response_bytes": figures.response_bytes,
            "tried_again": figures.tried_again,
            "sent_again": figures.sent_again,
            "work_s": None if self.work_s is None else round(self.work_s, 3),
            "duration_ms": percentiles(figures.durations_ms),
            "queue_ms": percentiles(figures.queue_ms),
            "worker_ms": percentiles(figures.worker_ms),
            "lines": percentiles(figures.lines),
        }

    def _request(self, request: Answered) -> dict[str, Any]:
        origin = self.found.origins.get(request.request_id)
        return {
            "request_id": request.request_id,
            "status": request.status,
            "duration_ms": request.duration_ms,
            "request_bytes": request.request_bytes,
            "lines": request.lines,
            "object": None if origin is None else origin.address,
            "line": None if origin is None else origin.line,
            "alike": 0 if origin is None else origin.alike,
        }


def percentiles(spread: Spread) -> dict[str, float] | None:
    """The mean, the percentiles and the greatest of what was counted; None where nothing was."""
    if not spread.count:
        return None
    found = {f"p{percent}": round(spread.percentile(percent), 3) for percent in PERCENTILES}
    return {"mean": round(spread.total / spread.count, 3), **found, "max": round(spread.greatest, 3)}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
