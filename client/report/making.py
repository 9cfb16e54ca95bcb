"""A report made: each part is asked for by itself, and one that cannot be had does not stop the others."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.client.addresses import split_s3
from tidegate.client.report import log_events
from tidegate.client.report.figures import Figures
from tidegate.client.report.log_events import Stream
from tidegate.client.report.log_lines import Answered, Moment, PlatformLine, Trouble, is_ours, read
from tidegate.client.report.objects import objects_of
from tidegate.client.report.origins import find
from tidegate.client.report.over_time import OverTime
from tidegate.client.report.report import INPUT, ORIGINS, REQUESTS, UTILISATION, Missing, ObjectError, Report, Used

NAMESPACE = "/aws/sagemaker/TransformJobs"
# Source: developer guide, "Amazon SageMaker AI metrics in Amazon CloudWatch", of transform jobs.
_METRICS = ("CPUUtilization", "MemoryUtilization", "GPUUtilization", "GPUMemoryUtilization")
_MOST_INSTANCES = 100
_MOST_OBJECT_ERRORS = 100
_LONGEST_WORDS = 500
_SETTINGS = "MaxConcurrentTransforms="


def make(
    session: boto3.Session,
    name: str,
    job: Mapping[str, Any],
    *,
    most_input_bytes: int,
    on_progress: Callable[[int], object],
) -> Report:
    """The report of the job `name`, which is `job` to DescribeTransformJob.

    At most `most_input_bytes` of the input are read, to say which records were slow or failed. `on_progress` is told
    how many lines of the log were read since.
    """
    made_at = datetime.now(UTC)
    ended: datetime = job.get("TransformEndTime") or made_at
    over_time = OverTime(job["CreationTime"].timestamp(), ended.timestamp())
    by_line = job["TransformInput"].get("SplitType", "None") == "Line"
    report = Report(name=name, made_at=made_at, job=job, figures=Figures(over_time, by_line))
    with _missing(report, REQUESTS):
        _read_log(report, session.client("logs"), on_progress)
    s3 = session.client("s3")
    with _missing(report, INPUT):
        report.objects = objects_of(s3, job)
    if report.objects is not None and report.figures.requests:
        wanted = [*report.figures.slowest, *(kind.first for kind in report.figures.kinds.values())]
        unique = {request.request_id: request for request in wanted}.values()
        with _missing(report, ORIGINS):
            report.found = find(
                s3, job, report.objects.inputs, unique, most_bytes=most_input_bytes, on_bytes=lambda _: on_progress(0)
            )
            if report.found.why_not:
                report.missing.append(Missing(part=ORIGINS, why=report.found.why_not))
    if report.figures.instances:
        with _missing(report, UTILISATION):
            report.used = list(_utilisation(session.client("cloudwatch"), report))
    return report


@contextmanager
def _missing(report: Report, part: str) -> Iterator[None]:
    """Note why a part could not be had, instead of raising."""
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        why = f"{said.get('Code', 'an error')} from {error.operation_name}: {said.get('Message', '')}"
        report.missing.append(Missing(part=part, why=why.strip(": ")))
    except (BotoCoreError, OSError, EOFError, ValueError, zlib.error) as error:
        report.missing.append(Missing(part=part, why=f"{type(error).__name__}: {error}"))


def _read_log(report: Report, logs: Any, on_progress: Callable[[int], object]) -> None:
    try:
        streams = log_events.streams(logs, report.name)
    except logs.exceptions.ResourceNotFoundException:
        why = f"there is no log group {log_events.GROUP}: no job of this account and Region has logged anything yet"
        report.missing.append(Missing(part=REQUESTS, why=why))
        return
    count = ours = 0
    for stream in streams:
        for message in log_events.events(logs, stream):
            count += 1
            ours += is_ours(message)
            _take(report, stream, message)
            if not count % 1000:
                on_progress(1000)
    report.has_requests = report.figures.requests > 0
    if not report.has_requests:
        report.missing.append(Missing(part=REQUESTS, why=_why_none(report, streams, count, ours)))


def _why_none(report: Report, streams: Iterable[Stream], count: int, ours: int) -> str:
    if not any(not stream.is_data_log for stream in streams):
        later = "; a job that was just begun has none yet" if report.is_running else ""
        return (
            f"no stream of {log_events.GROUP} begins with {report.name}/: its logs have expired or were deleted, no "
            f"container was started, or the role of the model may not write logs{later}"
        )
    if not ours:
        return f"none of the {count} lines of its log is of this server: the job ran another container"
    if report.figures.first_of("ready") is None:
        return "the server's log has no request, and does not say that the model was loaded"
    return (
        "the server's log has no request: none has come, its SAGEMAKER_CONTAINER_LOG_LEVEL is above INFO, or it is an "
        "older one, which logged none"
    )


def _take(report: Report, stream: Stream, message: str) -> None:
    figures = report.figures
    match read(message):
        case Answered() as request:
            figures.answered(stream.writer, request)
        case Moment() as moment:
            figures.moment(stream.writer, moment)
        case Trouble() as trouble:
            figures.trouble(trouble)
        case PlatformLine(text=text) if stream.is_data_log:
            _take_platform(report, text)


def _take_platform(report: Report, text: str) -> None:
    """A line of the data log: the settings, or `BUCKET/KEY: WORDS`, several of which may be about one object."""
    if text.startswith(_SETTINGS):
        report.settings = report.settings or text
        return
    bucket, _ = split_s3(report.job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
    where, _, words = text.partition(": ")
    if not where.startswith(f"{bucket}/") or not words.strip():
        return
    address = f"s3://{where}"
    errors = report.object_errors
    if errors and errors[-1].address == address:
        errors[-1] = ObjectError(address=address, says=f"{errors[-1].says} {words.strip()}"[:_LONGEST_WORDS])
    elif len(errors) < _MOST_OBJECT_ERRORS:
        errors.append(ObjectError(address=address, says=words.strip()[:_LONGEST_WORDS]))


def _utilisation(cloudwatch: Any, report: Report) -> Iterator[Used]:
    """By minutes, which is what CloudWatch has of a job; a job that is over within one leaves nothing."""
    hosts = sorted({writer.partition("/")[0] for writer in report.figures.instances})[:_MOST_INSTANCES]
    queries: list[dict[str, Any]] = []
    names: dict[str, tuple[str, str]] = {}
    for host in hosts:
        for metric in _METRICS:
            query_id = f"m{len(names)}"
            names[query_id] = (host, metric)
            stat = {
                "Metric": {
                    "Namespace": NAMESPACE,
                    "MetricName": metric,
                    "Dimensions": [{"Name": "Host", "Value": f"{report.name}/{host}"}],
                },
                "Period": 60,
                "Stat": "Average",
            }
            queries.append({"Id": query_id, "MetricStat": stat})
    began, ended = (datetime.fromtimestamp(at_s, UTC) for at_s in (report.began_s, report.ended_s))
    values: dict[str, list[float]] = {query_id: [] for query_id in names}
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries,
        StartTime=began - timedelta(minutes=1),
        EndTime=ended + timedelta(minutes=1),
    )
    for page in pages:
        for result in page["MetricDataResults"]:
            values[result["Id"]] += result["Values"]
    for query_id, found in values.items():
        if found:
            host, metric = names[query_id]
            average = round(sum(found) / len(found), 1)
            yield Used(instance=host, metric=metric, average=average, greatest=round(max(found), 1))
