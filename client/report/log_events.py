"""The log streams of a transform job, and their events.

Sources: developer guide, "Log Groups and Streams" (logging-cloudwatch): the group has the streams
`JOB/INSTANCE-EPOCH`, `JOB/INSTANCE-EPOCH/data-log` and, of a pipeline, `JOB/INSTANCE-EPOCH/CONTAINER`; API reference of
CloudWatch Logs, GetLogEvents: the end is where the token that was given comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

GROUP = "/aws/sagemaker/TransformJobs"
_DATA_LOG = "data-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream. `container` is its name where the job's model has several, else empty."""

    name: str
    instance: str
    container: str

    @property
    def writer(self) -> str:
        """Who wrote it, in a word."""
        return f"{self.instance}/{self.container}" if self.container else self.instance

    @property
    def is_data_log(self) -> bool:
        return self.container == _DATA_LOG


def streams(logs: Any, job_name: str) -> list[Stream]:
    """The streams of a job, by name. Raises what boto3 raises."""
    found = []
    prefix = f"{job_name}/"
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=GROUP, logStreamNamePrefix=prefix):
        for item in page["logStreams"]:
            host, _, container = item["logStreamName"].removeprefix(prefix).partition("/")
            instance = host.rpartition("-")[0] or host
            found.append(Stream(name=item["logStreamName"], instance=instance, container=container))
    return sorted(found, key=lambda stream: stream.name)


def events(logs: Any, stream: Stream) -> Iterator[str]:
    """What was written to a stream so far, from its beginning. Raises what boto3 raises."""
    token: dict[str, str] = {}
    while True:
        page = logs.get_log_events(logGroupName=GROUP, logStreamName=stream.name, startFromHead=True, **token)
        for event in page["events"]:
            yield event["message"]
        if token.get("nextToken") == page["nextForwardToken"]:
            return
        token = {"nextToken": page["nextForwardToken"]}
