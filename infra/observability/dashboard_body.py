"""A dashboard as CloudWatch takes it: widgets on a grid.

It is not made of the CDK's widgets, because those know no charts of PromQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tidegate.infra.observability.dashboard_plan import Graph, Section
from tidegate.infra.observability.series import Chart

# CloudWatch's grid is 24 wide; three graphs side by side can still be read on a laptop.
_WIDTH, _HEIGHT, _IN_A_ROW = 8, 6, 3
_HEADING_HEIGHT = 2


def body(sections: Iterable[Section], *, alarm_arns: Sequence[str], region: str) -> dict[str, Any]:
    """The body as PutDashboard takes it. Source: CloudWatch guide, "Dashboard Body Structure and Syntax"."""
    widgets: list[dict[str, Any]] = []
    y = 0
    if alarm_arns:
        # A row of the widget holds about eight alarms.
        height = 2 + len(alarm_arns) // 8
        properties = {"title": "Alarms", "alarms": list(alarm_arns)}
        widgets.append({"type": "alarm", "x": 0, "y": 0, "width": 24, "height": height, "properties": properties})
        y = height
    for section in sections:
        text = {"markdown": f"## {section.heading}\n{section.text}", "background": "transparent"}
        widgets.append({"type": "text", "x": 0, "y": y, "width": 24, "height": _HEADING_HEIGHT, "properties": text})
        y += _HEADING_HEIGHT
        for index, graph in enumerate(section.graphs):
            kind, properties = _chart(graph, region) if isinstance(graph, Chart) else _graph(graph, region)
            place = {"x": index % _IN_A_ROW * _WIDTH, "y": y + index // _IN_A_ROW * _HEIGHT}
            widgets.append({"type": kind} | place | {"width": _WIDTH, "height": _HEIGHT, "properties": properties})
        y += -(-len(section.graphs) // _IN_A_ROW) * _HEIGHT
    return {"widgets": widgets}


def _graph(graph: Graph, region: str) -> tuple[str, dict[str, Any]]:
    lines = [
        [
            line.metric.namespace,
            line.metric.name,
            *(part for dimension in line.metric.dimensions.items() for part in dimension),
            {"stat": line.metric.statistic, "period": line.metric.period_s, "label": line.label},
        ]
        for line in graph.lines
    ]
    return "metric", {
        "title": graph.title,
        "region": region,
        "view": "timeSeries",
        "metrics": lines,
        "yAxis": {"left": {"label": graph.unit, "showUnits": False, "min": 0}},
    }


def _chart(chart: Chart, region: str) -> tuple[str, dict[str, Any]]:
    queries = [
        {
            "id": f"q{number}",
            "type": "cloudwatch-metrics",
            "language": "PromQL",
            "query": query.promql,
            "label": query.label,
            "step": 60,
        }
        for number, query in enumerate(chart.queries)
    ]
    return "chart", {
        "title": chart.title,
        "region": region,
        "view": chart.view,
        "data": {"queries": queries},
        "plotOptions": {
            "legend": {"position": "bottom", "show": True},
            "xAxis": {"type": "datetime"},
            "yAxis": [{"type": "linear"}],
        },
    }
