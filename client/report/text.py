"""A report as tables for the terminal."""

from __future__ import annotations

from tidegate.client.report import tables
from tidegate.client.report.report import Report
from tidegate.client.report.tables import Table
from tidegate.client.report.words import plain, summary


def as_text(report: Report) -> str:
    """All that is known, the most wanted first."""
    facts = summary(report)
    width = max(len(name) for name, _ in facts)
    shown = [tables.phases(report)]
    if report.has_requests:
        shown += [tables.times(report), tables.slowest(report)]
    shown += [tables.errors(report), tables.object_errors(report), tables.unwritten(report)]
    shown += [tables.instances(report), tables.utilisation(report)]
    parts = [
        f"transform job {plain(report.name)}",
        "\n".join(f"{name:{width}}  {value}" for name, value in facts),
        *(_drawn(table) for table in shown if table.rows),
        *(f"missing: {each.part}: {plain(each.why)}" for each in report.missing),
    ]
    return "\n\n".join(parts)


def _drawn(table: Table) -> str:
    """Columns under each other."""
    shown = [table.head, *table.rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(table.head))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in table.numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in shown
    ]
    return "\n".join([table.title, *(f"  {line}" for line in lines)])
