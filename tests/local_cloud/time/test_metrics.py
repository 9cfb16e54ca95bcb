"""What SageMaker tells CloudWatch of requests, backlogs and instances."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, await_true, model_archive
from tests.local_cloud.time.conftest import TimedAccount


def test_requests_are_counted_under_endpoint_and_variant_and_under_the_configuration(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    of = {"EndpointName": endpoint, "VariantName": "variant-0"}
    for body in (b"echo:1", b"echo:2", b"status:404", b"status:503", b"hang up:"):
        with suppress(ClientError):
            account.invoke(endpoint, body)
    config = account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    for dimensions in (of, of | {"EndpointConfigName": config}):
        found = {
            name: account.sum_of(name, dimensions)
            for name in (
                "Invocations",
                "InvocationsPerInstance",
                "Invocation4XXErrors",
                "Invocation5XXErrors",
                "InvocationModelErrors",
            )
        }
        assert found == {
            "Invocations": 5,
            "InvocationsPerInstance": 5,
            "Invocation4XXErrors": 1,
            "Invocation5XXErrors": 1,
            "InvocationModelErrors": 3,
        }
    latencies = account.points("ModelLatency", of, "Minimum")
    assert latencies
    assert all(point["Minimum"] > 0 for point in latencies)
    (day,) = account.cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Dimensions=[{"Name": key, "Value": value} for key, value in of.items()],
        StartTime=latencies[-1]["Timestamp"],
        EndTime=latencies[-1]["Timestamp"] + timedelta(days=1),
        Period=86400,
        Statistics=["Minimum"],
    )["Datapoints"]
    assert day["Unit"] == "Microseconds"
    assert account.points("OverheadLatency", of, "Average")
    account.delete(endpoint)


def test_what_the_service_itself_refuses_is_no_error_of_the_model(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    of = {"EndpointName": endpoint, "VariantName": "variant-0"}
    with pytest.raises(ClientError):
        account.invoke(endpoint, b"x", TargetModel="one.tar.gz")
    account.invoke(endpoint, b"echo:1")
    assert account.sum_of("InvocationModelErrors", of) == 0
    account.delete(endpoint)


def test_a_stream_tells_of_its_first_chunk_and_of_its_breaking_off(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    of = {"EndpointName": endpoint, "VariantName": "variant-0"}
    answer = account.runtime.invoke_endpoint_with_response_stream(EndpointName=endpoint, Body=b"stream:a,b,c")
    assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"abc"

    def told() -> bool:  # the request ends a moment after its last piece
        return bool(account.points("FirstChunkLatency", of, "SampleCount"))

    await_true(told, "the stream is counted")
    assert account.sum_of("MidStreamErrors", of) == 0
    for name in ("FirstChunkModelLatency", "FirstChunkOverheadLatency", "ModelLatency"):
        assert account.points(name, of, "Maximum"), name
    account.delete(endpoint)


def test_a_multi_model_endpoint_tells_of_its_cache(account: TimedAccount) -> None:
    for name in ("one", "two"):
        account.put(f"many/{name}.tar.gz", model_archive({"word": name}))
    model = account.name("model")
    container = {"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/many/", "Mode": "MultiModel"}
    account.sagemaker.create_model(ModelName=model, PrimaryContainer=container)
    endpoint = account.endpoint(model)
    for target in ("one.tar.gz", "one.tar.gz", "two.tar.gz", "one.tar.gz"):
        account.invoke(endpoint, b"x", TargetModel=target)
    account.advance(minutes=1)
    config = account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    of = {"EndpointName": endpoint, "VariantName": "variant-0", "EndpointConfigName": config}
    assert account.sum_of("ModelCacheHit", of) == 2
    samples = {
        name: sum(point["SampleCount"] for point in account.points(name, of, "SampleCount"))
        for name in ("ModelCacheHit", "ModelLoadingWaitTime", "ModelLoadingTime", "ModelDownloadingTime")
    }
    assert samples == {
        "ModelCacheHit": 4,
        "ModelLoadingWaitTime": 4,
        "ModelLoadingTime": 2,
        "ModelDownloadingTime": 2,
    }
    of.pop("EndpointConfigName")
    loaded = account.points("LoadedModelCount", of, "Maximum", namespace="/aws/sagemaker/Endpoints")
    assert max(point["Maximum"] for point in loaded) == 2
    account.delete(endpoint)


def test_every_instance_reports_its_use_once_a_minute(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    of = {"EndpointName": endpoint, "VariantName": "variant-0"}
    account.advance(minutes=5)
    for name in ("CPUUtilization", "MemoryUtilization"):
        points = account.points(name, of, "SampleCount", namespace="/aws/sagemaker/Endpoints")
        assert len(points) >= 5, name
        assert {point["SampleCount"] for point in points} == {1.0}, name
    memory = account.points("MemoryUtilization", of, "Average", namespace="/aws/sagemaker/Endpoints")
    assert all(0 < point["Average"] < 100 for point in memory)
    account.delete(endpoint)


def test_an_asynchronous_endpoint_tells_of_its_backlog_and_has_no_invocations(account: TimedAccount) -> None:
    endpoint = account.asynchronous()
    of = {"EndpointName": endpoint}
    account.advance(minutes=2)
    assert account.points("ApproximateBacklogSize", of, "Maximum")
    assert {point["Maximum"] for point in account.points("HasBacklogWithoutCapacity", of, "Maximum")} == {0.0}
    location = account.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"echo:1")["OutputLocation"]
    key = location.removeprefix(f"s3://{BUCKET}/")
    await_true(lambda: bool(account.keys(key)), "the answer is there")
    variant = of | {"VariantName": "only"}
    await_true(lambda: account.sum_of("InvocationsProcessed", variant) >= 1, "the request is counted")
    assert account.sum_of("InvocationFailures", variant) == 0
    assert account.points("TimeInBacklog", variant, "Maximum")
    assert not account.points("Invocations", variant, "Sum")
    account.delete(endpoint)


def test_metrics_are_listed_with_their_dimensions(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    account.invoke(endpoint, b"echo:1")
    found = account.cloudwatch.list_metrics(
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Dimensions=[{"Name": "EndpointName", "Value": endpoint}],
    )["Metrics"]
    names = [sorted(dimension["Name"] for dimension in metric["Dimensions"]) for metric in found]
    assert sorted(names) == [["EndpointConfigName", "EndpointName", "VariantName"], ["EndpointName", "VariantName"]]
    account.delete(endpoint)


def test_percentiles_and_metric_math_are_read_of_own_metrics_and_of_the_cloud_s(account: TimedAccount) -> None:
    name, endpoint = account.name("metric"), account.endpoint(account.model())
    data = [{"MetricName": name, "Values": [float(value) for value in range(1, 101)]}]
    wider = {"MetricName": name, "Value": 1e6, "Dimensions": [{"Name": "of", "Value": "another"}]}
    account.cloudwatch.put_metric_data(Namespace="Own", MetricData=[*data, wider])
    for _ in range(3):
        account.invoke(endpoint, b"echo:1")
    now = account.advance(minutes=1)
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "variant-0"}]
    invocations = {"Namespace": "AWS/SageMaker", "MetricName": "Invocations", "Dimensions": dimensions}

    def query(key: str, metric: dict[str, Any], stat: str) -> dict[str, Any]:
        return {"Id": key, "MetricStat": {"Metric": metric, "Period": 3600, "Stat": stat}}

    own = {"Namespace": "Own", "MetricName": name}
    times = {"StartTime": now - timedelta(minutes=50), "EndTime": now + timedelta(minutes=1)}  # within one period
    answer = account.cloudwatch.get_metric_data(
        MetricDataQueries=[
            {"Id": "twice", "Expression": "2 * sum", "Label": "in all"},
            {"Id": "sum", "Expression": "SUM(METRICS())"},
            query("tail", own, "p90"),
            query("calls", invocations, "Sum"),
            query("latency", {**invocations, "MetricName": "ModelLatency"}, "p50"),
        ],
        **times,
    )
    found = {each["Id"]: each for each in answer["MetricDataResults"]}
    assert {each["StatusCode"] for each in found.values()} == {"Complete"}
    assert found["tail"]["Values"] == [pytest.approx(90, rel=0.02)]
    assert found["calls"]["Values"] == [3.0]
    assert found["latency"]["Values"][0] > 0
    total = sum(found[key]["Values"][0] for key in ("tail", "calls", "latency"))
    assert found["sum"]["Values"] == [pytest.approx(total)]
    assert (found["twice"]["Label"], found["twice"]["Values"]) == ("in all", [pytest.approx(2 * total)])
    assert found["twice"]["Timestamps"] == found["tail"]["Timestamps"]
    (point,) = account.cloudwatch.get_metric_statistics(
        **own, Period=3600, Statistics=["Sum", "SampleCount"], ExtendedStatistics=["p90", "p100"], **times
    )["Datapoints"]
    assert (point["Sum"], point["SampleCount"]) == (5050.0, 100.0)  # what has a dimension more is another metric
    assert point["ExtendedStatistics"] == {"p90": pytest.approx(90, rel=0.02), "p100": 100.0}
    account.delete(endpoint)
