"""A dashboard of Grafana for servers that a Prometheus scrapes: the charts of `series`, with a choice of job and model.

Source: Grafana documentation, "Dashboard JSON model".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tidegate.infra.observability import series
from tidegate.infra.observability.series import Chart, Query, Selector

_DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_JOB = Selector(('job=~"$job"',))
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 24


def dashboard() -> dict[str, Any]:
    """As a value of JSON. Its reader chooses data source, job and model; at first it shows all of them."""
    of_models = _JOB.narrowed('model=~"$model"')
    rows = [
        ("Requests", series.of_requests(of_models)),
        ("Model repository", series.of_repository(_JOB)),
    ]
    return {
        "title": "Tidegate",
        "uid": "tidegate-server",
        "tags": ["tidegate"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": _panels(rows),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _variable("job", "Job", "label_values(tidegate_resident_bytes, job)"),
        # A repository's series have no model: `.*` is also the absence of a label.
        _variable("model", "Model", 'label_values(tidegate_workers{job=~"$job"}, model)'),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATA_SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # whenever the range of time changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _panels(rows: Iterable[tuple[str, tuple[Chart, ...]]]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    y = 0
    for title, charts in rows:
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []})
        y += 1
        per_row = _COLUMNS // _WIDTH
        for number, chart in enumerate(charts):
            place = {"x": number % per_row * _WIDTH, "y": y + number // per_row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(len(panels) + 1, chart, place))
        y += -(-len(charts) // per_row) * _HEIGHT
    return panels


def _panel(number: int, chart: Chart, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": chart.title,
        "gridPos": place,
        "datasource": _DATA_SOURCE,
        "fieldConfig": {"defaults": {"unit": chart.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _DATA_SOURCE,
                "editorMode": "code",
                "expr": query.promql,
                "legendFormat": _legend(query),
                "range": True,
            }
            for place, query in enumerate(chart.queries)
        ],
    }


def _legend(query: Query) -> str:
    grouped = re.match(r"sum by \((\w+)\)", query.promql)
    return query.label if grouped is None else f"{query.label} {{{{{grouped[1]}}}}}"
