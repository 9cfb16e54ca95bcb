"""A report as one page: no script, nothing from elsewhere, light or dark as its reader has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from tidegate.client.report import drawing, tables
from tidegate.client.report.over_time import Slot
from tidegate.client.report.report import PERCENTILES, Report
from tidegate.client.report.tables import Table
from tidegate.client.report.words import milliseconds, number, plain, seconds, size, summary

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1c2024; --soft: #5a6169; --line: #d5dae0; --bar: #1f6fb5;
  --failed: #c0362c; --p0: #7a8794; --p1: #8a63b8; --p2: #b7791f; --p3: #1f6fb5; --p4: #5f6b76; }
@media (prefers-color-scheme: dark) { :root { --page: #14181c; --text: #e6e9ec; --soft: #a3acb5; --line: #39424b;
  --bar: #5aa9ea; --failed: #f0837a; --p0: #8d9aa7; --p1: #b794e0; --p2: #e0ad55; --p3: #5aa9ea; --p4: #aab4be; } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p, figcaption { color: var(--soft); } figure { margin: 0 0 1rem; } .half { max-width: 32rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); column-gap: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; } th, .number { white-space: nowrap; overflow-wrap: normal; } .facts th { width: 1%; }
.number { text-align: right; } svg { display: block; width: 100%; height: auto; } svg.stretched { height: 2rem; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); } .bar { fill: var(--bar); } .bar.failed { fill: var(--failed); }
.part0 { fill: var(--p0); } .part1 { fill: var(--p1); } .part2 { fill: var(--p2); } .part3 { fill: var(--p3); }
.part4 { fill: var(--p4); } .key { display: inline-block; width: .8em; height: .8em; margin-right: .5em; }
.key.part0 { background: var(--p0); } .key.part1 { background: var(--p1); } .key.part2 { background: var(--p2); }
.key.part3 { background: var(--p3); } .key.part4 { background: var(--p4); }
"""


def as_page(report: Report) -> str:
    """The whole document."""
    title = f"Transform job {plain(report.name)}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _facts(report),
        *(f"<p><strong>Missing: {each.part}.</strong> {escape(plain(each.why))}</p>" for each in report.missing),
        _phases(report),
    ]
    if report.has_requests:
        parts += [_over_time(report), _histogram(report), _section(tables.slowest(report))]
    parts += [
        _section(table)
        for table in (
            tables.errors(report),
            tables.object_errors(report),
            tables.unwritten(report),
            tables.instances(report),
            tables.utilisation(report),
        )
    ]
    made = f"Made {report.made_at:%Y-%m-%d %H:%M:%S} UTC from the job's log, description and objects."
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<p>{escape(made)}</p>\n</main>\n</body>\n</html>\n"
    )


def _facts(report: Report) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in summary(report)
    )
    return f'<div class="wide"><table class="facts">{rows}</table></div>'


def _phases(report: Report) -> str:
    table = tables.phases(report)
    shares = [(each.name, each.duration_s, seconds(each.duration_s)) for each in report.phases]
    says = "; ".join(f"{name}: {said}" for name, _, said in shares)
    plot = drawing.parts_of_a_bar(shares, name="phases", title=_title(table.title), says=says)
    rows = "".join(
        f'<tr><th scope="row"><span class="key part{place % 5}"></span>{escape(name)}</th>'
        f'<td class="number">{escape(time)}</td><td class="number">{escape(share)}</td></tr>'
        for place, (name, time, share) in enumerate(table.rows)
    )
    return f"<section><h2>{_title(table.title)}</h2><figure>{plot}</figure><table>{rows}</table></section>"


def _over_time(report: Report) -> str:
    figures = report.figures
    width_s, by_line = figures.over_time.width_s, figures.by_line

    def rate(slot: Slot) -> float:
        return (slot.records if by_line else slot.requests) / width_s

    what = "Records" if by_line else "Requests"
    plots = [
        _plot_over_time(report, "rate", f"{what} per second", rate, number),
        _plot_over_time(report, "bytes", "Bytes sent per second", lambda slot: slot.request_bytes / width_s, size),
        _plot_over_time(report, "at-hand", "Requests at a time", lambda slot: slot.busy_s / width_s, number),
    ]
    if figures.failed:
        plots.append(_plot_over_time(report, "failed", "Failed requests", lambda slot: slot.failed, number))
    return f'<div class="plots">{"".join(plots)}</div>'


def _plot_over_time(
    report: Report, name: str, title: str, value: Callable[[Slot], float], amount: Callable[[float], str]
) -> str:
    slots, width_s = report.figures.over_time.slots, report.figures.over_time.width_s
    values = [value(slot) for slot in slots]
    greatest = max(values, default=0.0)
    at_s = values.index(greatest) * width_s if values else 0.0
    says = (
        f"At most {amount(greatest)}, {seconds(at_s)} after the job was created. "
        f"A bar is {seconds(width_s)}, the axis the time since then."
    )
    plot = drawing.bars(
        values,
        name=name,
        title=title,
        says=says,
        kind=name,
        marks=drawing.time_marks(len(slots) * width_s, len(slots), seconds),
        amount=amount,
        labels=[f"{seconds(place * width_s)}: {amount(each)}" for place, each in enumerate(values)],
    )
    return f"<section><h2>{title}</h2><figure>{plot}<figcaption>{escape(says)}</figcaption></figure></section>"


def _histogram(report: Report) -> str:
    table, spread = tables.times(report), report.figures.durations_ms
    found = spread.bars()
    says = ", ".join(
        [
            *(f"p{percent} {milliseconds(spread.percentile(percent))}" for percent in PERCENTILES),
            f"at most {milliseconds(spread.greatest)}",
        ]
    )
    step = max(1, math.ceil(len(found) / 4))
    plot = drawing.bars(
        [float(count) for _, _, count in found],
        name="histogram",
        title=_title(table.title),
        says=says,
        kind="histogram",
        marks=[(place, milliseconds(lower)) for place, (lower, _, _) in enumerate(found) if place % step == 0],
        amount=number,
        labels=[
            f"{milliseconds(lower)} to {milliseconds(upper)}: {number(count)} requests" for lower, upper, count in found
        ],
    )
    caption = f"Requests by their time, on a logarithmic axis: {says}."
    figure = f'<figure class="half">{plot}<figcaption>{escape(caption)}</figcaption></figure>'
    return f"<section><h2>{_title(table.title)}</h2>{figure}{_drawn(table)}</section>"


def _section(table: Table) -> str:
    return f"<section><h2>{_title(table.title)}</h2>{_drawn(table)}</section>" if table.rows else ""


def _drawn(table: Table) -> str:
    kind = [' class="number"' if place in table.numbers else "" for place in range(len(table.head))]
    top = "".join(f'<th scope="col"{kind[place]}>{escape(cell)}</th>' for place, cell in enumerate(table.head))
    body = "".join(
        f"<tr>{''.join(f'<td{kind[place]}>{escape(cell)}</td>' for place, cell in enumerate(row))}</tr>"
        for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _title(words: str) -> str:
    return escape(words[0].upper() + words[1:])
