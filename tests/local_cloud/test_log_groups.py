"""CloudWatch's log groups: files in which the output of servers is, and the output of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.local_cloud.conftest import BUCKET, Account, await_true


@pytest.fixture
def logs(account: Account) -> Any:
    client = account.cloud.client("logs")
    yield client
    client.close()


def named_file(logs: Any, group: str, stream: str) -> Path:
    """The file that the last event of a stream names."""
    events = logs.filter_log_events(logGroupName=group, logStreamNames=[stream])["events"]
    return Path(events[-1]["message"].rpartition(" in ")[2])


def test_each_variant_of_an_endpoint_has_a_stream_also_of_one_that_was_there_before(
    account: Account, logs: Any
) -> None:
    name, config = account.name("Endpoint"), account.config(account.model(), account.model())
    for _ in range(2):
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        assert account.settled(name)["EndpointStatus"] == "InService"
        for variant in ("variant-0", "variant-1"):
            file = named_file(logs, f"/aws/sagemaker/Endpoints/{name}", f"{variant}/local")
            assert (file.parent.name, file.name) == (name, f"{variant}.log")
            assert file.is_file()
        account.delete(name)


def test_each_transform_job_has_a_stream_and_a_data_log(account: Account, logs: Any) -> None:
    name = account.name("job")
    account.put(f"{name}/in", b"abc")
    account.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=account.model(),
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/in"}}
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{name}-out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )

    def ended() -> bool:
        return str(account.sagemaker.describe_transform_job(TransformJobName=name)["TransformJobStatus"]) == "Completed"

    await_true(ended, "the job completes")
    streams = logs.describe_log_streams(
        logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix=f"{name}/local-"
    )["logStreams"]
    output, data_log = sorted(stream["logStreamName"] for stream in streams)
    assert data_log == f"{output}/data-log"
    events = logs.filter_log_events(logGroupName="/aws/sagemaker/TransformJobs", logStreamNames=[data_log])["events"]
    assert [event["message"].partition(":[sagemaker logs]: ")[2] for event in events] == [
        "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    ]
