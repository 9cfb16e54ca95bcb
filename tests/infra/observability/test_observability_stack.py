"""The observability stack of each mode, read from its template."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

HOSTING: dict[str, dict[str, Any]] = {
    "realtime": {"mode": "realtime"},
    "async": {"mode": "async", "scaling": {"max_instances": 2}},
    "serverless": {"mode": "serverless", "provisioned_concurrency": 1},
    "component": {"mode": "component", "copies": {"min_memory_mib": 1024}},
    "multimodel": {"mode": "multi_model", "instance_type": "ml.m7i.large"},
}
ADDRESS = "ml-team@example.com"


def table(mode: str) -> dict[str, Any]:
    return {
        "name": mode,
        "image": {"tag": "1.0"},
        "hosting": HOSTING[mode],
        "retention": {"keep_data": False},
        "observability": {"email": ADDRESS, "alarms": {"worker_restarts": 3, "errors_4xx_percent": 20.0}},
        "budget": {"monthly_usd": 500, "email": ADDRESS},
        "batch": None if mode in {"component", "multimodel"} else {"on_upload": True},
        "model_registry": {"promotion": True},
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, node_on_path: None) -> Path:
    """All modes in one synthesis, under the rules of cdk-nag: a finding would fail it here."""
    import aws_cdk as cdk
    from cdk_nag import AwsSolutionsChecks

    from tidegate.infra.configuration.stage import Stage
    from tidegate.infra.stacks.observability_stack import ObservabilityStack

    flags = json.loads((Path(__file__).parents[3] / "cdk.json").read_text())["context"]
    folder = tmp_path_factory.mktemp("observability")
    app = cdk.App(context=flags, outdir=str(folder))
    stages = {mode: table(mode) for mode in HOSTING}
    stages["theirs"] = table("realtime") | {"observability": {"topic_arn": "arn:aws:sns:eu-west-1:123456789012:ops"}}
    stages["budget"] = table("realtime") | {"observability": None}
    for unit, values in stages.items():
        ObservabilityStack(app, unit, stage=Stage.model_validate(values))
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return folder


def resources(directory: Path, unit: str, kind: str) -> dict[str, dict[str, Any]]:
    template = json.loads((directory / f"{unit}.template.json").read_text())
    return {
        name: resource["Properties"] for name, resource in template["Resources"].items() if resource["Type"] == kind
    }


def only(directory: Path, unit: str, kind: str) -> dict[str, Any]:
    (found,) = resources(directory, unit, kind).values()
    return found


def alarms(directory: Path, unit: str) -> dict[str, dict[str, Any]]:
    return {alarm["AlarmName"]: alarm for alarm in resources(directory, unit, "AWS::CloudWatch::Alarm").values()}


def widgets(directory: Path, unit: str) -> list[dict[str, Any]]:
    body = only(directory, unit, "AWS::CloudWatch::Dashboard")["DashboardBody"]
    _, parts = body["Fn::Join"]
    text = "".join(part if isinstance(part, str) else part["Ref"].removeprefix("AWS::") for part in parts)
    found: list[dict[str, Any]] = json.loads(text)["widgets"]
    return found


@pytest.mark.parametrize("mode", HOSTING)
def test_each_alarm_tells_the_topic_when_it_begins_and_when_it_is_over(mode: str, directory: Path) -> None:
    (topic,) = resources(directory, mode, "AWS::SNS::Topic")
    found = alarms(directory, mode)

    assert len(found) >= 5
    for alarm in found.values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}]
        assert alarm["AlarmDescription"].endswith(".")


def test_alarms_on_a_percentile_and_on_arithmetic_are_written_as_cloudwatch_wants_them(directory: Path) -> None:
    found = alarms(directory, "realtime")
    latency, errors = found["tidegate-realtime-latency"], found["tidegate-realtime-errors-5xx"]

    assert latency["ExtendedStatistic"] == "p99"
    assert "EvaluateLowSampleCountPercentile" not in latency, "a p99 of fewer than 1000 requests counts as well"
    assert (latency["DatapointsToAlarm"], latency["EvaluationPeriods"]) == (3, 5)
    assert latency["Threshold"] == 48_000_000
    assert {"Name": "VariantName", "Value": "primary"} in latency["Dimensions"]
    assert [query["Id"] for query in errors["Metrics"] if query["ReturnData"]] == ["result"]
    inputs = [query for query in errors["Metrics"] if not query["ReturnData"]]
    assert {query["MetricStat"]["Period"] for query in inputs} == {300}
    assert "MetricName" not in errors


def test_the_alarm_on_the_servers_own_series_asks_in_promql(directory: Path) -> None:
    alarm = alarms(directory, "realtime")["tidegate-realtime-worker-restarts"]

    query = alarm["EvaluationCriteria"]["PromQLCriteria"]["Query"]
    assert '"aws.sagemaker.endpoint.name"="tidegate-realtime"' in query
    assert query.endswith(">= 3")
    assert alarm["EvaluationInterval"] == 60


def test_batch_jobs_and_roll_outs_are_watched_where_the_stage_has_them(directory: Path) -> None:
    kinds = "batch-failed batch-intake-failed promotion-failed batch-undelivered-filled promotion-undelivered-filled"

    assert {f"tidegate-async-{kind}" for kind in kinds.split()} <= set(alarms(directory, "async"))
    assert not any("batch" in name for name in alarms(directory, "component"))


def test_cloudwatch_may_use_the_key_and_publish_and_nobody_may_without_tls(directory: Path) -> None:
    """With the key that AWS has for SNS, CloudWatch's messages would be lost."""
    (key_name,) = resources(directory, "realtime", "AWS::KMS::Key")
    key = only(directory, "realtime", "AWS::KMS::Key")
    policy = only(directory, "realtime", "AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    encrypt = next(s for s in key["KeyPolicy"]["Statement"] if s.get("Sid") == "EncryptAlarms")
    publish = next(s for s in policy if s["Effect"] == "Allow")
    refuse = next(s for s in policy if s["Effect"] == "Deny")

    assert key["EnableKeyRotation"] is True
    assert only(directory, "realtime", "AWS::SNS::Topic")["KmsMasterKeyId"] == {"Fn::GetAtt": [key_name, "Arn"]}
    assert encrypt["Principal"] == publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert encrypt["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert publish["Action"] == "sns:Publish"
    for statement in (encrypt, publish):
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert refuse["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_address_of_the_stage_is_subscribed(directory: Path) -> None:
    subscription = only(directory, "realtime", "AWS::SNS::Subscription")

    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", ADDRESS)


def test_alarms_go_to_a_topic_that_is_already_there_where_the_stage_names_one(directory: Path) -> None:
    assert not resources(directory, "theirs", "AWS::SNS::Topic")
    assert not resources(directory, "theirs", "AWS::KMS::Key")
    actions = {str(alarm["AlarmActions"]) for alarm in alarms(directory, "theirs").values()}
    assert actions == {"['arn:aws:sns:eu-west-1:123456789012:ops']"}


@pytest.mark.parametrize("mode", HOSTING)
def test_the_budget_counts_what_carries_both_tags_and_mails_at_80_percent_and_at_a_forecast_of_100(
    mode: str, directory: Path
) -> None:
    properties = only(directory, mode, "AWS::Budgets::Budget")
    budget = properties["Budget"]
    rules = {
        (rule["Notification"]["NotificationType"], rule["Notification"]["Threshold"]): rule["Subscribers"]
        for rule in properties["NotificationsWithSubscribers"]
    }

    assert budget["BudgetLimit"] == {"Amount": 500, "Unit": "USD"}
    assert (budget["BudgetType"], budget["TimeUnit"]) == ("COST", "MONTHLY")
    tags = {part["Tags"]["Key"]: part["Tags"]["Values"] for part in budget["FilterExpression"]["And"]}
    assert tags == {"project": ["tidegate"], "stage": [mode]}
    assert set(rules) == {("ACTUAL", 80), ("FORECASTED", 100)}
    assert all(who == [{"Address": ADDRESS, "SubscriptionType": "EMAIL"}] for who in rules.values())


def test_a_stage_that_only_has_a_budget_has_nothing_else(directory: Path) -> None:
    template = json.loads((directory / "budget.template.json").read_text())

    assert [resource["Type"] for resource in template["Resources"].values()] == ["AWS::Budgets::Budget"]


@pytest.mark.parametrize("mode", HOSTING)
def test_the_dashboard_begins_with_every_alarm_of_the_stage(mode: str, directory: Path) -> None:
    first = widgets(directory, mode)[0]

    assert first["type"] == "alarm"
    names = {arn.rpartition(":")[2] for arn in first["properties"]["alarms"]}
    assert names == set(alarms(directory, mode))


def test_the_dashboard_asks_for_the_servers_series_in_promql(directory: Path) -> None:
    charts = {mode: [w for w in widgets(directory, mode) if w["type"] == "chart"] for mode in HOSTING}

    assert {mode for mode, found in charts.items() if found} == {"realtime", "component", "multimodel"}
    for chart in charts["realtime"]:
        for query in chart["properties"]["data"]["queries"]:
            assert query["language"] == "PromQL"
            assert "tidegate-realtime" in query["query"]


def test_every_widget_says_its_region_so_that_the_dashboard_can_be_read_from_any(directory: Path) -> None:
    drawn: list[Mapping[str, Any]] = [w for w in widgets(directory, "realtime") if w["type"] in {"metric", "chart"}]

    assert len(drawn) > 10
    assert {widget["properties"]["region"] for widget in drawn} == {"Region"}


def test_every_template_passes_cfn_lint(directory: Path) -> None:
    templates = sorted(directory.glob("*.template.json"))
    lint = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *templates], capture_output=True, text=True, check=False
    )

    assert len(templates) == len(HOSTING) + 2
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_no_finding_of_cdk_nag_had_to_be_acknowledged(directory: Path) -> None:
    report = (directory / "validation-report.json").read_text()

    assert '"failure"' not in report
    assert "AwsSolutions-" not in report
