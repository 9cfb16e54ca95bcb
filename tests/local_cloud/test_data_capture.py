"""Data capture: requests and answers as JSON lines in S3, as Model Monitor reads them."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, Account, await_true
from tests.local_cloud.test_shadow_traffic import variant
from tidegate.local_cloud.sagemaker.data_capture import DataCapture, Exchange, captured, object_key
from tidegate.local_cloud.sagemaker.roles import UncheckedRoles

BOTH = [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
TYPES = {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]}
PLACE = re.compile(r"\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl")
MOMENT = datetime(2026, 12, 1, 10, 20, 30, 45_000, UTC)


def capture(prefix: str, **more: Any) -> dict[str, Any]:
    return {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/{prefix}",
        "CaptureOptions": BOTH,
        "CaptureContentTypeHeader": TYPES,
        **more,
    }


def captures(account: Account, config: dict[str, Any], **more: Any) -> str:
    """An endpoint in service with that DataCaptureConfig."""
    name = account.name("captures")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant("front", account.model(STAND_IN_CONTENT_TYPE="text/csv; charset=utf-8"))],
        DataCaptureConfig=config,
        **more,
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert account.settled(name)["EndpointStatus"] == "InService"
    return name


def lines(account: Account, prefix: str, number: int) -> list[dict[str, Any]]:
    """The lines below a prefix, once there are as many."""
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = [json.loads(line) for key in account.keys(prefix) for line in account.get(key).splitlines()]
        return len(found) >= number

    await_true(are_there, f"{number} lines below {prefix}")
    return found


def test_an_exchange_becomes_a_line_in_s3_below_the_endpoint_and_the_variant(account: Account) -> None:
    endpoint = captures(account, capture("captured/"))
    account.invoke(endpoint, b"a,b", ContentType="text/csv", InferenceId="id-1", CustomAttributes="trace=1")
    account.invoke(endpoint, b"c,d", ContentType="application/x-npy")
    first, second = lines(account, f"captured/{endpoint}/front/", 2)
    event, moment = first["eventMetadata"].pop("eventId"), first["eventMetadata"].pop("inferenceTime")
    assert re.fullmatch(r"[0-9a-f-]{36}", event)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment)
    output = {"observedContentType": "text/csv; charset=utf-8", "mode": "OUTPUT", "data": "A,B", "encoding": "CSV"}
    assert first == {
        "captureData": {
            "endpointInput": {"observedContentType": "text/csv", "mode": "INPUT", "data": "a,b", "encoding": "CSV"},
            "endpointOutput": output,
        },
        "eventMetadata": {"customAttributes": ["trace=1"], "inferenceId": "id-1"},
        "eventVersion": "0",
    }
    given = second["captureData"]["endpointInput"]
    assert (given["encoding"], base64.b64decode(given["data"])) == ("BASE64", b"c,d")
    assert all(PLACE.fullmatch(key.partition("/front/")[2]) for key in account.keys(f"captured/{endpoint}/"))
    account.delete(endpoint)


def test_a_copy_to_a_shadow_is_captured_under_its_name(account: Account) -> None:
    shadow = variant("back", account.model(STAND_IN_PREFIX="shadow "))
    endpoint = captures(account, capture("both"), ShadowProductionVariants=[shadow])
    assert account.invoke(endpoint, b"a", ContentType="text/csv", Accept="application/json") == b"A"
    (line,) = lines(account, f"both/{endpoint}/back/", 1)
    assert line["captureData"]["endpointOutput"]["data"] == "shadow A"
    assert len(lines(account, f"both/{endpoint}/front/", 1)) == 1
    account.delete(endpoint)


def test_what_is_not_sampled_or_switched_off_is_not_written(account: Account) -> None:
    never = captures(account, capture("never", InitialSamplingPercentage=0))
    off = captures(account, capture("off", EnableCapture=False))
    always = captures(account, capture("always"))
    for endpoint in (never, off, always):
        account.invoke(endpoint, b"a")
    lines(account, f"always/{always}/", 1)  # what is written goes out in the order of the requests
    assert account.keys(f"never/{never}") == account.keys(f"off/{off}") == []
    told = account.settled(off)["DataCaptureConfig"]
    assert (told["EnableCapture"], told["CaptureStatus"]) == (False, "Stopped")
    for endpoint in (never, off, always):
        account.delete(endpoint)


def test_a_bucket_that_is_not_there_costs_the_captures_and_no_answer(account: Account) -> None:
    endpoint = captures(account, capture("x", DestinationS3Uri="s3://no-such-bucket/x"))
    assert account.invoke(endpoint, b"a") == b"A"
    said = f"endpoint {endpoint}: 1 captures cannot be written to s3://no-such-bucket/x/{endpoint}/front/"
    log = account.cloud.directory / "supervisor.log"
    await_true(lambda: said in log.read_text(encoding="utf-8", errors="replace"), "the loss is told")
    account.delete(endpoint)


def test_what_was_captured_of_an_endpoint_is_there_when_the_endpoint_is_not(account: Account) -> None:
    name = captures(account, capture("captured-before-the-end/"))
    for word in (b"a", b"b", b"c"):
        account.invoke(name, word)
    account.delete(name)
    found = [line for key in account.keys("captured-before-the-end/") for line in account.get(key).splitlines()]
    assert len(found) == 3


def test_an_update_keeps_the_capture_config_unless_it_is_excluded(account: Account) -> None:
    endpoint = captures(account, capture("kept"))
    config = account.config(account.model())
    for config_kept, more in ((True, {}), (False, {"ExcludeRetainedVariantProperties": ["DataCaptureConfig"]})):
        kinds = [{"VariantPropertyType": kind} for kind in more.get("ExcludeRetainedVariantProperties", [])]
        account.sagemaker.update_endpoint(
            EndpointName=endpoint,
            EndpointConfigName=config,
            RetainAllVariantProperties=True,
            ExcludeRetainedVariantProperties=kinds,
        )
        assert ("DataCaptureConfig" in account.settled(endpoint)) == config_kept
    account.delete(endpoint)


def test_captures_go_to_s3_only(account: Account) -> None:
    with pytest.raises(ClientError, match="DestinationS3Uri is https://b/x; it must be an s3:// address"):
        account.sagemaker.create_endpoint_config(
            EndpointConfigName=account.name("config"),
            ProductionVariants=[variant("front", account.model())],
            DataCaptureConfig=capture("x", DestinationS3Uri="https://b/x"),
        )


def exchange(**members: Any) -> Exchange:
    plain: dict[str, Any] = {"request": b"in", "answer": b"out", "sent": "text/csv", "answered": "application/json"}
    return Exchange(endpoint="e", variant="v", **plain | members)


@pytest.mark.parametrize(
    ("modes", "told"),
    [
        (["Input"], ["endpointInput"]),
        (["Output"], ["endpointOutput"]),
        (["InputAndOutput"], ["endpointInput", "endpointOutput"]),
    ],
)
def test_capture_options_say_which_side_is_kept(modes: list[str], told: list[str]) -> None:
    config = capture("x", CaptureOptions=[{"CaptureMode": mode} for mode in modes])
    assert list(captured(config, exchange(), MOMENT)["captureData"]) == told


def test_without_types_that_are_text_and_for_what_is_no_text_there_is_base64() -> None:
    plain = captured(capture("x", CaptureContentTypeHeader={}), exchange(), MOMENT)["captureData"]
    assert plain["endpointInput"]["encoding"] == plain["endpointOutput"]["encoding"] == "BASE64"
    broken = captured(capture("x"), exchange(request=b"\xff\xfe"), MOMENT)["captureData"]["endpointInput"]
    assert (broken["encoding"], base64.b64decode(broken["data"])) == ("BASE64", b"\xff\xfe")
    untyped = captured(capture("x"), exchange(sent=None), MOMENT)["captureData"]["endpointInput"]
    assert "observedContentType" not in untyped


def test_the_place_is_the_hour_in_which_the_lines_began() -> None:
    key = object_key("a/b/", "e", "v", MOMENT)
    assert re.fullmatch(r"a/b/e/v/2026/12/01/10/20-30-045-[0-9a-f-]{36}\.jsonl", key)


class Bucket:
    """What of S3 a capture needs."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **encrypted: str) -> None:  # noqa: N803 - as boto3
        assert (Bucket, encrypted) == (BUCKET, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"})
        assert Key.startswith("x/e/v/")
        self.objects.append(Body)


def test_what_waits_is_written_at_the_end_in_one_object() -> None:
    bucket = Bucket()
    capturing = DataCapture(UncheckedRoles(lambda _: bucket))
    config = capture("x", KmsKeyId="key")
    for number in range(5):
        capturing.record(config, exchange(request=str(number).encode()), role_arn=None)
    capturing.close()
    found = [json.loads(line)["captureData"]["endpointInput"]["data"] for line in b"".join(bucket.objects).splitlines()]
    assert found == ["0", "1", "2", "3", "4"]


def test_who_waits_for_an_endpoints_captures_finds_them_written() -> None:
    bucket = Bucket()
    capturing = DataCapture(UncheckedRoles(lambda _: bucket))
    config = capture("x", KmsKeyId="key")
    for number in range(3):
        capturing.record(config, exchange(request=str(number).encode()), role_arn=None)
    capturing.flush("e")
    assert len(b"".join(bucket.objects).splitlines()) == 3
    capturing.close()
