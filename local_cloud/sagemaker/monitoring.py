"""Model Monitor: definitions of data quality jobs and their schedules, recorded and described. No job of them runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from tidegate.local_cloud.sagemaker.errors import resource_in_use, resource_not_found, validation_exception
from tidegate.local_cloud.sagemaker.state import Identity, Json, Tags, now, page

# Whether an endpoint of that name captures its requests. Raises the service's ValidationException where there is none.
Captures = Callable[[str], bool]


@dataclass(slots=True, kw_only=True)
class _Record:
    """What was asked for, and when."""

    name: str
    arn: str
    request: Json
    created: datetime
    modified: datetime

    @property
    def described(self) -> Json:
        return {key: value for key, value in self.request.items() if key != "Tags"} | {"CreationTime": self.created}


@dataclass(slots=True, kw_only=True)
class Monitoring:
    """All definitions and schedules of this SageMaker."""

    KEPT: ClassVar[tuple[str, ...]] = ("_definitions", "_schedules")

    identity: Identity
    tags: Tags
    captures: Captures
    _definitions: dict[str, _Record] = field(default_factory=dict)
    _schedules: dict[str, _Record] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def create_definition(self, request: Json) -> Json:
        """CreateDataQualityJobDefinition; the endpoint must be there and capture ("Capture data")."""
        endpoint = _endpoint_of(request)
        if endpoint is not None and not self.captures(endpoint):
            raise validation_exception(f"Endpoint {endpoint} captures no data: its configuration has no data capture.")
        record = self._add(self._definitions, "data-quality-job-definition", request["JobDefinitionName"], request)
        return {"JobDefinitionArn": record.arn}

    def describe_definition(self, request: Json) -> Json:
        record = self._find(self._definitions, request["JobDefinitionName"])
        return record.described | {"JobDefinitionArn": record.arn}

    def list_definitions(self, request: Json) -> Json:
        with self._lock:
            summaries = [
                {
                    "MonitoringJobDefinitionName": record.name,
                    "MonitoringJobDefinitionArn": record.arn,
                    "CreationTime": record.created,
                    "EndpointName": _endpoint_of(record.request) or "",
                }
                for record in self._definitions.values()
            ]
        chosen = [one for one in summaries if request.get("EndpointName", one["EndpointName"]) == one["EndpointName"]]
        items, token = page(chosen, request, name_key="MonitoringJobDefinitionName")
        return {"JobDefinitionSummaries": items} | ({"NextToken": token} if token else {})

    def delete_definition(self, request: Json) -> Json:
        with self._lock:
            record = self._find(self._definitions, request["JobDefinitionName"])
            if user := next((one for one in self._schedules.values() if _definition_of(one) == record.name), None):
                # DeleteDataQualityJobDefinition has no ResourceInUse; the sentence is not verified.
                raise validation_exception(f"Job definition {record.name} is used by monitoring schedule {user.name}")
            return self._remove(self._definitions, record)

    def create_schedule(self, request: Json) -> Json:
        """CreateMonitoringSchedule, with the name of a definition or one of its own."""
        self._check(request)
        record = self._add(self._schedules, "monitoring-schedule", request["MonitoringScheduleName"], request)
        return {"MonitoringScheduleArn": record.arn}

    def update_schedule(self, request: Json) -> Json:
        self._check(request)
        with self._lock:
            record = self._find(self._schedules, request["MonitoringScheduleName"])
            config = {"MonitoringScheduleConfig": request["MonitoringScheduleConfig"]}
            record.request, record.modified = record.request | config, now()
            return {"MonitoringScheduleArn": record.arn}

    def describe_schedule(self, request: Json) -> Json:
        with self._lock:
            record = self._find(self._schedules, request["MonitoringScheduleName"])
            description = self._summary(record) | {
                "MonitoringScheduleConfig": record.request["MonitoringScheduleConfig"],
            }
            description.pop("MonitoringJobDefinitionName", None)  # which only the list has
            return description

    def list_schedules(self, request: Json) -> Json:
        with self._lock:
            summaries = [self._summary(record) for record in self._schedules.values()]
        chosen = [
            one for one in summaries if request.get("EndpointName", one.get("EndpointName")) == one.get("EndpointName")
        ]
        items, token = page(chosen, request, name_key="MonitoringScheduleName", status_key="MonitoringScheduleStatus")
        return {"MonitoringScheduleSummaries": items} | ({"NextToken": token} if token else {})

    def delete_schedule(self, request: Json) -> Json:
        with self._lock:
            return self._remove(self._schedules, self._find(self._schedules, request["MonitoringScheduleName"]))

    @staticmethod
    def list_executions(_: Json) -> Json:
        """ListMonitoringExecutions: there are none."""
        return {"MonitoringExecutionSummaries": []}

    def arns(self) -> set[str]:
        """What tags may be given to."""
        with self._lock:
            return {record.arn for records in (self._definitions, self._schedules) for record in records.values()}

    def _check(self, request: Json) -> None:
        config = request.get("MonitoringScheduleConfig", {})
        named, own = config.get("MonitoringJobDefinitionName"), config.get("MonitoringJobDefinition")
        if (named is None) == (own is None):
            raise validation_exception(
                "MonitoringScheduleConfig takes either MonitoringJobDefinitionName or MonitoringJobDefinition."
            )
        if named is not None and named not in self._definitions:
            # CreateMonitoringSchedule has no ResourceNotFound.
            raise validation_exception(f"Could not find requested resource with name: {named}")

    def _summary(self, record: _Record) -> Json:
        config = record.request["MonitoringScheduleConfig"]
        summary: Json = {
            "MonitoringScheduleName": record.name,
            "MonitoringScheduleArn": record.arn,
            "CreationTime": record.created,
            "LastModifiedTime": record.modified,
            "MonitoringScheduleStatus": "Scheduled",
            "MonitoringType": config.get("MonitoringType", "DataQuality"),
        }
        if (definition := _definition_of(record)) is not None:
            summary["MonitoringJobDefinitionName"] = definition
            if definition in self._definitions:
                summary["EndpointName"] = _endpoint_of(self._definitions[definition].request)
        return {name: value for name, value in summary.items() if value is not None}

    def _add(self, records: dict[str, _Record], kind: str, name: str, request: Json) -> _Record:
        arn, moment = self.identity.arn(kind, name), now()
        with self._lock:
            if name in records:
                raise resource_in_use(f"{arn} already exists")
            record = records[name] = _Record(name=name, arn=arn, request=request, created=moment, modified=moment)
            self.tags.add(arn, request.get("Tags", []))
            return record

    def _find(self, records: dict[str, _Record], name: str) -> _Record:
        with self._lock:
            if name not in records:
                raise resource_not_found(f"Could not find requested resource with name: {name}")
            return records[name]

    def _remove(self, records: dict[str, _Record], record: _Record) -> Json:
        del records[record.name]
        self.tags.forget(record.arn)
        return {}


def _endpoint_of(request: Json) -> str | None:
    """Whose captures a definition looks at; None for those of transform jobs."""
    name: str | None = request["DataQualityJobInput"].get("EndpointInput", {}).get("EndpointName")
    return name


def _definition_of(schedule: _Record) -> str | None:
    name: str | None = schedule.request["MonitoringScheduleConfig"].get("MonitoringJobDefinitionName")
    return name
