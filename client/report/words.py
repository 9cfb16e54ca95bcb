"""Figures in words for people, and names of others made fit to be shown."""

from __future__ import annotations

from tidegate.client.report.report import Report

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def plain(text: str) -> str:
    """A text of somebody else's in one line, without characters that a terminal or a reader would act on."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def seconds(value: float) -> str:
    """A length of time: `320 ms`, `4.2 s`, `12 min 5 s`, `3 h 2 min`."""
    if not value:
        return "0 s"
    if value < 0.9995:
        return f"{1000 * value:.3g} ms"
    if value < 99.95:
        return f"{value:.3g} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def milliseconds(value: float) -> str:
    """The same of milliseconds."""
    return seconds(value / 1000)


def size(value: float) -> str:
    """Bytes: `512 B`, `1.4 MiB`."""
    unit = 0
    while value >= 1023.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1024, unit + 1
    return f"{value:.3g} {_UNITS[unit]}" if unit else f"{value:.0f} B"


def number(value: float) -> str:
    """A number with its thousands apart; small rates with what is behind the point."""
    return f"{value:,.0f}" if value >= 99.5 or value == int(value) else f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """In percent."""
    return f"{100 * part / whole:.1f} %" if whole else "—"


def origin(report: Report, request_id: str) -> str:
    """Where a request began: `s3://bucket/key, line 7`, or nothing where that is not known."""
    found = report.found.origins.get(request_id)
    if found is None:
        return ""
    line = "" if found.line is None else f", line {found.line}"
    alike = f" (or {found.alike} alike)" if found.alike else ""
    return f"{plain(found.address)}{line}{alike}"


def summary(report: Report) -> list[tuple[str, str]]:
    """What a reader wants to know first, in pairs of name and value."""
    job, objects = report.job, report.objects
    resources = job.get("TransformResources", {})
    length_s = report.ended_s - report.began_s
    rows = [
        ("status", report.status + (" (so far)" if report.is_running else "")),
        ("reason", plain(report.failure_reason)),
        ("model", plain(str(job.get("ModelName", "")))),
        ("instances", f"{resources.get('InstanceCount', 1)} of {resources.get('InstanceType', 'an unknown type')}"),
        ("platform", plain(report.settings)),
        ("time", f"{seconds(length_s)} from {job['CreationTime']:%Y-%m-%d %H:%M:%S %Z}"),
        ("billed", "" if report.billed_s is None else f"{seconds(report.billed_s)} of all instances together"),
    ]
    if objects is not None:
        known = "" if objects.input_bytes is None else f", {size(objects.input_bytes)}"
        more = " and more" if objects.cut else ""
        rows.append(("input", f"{number(len(objects.inputs))} objects{more}{known}"))
        rows.append(("output", f"{number(objects.written)} objects, {size(objects.output_bytes)}"))
    if report.found.blank_lines:
        rows.append(("blank lines", f"{number(report.found.blank_lines)} in the input"))
    if report.has_requests:
        rows += _of_requests(report)
    return [(name, value) for name, value in rows if value]


def _of_requests(report: Report) -> list[tuple[str, str]]:
    figures, work_s = report.figures, report.work_s or 0.0
    failed = f", {number(figures.failed)} failed ({share(figures.failed, figures.requests)})" if figures.failed else ""
    rows = [("requests", f"{number(figures.requests)}{failed}")]
    if figures.by_line:
        unknown = f" (and those of {figures.records_unknown} large requests)" if figures.records_unknown else ""
        rows.append(("records", f"{number(figures.records)}{unknown}"))
    if work_s:
        unit = "records/s" if figures.by_line else "requests/s"
        rate = f"{number(figures.records / work_s)} {unit}, {size(figures.request_bytes / work_s)}/s"
        rows.append(("throughput", f"{rate} in {seconds(work_s)} of requests"))
        busy_s = sum(of.busy_s for of in figures.instances.values())
        rows.append(("at a time", f"{busy_s / work_s:.3g} requests on average"))
    if figures.by_line and figures.lines.count:
        lines = figures.lines
        rows.append(
            ("lines", f"{number(lines.percentile(50))} in the median request, {number(lines.greatest)} at most")
        )
    again = []
    if figures.tried_again:
        again.append(f"{number(figures.tried_again)} by another worker")
    if figures.sent_again:
        again.append(f"{number(figures.sent_again)} sent again by the platform")
    if again:
        rows.append(("tried again", ", ".join(again)))
    return rows
