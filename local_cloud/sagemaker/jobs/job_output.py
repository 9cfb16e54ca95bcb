"""Reads what a job's command writes while it writes it: lines for CloudWatch Logs, and metrics out of them.

Sources: "Log Groups and Streams" (logging-cloudwatch) and "Define Training Metrics" (define-train-metrics) in the
developer guide: the group `/aws/sagemaker/TrainingJobs` has a stream `JOB/algo-N-EPOCH` for each host, the namespace
`/aws/sagemaker/TrainingJobs` the metrics with the dimension `TrainingJobName`.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.sagemaker.jobs import metric_search
from tidegate.local_cloud.sagemaker.state import now

logger = logging.getLogger(__name__)

_PAUSE_S = 0.2
_READ_BYTES = 1024 * 1024
_EVENT_BYTES = 256 * 1024 - 26  # PutLogEvents: what an event may have
_BATCH_EVENTS = 1000
_BATCH_BYTES = 1_000_000  # PutLogEvents takes 1,048,576 with 26 for each event
_KEPT_EVENTS = 100_000  # moto has them in memory; the file has them all

Sink = Callable[[Sequence[str]], Sequence[str]]
"""Takes lines. What it returns is for the reader of the log, and is added to it."""


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
            last, self._rest = self._rest.decode(errors="replace"), b""
            self._give([last])
            for lines in self._read():  # what a sink has added
                self._give(lines)

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
            if lines and (notes := sink(lines)):
                with self._log.open("a", encoding="utf-8") as log:
                    log.writelines(f"{note}\n" for note in notes)


class LogStream:
    """A stream of CloudWatch Logs: each line is an event."""

    def __init__(self, logs: Any, *, group: str, stream: str, log: Path) -> None:
        self._logs = logs
        self._names = {"logGroupName": group, "logStreamName": stream}
        self._log = log
        self._left = _KEPT_EVENTS
        self._failed = False
        try:
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_group(logGroupName=group)
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_stream(**self._names)
        except (ClientError, BotoCoreError) as error:
            logger.warning("the job has no log stream %s in %s: %s", stream, group, error)
            self._left = 0

    def __call__(self, lines: Sequence[str]) -> list[str]:
        moment = int(CLOCK.time() * 1000)
        kept = [line.rstrip("\r") for line in lines[: max(self._left, 0)]]
        if 0 < self._left <= len(lines):
            kept.append(f"The local cloud keeps the output from here on in {self._log}")
        self._left -= len(lines)
        # An event holds at least one character.
        events = [{"timestamp": moment, "message": _cut(line) or " "} for line in kept]
        try:
            for batch in _batches(events):
                self._logs.put_log_events(**self._names, logEvents=batch)
        except (ClientError, BotoCoreError) as error:
            # The job goes on, and its output is in the file.
            if not self._failed:
                logger.warning("the log stream %s cannot be written: %s", self._names["logStreamName"], error)
            self._failed = True
        return []


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
    """Finds metrics in lines by the job's MetricDefinitions: the last value of each, and all of them for CloudWatch.

    What a read brings of a metric goes to CloudWatch as one statistic: a script may write thousands in a second.
    """

    def __init__(self, cloudwatch: Any, *, job_name: str, definitions: Sequence[Mapping[str, str]]) -> None:
        self._cloudwatch = cloudwatch
        self._job_name = job_name
        self._definitions = [(item["Name"], item["Regex"]) for item in definitions]
        self._search: subprocess.Popen[str] | None = None
        self._failed = False
        self._lock = threading.Lock()
        self.final: dict[str, tuple[float, datetime]] = {}
        """Name to the last value and its moment."""

    def __call__(self, lines: Sequence[str]) -> list[str]:
        with self._lock:  # each host of the job has a thread that calls
            if not self._definitions:
                return []
            try:
                values, given_up = self._found(lines)
            except (OSError, ValueError):  # somebody has ended the process
                logger.exception("the metrics of %s are not looked for any more", self._job_name)
                self._definitions = []
                return ["local cloud: the process that looks for metrics has ended; no more are found"]
            moment = now()
            self.final |= {name: (found[-1], moment) for name, found in values.items()}
        self._put(values, moment)
        for name in given_up:
            logger.warning("the metric definition %s of %s takes too long", name, self._job_name)
        return [
            f"local cloud: the Regex of the metric definition {name} takes too long on this output, and is not tried"
            " again"
            for name in given_up
        ]

    def close(self) -> None:
        with self._lock:
            if self._search is not None:
                self._search.kill()
                self._search.communicate()
                self._search = None

    def _found(self, lines: Sequence[str]) -> tuple[dict[str, list[float]], list[str]]:
        if self._search is None:
            self._search = subprocess.Popen(
                [sys.executable, "-I", "-S", metric_search.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is for the cloud, which ends this one
            )
            self._ask(self._definitions)
        self._ask(lines)
        assert self._search.stdout is not None  # noqa: S101 - it is a pipe
        values, given_up = json.loads(self._search.stdout.readline())
        return values, given_up

    def _ask(self, message: Sequence[Any]) -> None:
        assert self._search is not None  # noqa: S101 - it is started
        assert self._search.stdin is not None  # noqa: S101 - it is a pipe
        self._search.stdin.write(json.dumps(message) + "\n")
        self._search.stdin.flush()

    def _put(self, values: Mapping[str, Sequence[float]], moment: datetime) -> None:
        dimensions = [{"Name": "TrainingJobName", "Value": self._job_name}]
        data = [
            {
                "MetricName": name,
                "Dimensions": dimensions,
                "Timestamp": moment,
                "StatisticValues": {
                    "SampleCount": len(found),
                    "Sum": sum(found),
                    "Minimum": min(found),
                    "Maximum": max(found),
                },
            }
            for name, found in values.items()
        ]
        if not data:
            return
        try:
            self._cloudwatch.put_metric_data(Namespace="/aws/sagemaker/TrainingJobs", MetricData=data)
        except (ClientError, BotoCoreError) as error:
            if not self._failed:
                logger.warning("the metrics of %s cannot be written: %s", self._job_name, error)
            self._failed = True
