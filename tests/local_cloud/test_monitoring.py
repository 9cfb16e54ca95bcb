"""Model Monitor's definitions and schedules: recorded, described, and held against the endpoint that they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, ROLE, Account
from tests.local_cloud.test_stacks import stack_of

DEFINITION, SCHEDULE = "AWS::SageMaker::DataQualityJobDefinition", "AWS::SageMaker::MonitoringSchedule"


@pytest.fixture(scope="module")
def capturing(account: Account) -> Iterator[str]:
    """An endpoint whose configuration captures."""
    name = account.name("capturing")
    variant = {
        "VariantName": "v",
        "ModelName": account.model(),
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant],
        DataCaptureConfig={
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{BUCKET}/capture",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert account.settled(name)["EndpointStatus"] == "InService"
    yield name
    account.delete(name)


def definition(endpoint: str) -> dict[str, Any]:
    """What a definition has beside its name."""
    reports = {"LocalPath": "/opt/ml/processing/resultdata", "S3Uri": f"s3://{BUCKET}/monitor"}
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 20}
    return {
        "DataQualityAppSpecification": {"ImageUri": "analyzer"},
        "DataQualityJobInput": {"EndpointInput": {"EndpointName": endpoint, "LocalPath": "/opt/ml/processing/data"}},
        "DataQualityJobOutputConfig": {"MonitoringOutputs": [{"S3Output": reports}]},
        "JobResources": {"ClusterConfig": cluster},
        "RoleArn": ROLE,
    }


def schedule(name: str) -> dict[str, Any]:
    return {
        "MonitoringJobDefinitionName": name,
        "MonitoringType": "DataQuality",
        "ScheduleConfig": {"ScheduleExpression": "cron(0 * ? * * *)"},
    }


def code_of(call: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**members)
    return str(caught.value.response["Error"]["Code"])


def test_a_definition_and_its_schedule_are_described_as_they_were_given(account: Account, capturing: str) -> None:
    sagemaker, name = account.sagemaker, account.name("monitor")
    sagemaker.create_data_quality_job_definition(JobDefinitionName=name, **definition(capturing))
    sagemaker.create_monitoring_schedule(MonitoringScheduleName=name, MonitoringScheduleConfig=schedule(name))

    described = sagemaker.describe_data_quality_job_definition(JobDefinitionName=name)
    assert described["DataQualityAppSpecification"] == {"ImageUri": "analyzer"}
    found = sagemaker.describe_monitoring_schedule(MonitoringScheduleName=name)
    assert (found["MonitoringScheduleStatus"], found["EndpointName"]) == ("Scheduled", capturing)
    assert found["MonitoringScheduleConfig"] == schedule(name)
    listed = sagemaker.list_monitoring_schedules(EndpointName=capturing)["MonitoringScheduleSummaries"]
    assert [one["MonitoringScheduleName"] for one in listed] == [name]
    assert sagemaker.list_monitoring_executions(MonitoringScheduleName=name)["MonitoringExecutionSummaries"] == []

    assert code_of(sagemaker.delete_data_quality_job_definition, JobDefinitionName=name) == "ValidationException"
    sagemaker.delete_monitoring_schedule(MonitoringScheduleName=name)
    sagemaker.delete_data_quality_job_definition(JobDefinitionName=name)
    assert code_of(sagemaker.describe_monitoring_schedule, MonitoringScheduleName=name) == "ResourceNotFound"
    assert sagemaker.list_data_quality_job_definitions(EndpointName=capturing)["JobDefinitionSummaries"] == []


def test_an_endpoint_that_is_not_there_or_captures_nothing_is_not_monitored(account: Account) -> None:
    create = account.sagemaker.create_data_quality_job_definition
    silent = account.endpoint(account.model())

    for endpoint, words in (("nobody", "Could not find endpoint"), (silent, "captures no data")):
        with pytest.raises(ClientError, match=words):
            create(JobDefinitionName=account.name("monitor"), **definition(endpoint))
    account.delete(silent)


def test_a_schedule_needs_a_definition_that_there_is(account: Account) -> None:
    create = account.sagemaker.create_monitoring_schedule

    missing = code_of(create, MonitoringScheduleName="s", MonitoringScheduleConfig=schedule("nobody"))
    assert missing == "ValidationException"
    alone = {"ScheduleConfig": {"ScheduleExpression": "cron(0 * ? * * *)"}}
    assert code_of(create, MonitoringScheduleName="s", MonitoringScheduleConfig=alone) == "ValidationException"


def test_a_stack_makes_both_moves_the_schedule_to_another_definition_and_takes_both_away(
    account: Account, capturing: str
) -> None:
    first, second, name = account.name("first"), account.name("second"), account.name("schedule")

    def template(chosen: str) -> dict[str, Any]:
        watched = {"Type": DEFINITION, "Properties": {"JobDefinitionName": chosen, **definition(capturing)}}
        clock = {
            "Type": SCHEDULE,
            "DependsOn": "Definition",
            "Properties": {"MonitoringScheduleName": name, "MonitoringScheduleConfig": schedule(chosen)},
        }
        return {"Resources": {"Definition": watched, "Schedule": clock}}

    with stack_of(account) as stack:
        assert stack.create(template(first)) == "CREATE_COMPLETE", stack.events("Definition")
        assert stack.update(template(second)) == "UPDATE_COMPLETE", stack.events("Schedule")
        config = account.sagemaker.describe_monitoring_schedule(MonitoringScheduleName=name)["MonitoringScheduleConfig"]
        assert config["MonitoringJobDefinitionName"] == second
        summaries = account.sagemaker.list_data_quality_job_definitions(EndpointName=capturing)[
            "JobDefinitionSummaries"
        ]
        assert [one["MonitoringJobDefinitionName"] for one in summaries] == [second]
    assert account.sagemaker.list_monitoring_schedules(EndpointName=capturing)["MonitoringScheduleSummaries"] == []
