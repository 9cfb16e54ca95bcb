"""Alert rules of Prometheus for servers that one scrapes: what CloudWatch's alarms say of an endpoint, from `/metrics`.

Source: Prometheus documentation, "Alerting rules".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidegate.infra.configuration.operations import Alarms
from tidegate.infra.observability import series
from tidegate.infra.observability.series import Selector

_THRESHOLDS = Alarms()
"""Where CloudWatch has the same alarm, its default is the default here."""


def rules(job: str, *, timeout_s: float = 60.0) -> dict[str, Any]:
    """As a value of YAML, for ``rule_files``.

    ``job`` is the name of the scrape configuration's job, ``timeout_s`` the server's ``TIDEGATE_TIMEOUT_S``.
    """
    return {"groups": [{"name": "tidegate", "rules": list(_rules(Selector((f'job="{job}"',)), timeout_s))}]}


def _rules(here: Selector, timeout_s: float) -> Iterator[dict[str, Any]]:
    answers = f"sum by (job, model) (increase(tidegate_responses_total{here}[5m]))"
    of_5xx = here.narrowed('status=~"5.."')
    failed = f"sum by (job, model) (increase(tidegate_responses_total{of_5xx}[5m]))"
    enough = f"{answers} >= {_THRESHOLDS.errors_min_requests}"
    yield _rule(
        "TidegateDown",
        f"up{here} == 0",
        "Nothing reads /metrics of {{ $labels.instance }}: the server is gone, or out of reach.",
        for_="2m",
        severity="critical",
    )
    yield _rule(
        "TidegateNoWorker",
        f"sum by (job, instance, model) (tidegate_workers{here}) == 0",
        "Model {{ $labels.model }} has no worker on {{ $labels.instance }}: it answers nothing.",
        for_="2m",
        severity="critical",
    )
    yield _rule(
        "TidegateErrors",
        f"100 * {failed} / {answers} > {_THRESHOLDS.errors_5xx_percent:g} and {enough}",
        '{{ $value | printf "%.1f" }} % of the answers of {{ $labels.model }} are 5xx.',
    )
    yield _rule(
        "TidegateRefuses",
        f"sum by (job, reason) (increase(tidegate_shed_total{here}[5m])) > 0",
        "Requests are refused because of {{ $labels.reason }}: more come than the server can take.",
        for_="5m",
    )
    limit_s = timeout_s * (_THRESHOLDS.model_p99_percent_of_deadline or 100) / 100
    slow = series.quantile(0.99, "tidegate_predict_seconds", here)
    yield _rule(
        "TidegateSlow",
        f"({slow}) > {limit_s:g}",
        'The p99 of predict_fn is {{ $value | printf "%.1f" }} s; after '
        f"{timeout_s:g} s the server gives a request up.",
        for_="5m",
    )
    yield _rule(
        "TidegateWorkerRestarts",
        f"{series.restarts(here)} >= 1",
        '{{ $value | printf "%.0f" }} workers were replaced in ten minutes: they died, or took too long.',
    )
    by_us = here.narrowed('reason!="reader_left"')
    yield _rule(
        "TidegateStreamsBroken",
        f"sum by (job, reason) (increase(tidegate_streams_broken_total{by_us}[5m])) >= 1",
        "Streams break off before their end: {{ $labels.reason }}.",
    )
    yield _rule(
        "TidegateFailedLoads",
        f"{series.failed_loads(here)} >= 1",
        "A version of a model did not load; the one before it goes on serving.",
    )
    yield _rule(
        "TidegateRepositoryOutOfReach",
        f"sum by (job, instance) (increase(tidegate_repository_listing_failures_total{here}[10m])) >= 3",
        "{{ $labels.instance }} cannot list its repository: new versions do not arrive.",
    )


def _rule(name: str, promql: str, summary: str, *, for_: str = "0m", severity: str = "warning") -> dict[str, Any]:
    return {
        "alert": name,
        "expr": promql,
        "for": for_,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }
