"""What the playground's page asks of the cloud: the ways of each kind of endpoint, and requests that nobody signed."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true, model_archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """The page's own requests, with its token."""

    port: int
    token: str

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        sent = {"Host": f"localhost:{self.port}", "X-Tidegate-Playground": self.token}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            method = "GET" if body is None else "POST"
            connection.request(method, path, body, {**sent, **{k.replace("_", "-"): v for k, v in headers.items()}})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def target(self, name: str) -> dict[str, Any]:
        status, _, body = self.ask("/playground/targets")
        assert status == 200
        found: dict[str, Any] = next(each for each in json.loads(body)["targets"] if each["name"] == name)
        return found

    def said(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)


@pytest.fixture(scope="module")
def asker(account: Account) -> Asker:
    record = account.cloud.record()
    assert record is not None
    port = urlsplit(record.playground_url).port
    assert port is not None
    _, _, document = Asker(port=port, token="").ask("/playground")
    facts = re.search(rb'id="facts">(.*?)</script>', document)
    assert facts is not None
    return Asker(port=port, token=json.loads(facts[1])["token"])


@pytest.fixture(scope="module")
def two(account: Account) -> Iterator[str]:
    """An endpoint of two variants, of which the second gets no traffic by itself."""
    name = account.endpoint(account.model(), account.model(), weights=(1.0, 0.0))
    yield name
    account.delete(name)


def test_an_endpoint_of_several_variants_is_asked_by_weight_or_by_name(asker: Asker, two: str) -> None:
    """Each way has the headers and paths that make it, and works without a signature."""
    target = asker.target(two)
    assert target["status"] == "InService"
    ways = {way["label"]: way for way in target["ways"]}
    assert list(ways) == ["by weight", "variant-0", "variant-1"]
    assert ways["by weight"]["chat"] == f"/playground/endpoints/{two}/openai/v1/chat/completions"
    assert ways["variant-1"]["chat"] is None
    for label, answered in (("by weight", "variant-0"), ("variant-1", "variant-1")):
        way = ways[label]
        status, headers, _ = asker.ask(way["invoke"], b"{}", Content_Type="application/json", **way["headers"])
        assert (status, headers["x-amzn-invoked-production-variant"]) == (200, answered)
    status, headers, _ = asker.ask(ways["by weight"]["stream"], b"{}", Content_Type="application/json")
    assert (status, headers["content-type"]) == (200, "application/vnd.amazon.eventstream")


def test_a_server_without_metrics_and_a_model_without_an_example_are_said_to_be_so(asker: Asker, two: str) -> None:
    """Sentences, and no errors: the page works without either."""
    way = asker.target(two)["ways"][2]
    about = asker.said(way["about"])
    assert about["example"] is None
    assert "no manifest.json" in about["reason"]
    (instance,) = asker.said(way["metrics"])["instances"]
    assert instance["name"] == "variant-1 1"
    assert instance["text"] is None
    assert "no metrics" in instance["error"]


def test_a_multi_model_endpoint_offers_the_archives_below_its_prefix(asker: Asker, account: Account) -> None:
    """With the example of each, before anything has loaded it."""
    manifest = {
        "format_version": 1,
        "example": {"request": {"file": "request.json", "content_type": "application/json", "accept": "text/csv"}},
    }
    account.put("shelf/one.tar.gz", model_archive({"manifest.json": json.dumps(manifest), "request.json": "[1]"}))
    name = account.name("model")
    account.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "serve", "Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/shelf/"},
    )
    endpoint = account.endpoint(name)
    (way,) = asker.target(endpoint)["ways"]
    assert way["headers"] == {"X-Amzn-SageMaker-Target-Model": "one.tar.gz"}
    assert asker.said(way["about"])["example"] == {
        "content_type": "application/json",
        "accept": "text/csv",
        "body": "WzFd",
    }
    assert asker.said(f"/local/endpoints/{endpoint}")["LoadedModels"] == {"variant-0": []}
    account.put("shelf/two.tar.gz", model_archive({"code/inference.py": ""}))
    assert len(asker.target(endpoint)["ways"]) == 2
    gone = asker.ask(way["about"].replace("one.tar.gz", "three.tar.gz"))
    assert gone[0] == 503
    assert b"Failed to download model data" in gone[2]
    account.delete(endpoint)


def test_what_cannot_be_asked_is_listed_with_the_reason(asker: Asker, account: Account) -> None:
    """An endpoint that waits for its inference components; then the component."""
    variant = {"VariantName": "v", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
    shared = account.name("shared")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=shared, ExecutionRoleArn=ROLE, ProductionVariants=[variant]
    )
    account.sagemaker.create_endpoint(EndpointName=shared, EndpointConfigName=shared)
    assert account.settled(shared)["EndpointStatus"] == "InService"
    assert (asker.target(shared)["ways"], "no inference component" in asker.target(shared)["reason"]) == ([], True)
    component = account.name("component")
    account.sagemaker.create_inference_component(
        InferenceComponentName=component,
        EndpointName=shared,
        VariantName="v",
        Specification={
            "Container": {"Image": "serve", "ArtifactUrl": f"s3://{BUCKET}/model.tar.gz"},
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 512},
        },
        RuntimeConfig={"CopyCount": 1},
    )

    def status() -> str:
        described = account.sagemaker.describe_inference_component(InferenceComponentName=component)
        return str(described["InferenceComponentStatus"])

    await_true(lambda: status() == "InService", "the component is in service")
    (way,) = asker.target(shared)["ways"]
    assert way["headers"] == {"X-Amzn-SageMaker-Inference-Component": component}
    assert asker.ask(way["invoke"], b"{}", Content_Type="application/json", **way["headers"])[0] == 200
    assert len(asker.said(way["metrics"])["instances"]) == 1
    account.sagemaker.delete_inference_component(InferenceComponentName=component)
    await_true(lambda: asker.target(shared)["ways"] == [], "the component is gone")
    account.delete(shared)


def test_a_request_of_an_asynchronous_endpoint_is_followed_to_its_object(asker: Asker, account: Account) -> None:
    """The answer, the failure object, a failure without one; and no other object of the account."""
    outputs = {"S3OutputPath": f"s3://{BUCKET}/later/"}
    told, silent = account.name("told"), account.name("silent")
    for name, failures in ((told, {"S3FailurePath": f"s3://{BUCKET}/failed"}), (silent, {})):
        variant = {"VariantName": "v", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
        account.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[{**variant, "ModelName": account.model()}],
            AsyncInferenceConfig={"OutputConfig": {**outputs, **failures}},
        )
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    for name in (told, silent):
        assert account.settled(name)["EndpointStatus"] == "InService"

    def sent(name: str, body: bytes) -> tuple[str, bytes]:
        (way,) = asker.target(name)["ways"]
        assert (way["label"], way["stream"], way["chat"]) == ("asynchronous", None, None)
        status, headers, _ = asker.ask(way["invoke"], body, X_Amzn_SageMaker_Content_Type="text/plain")
        assert status == 202
        locations = {
            "output": headers["x-amzn-sagemaker-outputlocation"],
            "failure": headers.get("x-amzn-sagemaker-failurelocation", ""),
        }
        found: list[tuple[str, bytes]] = []

        def is_there() -> bool:
            status, headers, body = asker.ask(f"{way['later']}&{urlencode(locations)}")
            assert status in (200, 202), body
            if status == 200:
                found.append((headers["x-tidegate-object"], body))
            return status == 200

        await_true(is_there, "the object is there")
        return found[-1]

    assert sent(told, b"abc") == ("answer", b"ABC")
    kind, said = sent(told, b"status:503")
    assert (kind, b"Received server error (503)" in said) == ("failure", True)
    kind, said = sent(silent, b"status:503")
    assert (kind, b"has no S3FailurePath" in said) == ("failure", True)
    (way,) = asker.target(told)["ways"]
    for wanted in (
        {"output": f"s3://{BUCKET}/model.tar.gz"},
        {"output": f"s3://{BUCKET}/later/x", "failure": f"s3://{BUCKET}/model.tar.gz"},
        {},
    ):
        assert asker.ask(f"{way['later']}&{urlencode(wanted)}")[0] == 403
    for name in (told, silent):
        account.delete(name)
    status, _, said = asker.ask(f"{way['later']}&{urlencode({'output': f's3://{BUCKET}/later/x'})}")
    assert (status, b"is not there any more" in said) == (400, True)


def test_a_link_on_another_site_may_open_the_page_and_nothing_else(asker: Asker) -> None:
    """As the document of a tab, which no other page can read or frame."""
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    for path in ("/playground", "/playground/"):
        status, headers, _ = asker.ask(path, **linked)
        assert status == 200
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-opener-policy"] == "same-origin"
        for other in ({"Sec_Fetch_Dest": "iframe"}, {"Sec_Fetch_Mode": "no-cors"}, {"Origin": "http://evil.example"}):
            assert asker.ask(path, **{**linked, **other})[0] == 403
    assert asker.ask("/playground/targets", **linked)[0] == 403
    assert asker.ask("/playground/endpoints/nobody/invocations", b"{}", **linked)[0] == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/playground/endpoints/nobody/invocations", 400),
        ("/playground/endpoints/nobody/async-invocations", 400),
        ("/playground/endpoints/nobody/invocations-bidirectional-stream", 404),
        ("/playground/endpoints/nobody/openai/v1/models", 404),
        ("/playground/endpoints/..%2F..%2Flocal/clock", 404),
        ("/playground/endpoints", 404),
        ("/playground/local/clock", 404),
        ("/playground/about", 404),
    ],
)
def test_nothing_else_is_to_be_had_below_the_path(asker: Asker, path: str, status: int) -> None:
    """One sentence for each, and no way to the control plane or to what is ours."""
    answered, _, body = asker.ask(path, b"{}", Content_Type="application/json")
    assert answered == status
    assert json.loads(body)["message"].endswith(".") or "not found" in json.loads(body)["message"]
