"""Which alarms and graphs each mode has, told from plain values."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import pytest

from tests.infra.observability.written_series import Written
from tidegate.infra.configuration.operations import Alarms
from tidegate.infra.observability import dashboard_plan, endpoint_alarms, metrics, series, workflow_alarms
from tidegate.infra.observability.alarm import Alarm, MetricAlarm, SeriesAlarm
from tidegate.infra.observability.dashboard_body import body
from tidegate.infra.observability.dashboard_plan import Graph
from tidegate.infra.observability.metrics import MetricReference
from tidegate.infra.observability.watched import (
    Mode,
    WatchedEndpoint,
    WatchedStateMachine,
    WatchedVariant,
    WatchedWorkflows,
)

MODES: tuple[Mode, ...] = get_args(Mode)
NO_WORKFLOWS = WatchedWorkflows()


def endpoint(mode: Mode, *variants: WatchedVariant, deadline_s: float = 60) -> WatchedEndpoint:
    gpus = 0 if mode == "serverless" else 1
    return WatchedEndpoint(
        name="tidegate-dev",
        mode=mode,
        variants=variants or (WatchedVariant(name="primary", gpus=gpus),),
        deadline_s=deadline_s,
        component="tidegate-dev-model" if mode == "component" else None,
    )


def by_kind(alarms: tuple[Alarm, ...]) -> dict[str, Alarm]:
    return {alarm.kind: alarm for alarm in alarms}


def metric_alarm(mode: Mode, kind: str, **thresholds: object) -> MetricAlarm:
    alarm = by_kind(endpoint_alarms.of_endpoint(endpoint(mode), Alarms.model_validate(thresholds)))[kind]
    assert isinstance(alarm, MetricAlarm)
    return alarm


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("realtime", "errors-5xx latency overhead gpu-memory memory disk no-instance"),
        ("multi_model", "errors-5xx latency overhead gpu-memory memory disk no-instance"),
        ("async", "failures latency gpu-memory memory disk no-instance backlog-age"),
        ("serverless", "errors-5xx latency memory concurrency"),
        ("component", "errors-5xx latency overhead gpu-memory memory disk no-copy"),
    ],
)
def test_without_a_word_in_the_stage_file_each_mode_has_the_alarms_that_it_can_raise(mode: Mode, kinds: str) -> None:
    assert set(by_kind(endpoint_alarms.of_endpoint(endpoint(mode), Alarms()))) == set(kinds.split())


def test_a_metric_that_the_mode_does_not_emit_cannot_even_be_named() -> None:
    with pytest.raises(LookupError, match="an endpoint in mode async emits no OverheadLatency"):
        metrics.of(endpoint("async"), "OverheadLatency", "Average")
    with pytest.raises(LookupError, match="emits no GPUMemoryUtilization"):
        metrics.of(endpoint("realtime", WatchedVariant(name="primary", gpus=0)), "GPUMemoryUtilization", "Maximum")


def test_what_belongs_to_the_whole_endpoint_or_to_a_component_has_no_variant_among_its_dimensions() -> None:
    backlog = metrics.of(endpoint("async"), "ApproximateBacklogSize", "Maximum")
    requests = metrics.of(endpoint("component"), "Invocations", "Sum")
    latency = metrics.of(endpoint("realtime"), "ModelLatency", "p99")

    assert backlog.dimensions == {"EndpointName": "tidegate-dev"}
    assert requests.dimensions == {"InferenceComponentName": "tidegate-dev-model"}
    assert latency.dimensions == {"EndpointName": "tidegate-dev", "VariantName": "primary"}


def test_every_variant_has_its_own_alarms_under_its_own_name() -> None:
    two = endpoint("realtime", WatchedVariant(name="old", gpus=1), WatchedVariant(name="new", gpus=4))
    alarms = by_kind(endpoint_alarms.of_endpoint(two, Alarms()))
    memory = {name: alarms[f"gpu-memory-{name}"] for name in ("old", "new")}

    assert {name: alarm.threshold for name, alarm in memory.items() if isinstance(alarm, MetricAlarm)} == {
        "old": 95,
        "new": 380,
    }, "AWS counts 100 for each GPU"
    assert "errors-5xx-old" in alarms
    assert "errors-5xx" not in alarms


def test_a_component_counts_its_utilisation_from_0_to_100_whatever_the_number_of_gpus() -> None:
    component = endpoint("component", WatchedVariant(name="primary", gpus=8))
    alarm = by_kind(endpoint_alarms.of_endpoint(component, Alarms()))["gpu-memory"]

    assert isinstance(alarm, MetricAlarm)
    assert alarm.threshold == 95
    assert alarm.inputs["value"].name == "GPUMemoryUtilizationNormalized"


def test_latency_is_compared_in_microseconds_with_a_part_of_the_deadline_or_with_what_the_stage_says() -> None:
    assert metric_alarm("realtime", "latency").threshold == 48_000_000
    assert metric_alarm("realtime", "latency", model_p99_ms=250).threshold == 250_000
    assert metric_alarm("realtime", "latency").inputs["value"].statistic == "p99"


def test_errors_are_a_part_of_the_requests_and_a_handful_of_requests_raises_none() -> None:
    alarm = metric_alarm("realtime", "errors-5xx", errors_5xx_percent=2.5, errors_min_requests=50)

    assert alarm.expression is not None
    assert alarm.expression.startswith("IF(requests >= 50, 100 * (")
    assert alarm.expression.endswith(") / requests, 0)")
    assert alarm.threshold == 2.5
    assert {metric.statistic for metric in alarm.inputs.values()} == {"Sum"}


def test_requests_that_were_never_answered_count_as_failed() -> None:
    alarm = metric_alarm("realtime", "errors-5xx")

    assert alarm.inputs["unanswered"].name == "InvocationModelErrors"
    assert "unanswered - refused" in str(alarm.expression), "that metric counts those with a 4xx as well"
    assert "unanswered" not in metric_alarm("serverless", "errors-5xx").inputs, "serverless endpoints do not emit it"


def test_silence_of_the_instances_is_a_fault_and_silence_of_the_clients_is_none() -> None:
    gone = metric_alarm("realtime", "no-instance", no_capacity_minutes=7)

    assert (gone.missing, gone.breaching, gone.periods) == ("breaching", 7, 7)
    assert gone.inputs["value"].statistic == "SampleCount"
    others = [a for a in endpoint_alarms.of_endpoint(endpoint("realtime"), Alarms()) if a.kind != "no-instance"]
    assert {alarm.missing for alarm in others if isinstance(alarm, MetricAlarm)} == {"notBreaching"}


def test_an_endpoint_that_may_sleep_is_only_at_fault_while_requests_are_there() -> None:
    assert metric_alarm("async", "no-instance").inputs["value"].name == "HasBacklogWithoutCapacity"
    refused = metric_alarm("component", "no-copy", no_capacity_minutes=12)
    assert refused.inputs["value"].name == "NoCapacityInvocationFailures"
    assert (refused.periods, refused.inputs["value"].period_s) == (3, 300), "12 minutes are three times five"


def test_a_threshold_that_is_switched_off_is_no_alarm() -> None:
    off = Alarms.model_construct(
        **{name: None for name in Alarms.model_fields if name != "errors_min_requests"}, errors_min_requests=1
    )

    for mode in MODES:
        assert endpoint_alarms.of_endpoint(endpoint(mode), off) == ()


def test_restarts_of_workers_are_watched_where_they_are_asked_for_and_the_mode_is_scraped() -> None:
    asked = Alarms(worker_restarts=3)
    found = {
        mode: alarm
        for mode in MODES
        for alarm in endpoint_alarms.of_endpoint(endpoint(mode), asked)
        if isinstance(alarm, SeriesAlarm)
    }

    assert set(found) == set(series.SCRAPED)
    assert found["realtime"].promql.endswith(">= 3")
    assert "tidegate_worker_restarts_total" in found["realtime"].promql


def test_versions_that_do_not_load_are_watched_where_there_is_a_repository() -> None:
    asked = Alarms(failed_loads=2)
    with_one = replace(endpoint("realtime"), repository=True)
    (alarm,) = (one for one in endpoint_alarms.of_endpoint(with_one, asked) if isinstance(one, SeriesAlarm))

    assert alarm.promql.startswith("sum(increase(tidegate_repository_loads_total{")
    assert 'result="failed"}' in alarm.promql
    assert alarm.promql.endswith(">= 2")
    assert not [one for one in endpoint_alarms.of_endpoint(endpoint("realtime"), asked) if isinstance(one, SeriesAlarm)]


def test_every_alarm_says_what_is_wrong_in_one_sentence_and_has_a_name_of_its_own() -> None:
    everything = Alarms(errors_4xx_percent=10.0, backlog=10, worker_restarts=1, failed_loads=1)
    for mode in MODES:
        alarms = endpoint_alarms.of_endpoint(replace(endpoint(mode), repository=True), everything)
        assert len(by_kind(alarms)) == len(alarms)
        for alarm in alarms:
            assert re.fullmatch(r"[A-Z].*\.", alarm.meaning), alarm.meaning
            assert "{" not in alarm.meaning


def test_every_input_of_an_expression_is_used_in_it() -> None:
    for mode in MODES:
        for alarm in endpoint_alarms.of_endpoint(endpoint(mode), Alarms(errors_4xx_percent=10.0)):
            if isinstance(alarm, MetricAlarm) and alarm.expression is not None:
                assert all(re.search(rf"\b{key}\b", alarm.expression) for key in alarm.inputs), alarm


def test_failed_jobs_undelivered_events_and_dropped_schedules_raise_an_alarm_each() -> None:
    workflows = WatchedWorkflows(
        state_machines=(WatchedStateMachine(name="tidegate-dev-batch", arn="arn:machine"),),
        dead_letter_queues=("tidegate-dev-batch-undelivered",),
        schedule_group="tidegate-dev",
    )
    alarms = by_kind(tuple(workflow_alarms.of_workflows(workflows)))
    machine = alarms["tidegate-dev-batch-failed"]

    assert set(alarms) == {"tidegate-dev-batch-failed", "tidegate-dev-batch-undelivered-filled", "schedule-dropped"}
    assert isinstance(machine, MetricAlarm)
    assert {metric.name for metric in machine.inputs.values()} == {
        "ExecutionsFailed",
        "ExecutionsTimedOut",
        "ExecutionsAborted",
    }
    assert {tuple(metric.dimensions.items()) for metric in machine.inputs.values()} == {
        (("StateMachineArn", "arn:machine"),)
    }
    assert not tuple(workflow_alarms.of_workflows(NO_WORKFLOWS))


def lines_of(mode: Mode) -> list[MetricReference]:
    (first, *_) = dashboard_plan.sections(endpoint(mode), NO_WORKFLOWS)
    return [line.metric for graph in first.graphs if isinstance(graph, Graph) for line in graph.lines]


@pytest.mark.parametrize("mode", MODES)
def test_the_dashboard_shows_every_metric_of_the_mode_that_an_alarm_watches(mode: Mode) -> None:
    shown = {(metric.namespace, metric.name) for metric in lines_of(mode)}
    everything = Alarms(errors_4xx_percent=10.0, backlog=10)
    alarms = endpoint_alarms.of_endpoint(replace(endpoint(mode), repository=True), everything)
    watched = {
        (metric.namespace, metric.name)
        for alarm in alarms
        if isinstance(alarm, MetricAlarm)
        for metric in alarm.inputs.values()
    }

    assert watched <= shown


@pytest.mark.parametrize(
    ("mode", "there", "absent"),
    [
        ("realtime", "Invocations OverheadLatency InvocationsPerInstance GPUUtilization", "ApproximateBacklogSize"),
        ("async", "ApproximateBacklogSize TimeInBacklog InvocationsProcessed", "Invocations OverheadLatency"),
        ("serverless", "ModelSetupTime ServerlessConcurrentExecutionsUtilization", "CPUUtilization DiskUtilization"),
        ("component", "InvocationsPerCopy GPUUtilizationNormalized", "InvocationsPerInstance GPUUtilization"),
        ("multi_model", "ModelCacheHit LoadedModelCount Invocations", "ModelSetupTime"),
    ],
)
def test_each_mode_shows_what_it_emits_and_nothing_else(mode: Mode, there: str, absent: str) -> None:
    shown = {metric.name for metric in lines_of(mode)}

    assert set(there.split()) <= shown
    assert not set(absent.split()) & shown


def test_latency_is_split_into_the_container_and_what_lies_outside_it() -> None:
    statistics = {(metric.name, metric.statistic) for metric in lines_of("realtime")}

    assert {(name, s) for name in ("ModelLatency", "OverheadLatency") for s in ("p50", "p99")} <= statistics


def test_the_servers_own_series_are_shown_where_sagemaker_scrapes_them() -> None:
    for mode in MODES:
        headings = [section.heading for section in dashboard_plan.sections(endpoint(mode), NO_WORKFLOWS)]
        assert ("Server" in headings) is (mode in series.SCRAPED)
    off = dashboard_plan.sections(endpoint("realtime"), NO_WORKFLOWS, with_series=False)
    assert "Server" not in [section.heading for section in off]


def every_chart(endpoint_name: str) -> tuple[series.Chart, ...]:
    here = series.of_endpoint(endpoint_name)
    return (*series.of_requests(here), *series.of_repository(here))


def test_every_series_in_a_query_is_one_that_the_server_really_has() -> None:
    """Held against the text that the server itself writes."""
    queries = [query.promql for chart in every_chart("e") for query in chart.queries]
    written = Written.by_the_server()

    assert len(written.named_in(queries)) >= 10
    assert written.lacks(queries) == set()


def test_the_label_with_dots_stands_in_quotes_because_underscores_would_match_nothing() -> None:
    for chart in every_chart("tidegate-dev"):
        for query in chart.queries:
            selectors = re.findall(r"\{[^}]*\}", query.promql)
            assert selectors
            assert set(selectors) == {'{"aws.sagemaker.endpoint.name"="tidegate-dev"}'}


@pytest.mark.parametrize("mode", MODES)
def test_widgets_lie_side_by_side_and_never_on_each_other(mode: Mode) -> None:
    content = body(dashboard_plan.sections(endpoint(mode), NO_WORKFLOWS), alarm_arns=["a"] * 9, region="eu-central-1")
    taken: set[tuple[int, int]] = set()

    for widget in content["widgets"]:
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert widget["x"] + widget["width"] <= 24
        assert not cells & taken
        taken |= cells
