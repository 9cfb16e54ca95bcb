"""Jobs that hold what was captured against a baseline."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest

from tests.infra.conftest import Synthesised
from tests.infra.models.test_pipelines import statements
from tests.infra.stacks.test_endpoint import text
from tidegate.infra.hosting.analyzer_image import analyzer_image

DEFINITION = "AWS::SageMaker::DataQualityJobDefinition"
SCHEDULE = "AWS::SageMaker::MonitoringSchedule"
BUCKET = "tidegate-pipeline-data-123456789012-eu-central-1"


@pytest.fixture
def stage(samples: dict[str, Synthesised]) -> Synthesised:
    return samples["pipeline"]


def test_the_analyzer_of_the_region_compares_the_endpoint_s_captures_with_the_baseline(stage: Synthesised) -> None:
    definition = stage.only("endpoint", DEFINITION)

    assert definition["DataQualityAppSpecification"] == {
        "ImageUri": "048819808253.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-model-monitor-analyzer",
        "RecordPreprocessorSourceUri": "s3://other-bucket/monitor/flatten.py",
    }
    assert definition["DataQualityBaselineConfig"] == {
        "StatisticsResource": {"S3Uri": "s3://some-bucket/baselines/7/statistics.json"},
        "ConstraintsResource": {"S3Uri": "s3://some-bucket/baselines/7/constraints.json"},
    }
    assert definition["DataQualityJobInput"]["EndpointInput"]["EndpointName"] == "tidegate-pipeline"
    (output,) = definition["DataQualityJobOutputConfig"]["MonitoringOutputs"]
    assert output["S3Output"]["S3Uri"] == f"s3://{BUCKET}/monitor"
    cluster = definition["JobResources"]["ClusterConfig"]
    assert (cluster["InstanceType"], cluster["InstanceCount"], cluster["VolumeSizeInGB"]) == ("ml.m5.xlarge", 1, 20)
    assert definition["DataQualityJobOutputConfig"]["KmsKeyId"] == cluster["VolumeKmsKeyId"]
    assert definition["NetworkConfig"]["VpcConfig"].keys() == {"Subnets", "SecurityGroupIds"}


def test_the_schedule_keeps_its_name_and_the_definition_changes_its_own_with_its_content(stage: Synthesised) -> None:
    definition, schedule = stage.only("endpoint", DEFINITION), stage.only("endpoint", SCHEDULE)

    assert definition["JobDefinitionName"].startswith("tidegate-pipeline-")
    assert schedule == {
        "MonitoringScheduleName": "tidegate-pipeline-data-quality",
        "MonitoringScheduleConfig": {
            "MonitoringJobDefinitionName": definition["JobDefinitionName"],
            "MonitoringType": "DataQuality",
            "ScheduleConfig": {"ScheduleExpression": "cron(0 3 ? * * *)"},
        },
        **{name: schedule[name] for name in ("Tags",) if name in schedule},
    }


def test_the_endpoint_comes_first_then_the_definition_then_the_schedule(stage: Synthesised) -> None:
    found = stage.templates["endpoint"].to_json()["Resources"]

    def only(kind: str) -> tuple[str, list[str]]:
        ((name, one),) = ((name, one) for name, one in found.items() if one["Type"] == kind)
        return name, one.get("DependsOn", [])

    endpoint, _ = only("AWS::SageMaker::Endpoint")
    definition, after_definition = only(DEFINITION)
    _, after_schedule = only(SCHEDULE)
    assert endpoint in after_definition
    assert definition in after_schedule


def test_its_role_reads_captures_and_baseline_and_writes_reports_and_nothing_else(stage: Synthesised) -> None:
    may = statements(stage, "MonitorRole")

    def resources(sid: str) -> str:
        found = may[sid]["Resource"]
        return " ".join(text(one) for one in (found if isinstance(found, list) else [found]))

    assert resources("ReadCaptures").endswith(f":s3:::{BUCKET}/capture/*")
    assert resources("WriteReports").endswith(f":s3:::{BUCKET}/monitor/*")
    assert may["FindCaptures"]["Condition"] == {"StringLike": {"s3:prefix": ["capture/*"]}}
    assert "some-bucket/baselines/7/statistics.json" in resources("ReadBaseline")
    assert "other-bucket/monitor/flatten.py" in resources("ReadBaseline")
    assert "048819808253:repository/sagemaker-model-monitor-analyzer" in resources("PullImage")
    assert "/aws/sagemaker/ProcessingJobs" in resources("WriteLogs")
    assert "models/" not in json.dumps(may)


def test_reports_are_deleted_when_captures_are(stage: Synthesised) -> None:
    buckets = stage.properties("storage", "AWS::S3::Bucket").values()
    rules: list[dict[str, Any]] = [rule for one in buckets for rule in one["LifecycleConfiguration"]["Rules"]]

    days = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "Prefix" in rule}
    assert days["monitor/"] == days["capture/"] == 90


def test_the_analyzer_is_known_in_regions_that_aws_has() -> None:
    regions = botocore.session.get_session().get_available_regions("sagemaker")
    china = botocore.session.get_session().get_available_regions("sagemaker", partition_name="aws-cn")

    known = {region for region in (*regions, *china) if analyzer_image(region) is not None}
    assert len(known) == 20
    assert all(len(str(analyzer_image(region)).partition(".")[0]) == 12 for region in known)
    assert analyzer_image("mars-north-1") is None
