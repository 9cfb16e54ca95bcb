"""The tables of a report, as the terminal and the page both show them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tidegate.client.report.report import PERCENTILES, Report
from tidegate.client.report.words import milliseconds, number, origin, plain, seconds, share, size

_MOST_ROWS = 100
_UNKNOWN = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`numbers`: which columns are numbers. Without rows there is nothing to show."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[int] = ()


def phases(report: Report) -> Table:
    """Where the job's time went."""
    whole_s = report.ended_s - report.began_s
    rows = [(each.name, seconds(each.duration_s), share(each.duration_s, whole_s)) for each in report.phases]
    return Table(title="where the time went", head=("phase", "time", "share"), rows=rows, numbers=(1, 2))


def times(report: Report) -> Table:
    """How long requests took, and where."""
    figures = report.figures
    spreads = (("all", figures.durations_ms), ("in the queue", figures.queue_ms), ("with a worker", figures.worker_ms))
    rows = [
        (
            name,
            milliseconds(spread.total / spread.count),
            *(milliseconds(spread.percentile(percent)) for percent in PERCENTILES),
            milliseconds(spread.greatest),
        )
        for name, spread in spreads
        if spread.count
    ]
    head = ("part", "mean", *(f"p{percent}" for percent in PERCENTILES), "max")
    return Table(title="time of a request", head=head, rows=rows, numbers=range(1, 6))


def slowest(report: Report) -> Table:
    """The requests that took longest, and where in the input they begin."""
    rows = [
        (
            milliseconds(request.duration_ms),
            str(request.status or _UNKNOWN),
            _UNKNOWN if request.lines is None else number(request.lines),
            size(request.request_bytes),
            origin(report, request.request_id) or _UNKNOWN,
        )
        for request in report.figures.slowest
    ]
    head = ("time", "status", "lines", "size", "input")
    return Table(title="slowest requests", head=head, rows=rows, numbers=range(4))


def errors(report: Report) -> Table:
    """Failed requests by kind, the most frequent first."""
    rows = [
        (
            str(kind.status or _UNKNOWN),
            plain(kind.code),
            number(kind.count),
            origin(report, kind.first.request_id) or _UNKNOWN,
            plain(kind.cause or kind.first.error),
        )
        for kind in sorted(report.figures.kinds.values(), key=lambda kind: -kind.count)
    ]
    head = ("status", "code", "count", "first input", "the first one says")
    return Table(title="errors", head=head, rows=rows, numbers=(2,))


def object_errors(report: Report) -> Table:
    """What the platform's own log says of objects."""
    rows = [(plain(each.address), plain(each.says)) for each in report.object_errors]
    return Table(title="objects that failed, as the platform says", head=("object", "reason"), rows=rows)


def unwritten(report: Report) -> Table:
    """The input without output, of a job that has ended."""
    there = [] if report.objects is None or report.is_running else report.objects.unwritten
    rows = [(plain(each),) for each in there[:_MOST_ROWS]]
    if len(there) > _MOST_ROWS:
        rows.append((f"and {number(len(there) - _MOST_ROWS)} more",))
    return Table(title="objects without output", head=("object",), rows=rows)


def instances(report: Report) -> Table:
    """How the work was shared."""
    rows = [
        (
            plain(name),
            number(of.requests),
            number(of.failed),
            number(of.records),
            size(of.request_bytes),
            seconds(of.busy_s),
        )
        for name, of in sorted(report.figures.instances.items())
        if of.requests
    ]
    head = ("instance", "requests", "failed", "records", "size", "busy")
    return Table(title="instances", head=head, rows=rows, numbers=range(1, 6))


def utilisation(report: Report) -> Table:
    """By CloudWatch."""
    rows = [(plain(each.instance), each.metric, f"{each.average:g}", f"{each.greatest:g}") for each in report.used]
    head = ("instance", "metric", "average", "max")
    return Table(title="utilisation in percent (a core or a GPU is 100)", head=head, rows=rows, numbers=(2, 3))
