"""Reads what a job's command writes while it writes it: lines for CloudWatch Logs, and metrics out of them.

Sources: "Log Groups and Streams" (logging-cloudwatch) and "Define Training Metrics" (define-train-metrics) in the
developer guide: the group `/aws/sagemaker/TrainingJobs` has a stream `JOB/algo-N-EPOCH` for each host, the namespace
`/aws/sagemaker/TrainingJobs` the metrics with the dimension `TrainingJobName`.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.state import now

logger = logging.getLogger(__name__)

_PAUSE_S = 0.2
_READ_BYTES = 1024 * 1024
_EVENT_BYTES = 256 * 1024 - 26  # PutLogEvents: what an event may have
_BATCH_EVENTS = 1000
_BATCH_BYTES = 1_000_000  # PutLogEvents takes 1,048,576 with 26 for each event
_KEPT_EVENTS = 100_000  # moto has them in memory; the file has them all

Sink = Callable[[Sequence[str]], None]


class OutputReader:
    """Follows a log file from its end at construction, line by line, from :meth:`start` to :meth:`close`.

    ``close`` reads what is left, and also takes a last line without a newline.
    """

    def __init__(self, log: Path, sinks: Sequence[Sink]) -> None:
        self._log = log
        self._position = log.stat().st_size if log.exists() else 0
        self._sinks = sinks
        self._rest = b""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"output of {log.stem}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for lines in self._read():
            self._give(lines)
        if self._rest:
            self._give([self._rest.decode(errors="replace")])
            self._rest = b""

    def _follow(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            for lines in self._read():
                self._give(lines)

    def _read(self) -> Iterator[list[str]]:
        with suppress(FileNotFoundError), self._log.open("rb") as file:
            file.seek(self._position)
            while chunk := file.read(_READ_BYTES):
                self._position += len(chunk)
                *ended, self._rest = (self._rest + chunk).split(b"\n")
                if len(self._rest) > _EVENT_BYTES:  # a line without an end must not fill the memory
                    ended, self._rest = [*ended, self._rest], b""
                yield [line.decode(errors="replace") for line in ended]

    def _give(self, lines: Sequence[str]) -> None:
        for sink in self._sinks:
            if lines:
                sink(lines)


class LogStream:
    """A stream of CloudWatch Logs: each line is an event."""

    def __init__(self, logs: Any, *, group: str, stream: str, log: Path) -> None:
        self._logs = logs
        self._names = {"logGroupName": group, "logStreamName": stream}
        self._log = log
        self._left = _KEPT_EVENTS
        try:
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_group(logGroupName=group)
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_stream(**self._names)
        except (ClientError, BotoCoreError):
            logger.exception("the log stream %s could not be made", stream)

    def __call__(self, lines: Sequence[str]) -> None:
        moment = int(time.time() * 1000)
        kept = [line.rstrip("\r") for line in lines[: max(self._left, 0)]]
        if 0 < self._left <= len(lines):
            kept.append(f"The local cloud keeps the output from here on in {self._log}")
        self._left -= len(lines)
        # An event holds at least one character.
        events = [{"timestamp": moment, "message": _cut(line) or " "} for line in kept]
        try:
            for batch in _batches(events):
                self._logs.put_log_events(**self._names, logEvents=batch)
        except (ClientError, BotoCoreError):
            # The job goes on, and its output is in the file.
            logger.exception("the log stream %s could not be written", self._names["logStreamName"])


def _cut(line: str) -> str:
    return line if len(line) <= _EVENT_BYTES // 4 else line.encode()[:_EVENT_BYTES].decode(errors="ignore")


def _batches(events: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    size = 0
    for event in events:
        event_bytes = len(event["message"].encode()) + 26
        if batch and (len(batch) == _BATCH_EVENTS or size + event_bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += event_bytes
    if batch:
        yield batch


class Metrics:
    """Finds metrics in lines by the job's MetricDefinitions: the last value of each, and all of them for CloudWatch."""

    def __init__(self, cloudwatch: Any, *, job_name: str, definitions: Sequence[Mapping[str, str]]) -> None:
        self._cloudwatch = cloudwatch
        self._dimensions = [{"Name": "TrainingJobName", "Value": job_name}]
        self._patterns = [(item["Name"], re.compile(item["Regex"])) for item in definitions]
        self.final: dict[str, tuple[float, datetime]] = {}
        """Name to the last value and its moment."""

    def __call__(self, lines: Sequence[str]) -> None:
        moment = now()
        found = [(name, value) for line in lines for name, value in self._in(line)]
        self.final |= {name: (value, moment) for name, value in found}
        data = [
            {"MetricName": name, "Dimensions": self._dimensions, "Timestamp": moment, "Value": value}
            for name, value in found
        ]
        try:
            for start in range(0, len(data), 1000):  # PutMetricData takes no more at once
                self._cloudwatch.put_metric_data(
                    Namespace="/aws/sagemaker/TrainingJobs", MetricData=data[start : start + 1000]
                )
        except (ClientError, BotoCoreError):
            logger.exception("the metrics of %s could not be written", self._dimensions[0]["Value"])

    def _in(self, line: str) -> Iterator[tuple[str, float]]:
        for name, pattern in self._patterns:
            for match in pattern.finditer(line):
                with suppress(ValueError, TypeError):
                    value = float(match[1])
                    if math.isfinite(value):  # CloudWatch takes no other
                        yield name, value
