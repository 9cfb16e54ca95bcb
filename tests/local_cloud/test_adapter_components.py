"""Adapter inference components: they run nothing, and change what another component answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, Account, await_true, model_archive
from tests.local_cloud.test_inference_components import Component, endpoint, listed, specification
from tests.local_cloud.test_stacks import stack_of

__all__ = ["endpoint"]  # the fixture


@pytest.fixture
def base(account: Account, endpoint: str) -> Iterator[Component]:
    """A component in service, and its adapters at the end no more."""
    made = Component(account, endpoint)
    made.create(specification(STAND_IN_PREFIX="base "))
    yield made
    for name in listed(account, endpoint):
        described = account.sagemaker.describe_inference_component(InferenceComponentName=name)
        if described["Specification"].get("BaseInferenceComponentName") == made.name:
            Adapter(made, name).delete()
    made.delete()


class Adapter:
    """An adapter of ``base``, and what a user sees of it."""

    def __init__(self, base: Component, name: str | None = None) -> None:
        self.base, self.account = base, base.account
        self.name = name or base.account.name("adapter")

    def archive(self, **files: str) -> str:
        return self.account.put(f"{self.account.name('adapters')}/adapter.tar.gz", model_archive(files))

    def wanted(self, archive: str) -> dict[str, Any]:
        return {"BaseInferenceComponentName": self.base.name, "Container": {"ArtifactUrl": archive}}

    def create(self, archive: str) -> dict[str, Any]:
        self.account.sagemaker.create_inference_component(
            InferenceComponentName=self.name, EndpointName=self.base.endpoint, Specification=self.wanted(archive)
        )
        return self.settled()

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.account.sagemaker.describe_inference_component(InferenceComponentName=self.name)
        return found

    def settled(self) -> dict[str, Any]:
        await_true(
            lambda: self.describe()["InferenceComponentStatus"] not in ("Creating", "Updating"), f"{self.name} settles"
        )
        return self.describe()

    def invoke(self, body: bytes) -> bytes:
        return self.account.invoke(self.base.endpoint, body, InferenceComponentName=self.name)

    def delete(self) -> None:
        self.account.sagemaker.delete_inference_component(InferenceComponentName=self.name)


def refused(call: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**members)
    return str(caught.value.response["Error"]["Message"])


def test_a_request_to_an_adapter_is_answered_by_its_base_with_it(base: Component) -> None:
    french, german = Adapter(base), Adapter(base)
    described = french.create(french.archive(word="oui"))
    german.create(german.archive(word="ja"))

    assert described["InferenceComponentStatus"] == "InService"
    assert described["Specification"]["BaseInferenceComponentName"] == base.name
    assert (french.invoke(b"x"), german.invoke(b"x"), base.invoke(b"x")) == (b"oui x", b"ja x", b"base X")
    assert {french.name, german.name, base.name} <= set(listed(base.account, base.endpoint))


def test_a_stream_of_an_adapter_is_its_own_too(base: Component) -> None:
    french = Adapter(base)
    french.create(french.archive(word="oui"))
    events = base.account.runtime.invoke_endpoint_with_response_stream(
        EndpointName=base.endpoint, InferenceComponentName=french.name, Body=b"x"
    )["Body"]

    assert b"".join(event["PayloadPart"]["Bytes"] for event in events) == b"oui x"


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        ({"refuse": "rank 8 is not 16"}, "registration of the adapter with 400: rank 8 is not 16"),
        (None, "Failed to download model data"),
    ],
)
def test_one_that_cannot_be_had_or_that_the_base_refuses_fails_and_says_why(
    base: Component, archive: dict[str, str] | None, words: str
) -> None:
    adapter = Adapter(base)
    described = adapter.create(f"s3://{BUCKET}/none.tar.gz" if archive is None else adapter.archive(**archive))

    assert described["InferenceComponentStatus"] == "Failed"
    assert words in described["FailureReason"]
    with pytest.raises(ClientError, match="is not InService: its status is Failed"):
        adapter.invoke(b"x")
    assert base.invoke(b"x") == b"base X"


def test_another_archive_takes_the_place_of_the_first(base: Component) -> None:
    adapter = Adapter(base)
    adapter.create(adapter.archive(word="old"))
    base.account.sagemaker.update_inference_component(
        InferenceComponentName=adapter.name, Specification=adapter.wanted(adapter.archive(word="new"))
    )
    adapter.settled()

    assert adapter.invoke(b"x") == b"new x"


def test_adapters_are_there_again_when_the_server_of_their_base_died(base: Component) -> None:
    adapter = Adapter(base)
    adapter.create(adapter.archive(word="oui"))
    with pytest.raises(ClientError):
        base.invoke(b"die:")

    def answers() -> bool:
        try:
            return adapter.invoke(b"x") == b"oui x"
        except base.account.runtime.exceptions.ModelError as error:
            # While it is being replaced nobody answers; a server that answers knows its adapters.
            if error.response["OriginalStatusCode"] == 0:
                return False
            raise

    await_true(answers, "the base is replaced, with its adapters")


def test_adapters_follow_their_base_through_an_update_and_through_no_copies(base: Component) -> None:
    adapter = Adapter(base)
    adapter.create(adapter.archive(word="oui"))
    sagemaker = base.account.sagemaker
    sagemaker.update_inference_component(
        InferenceComponentName=base.name, Specification=specification(STAND_IN_PREFIX="next ")
    )
    base.settled()
    assert (base.invoke(b"x"), adapter.invoke(b"x")) == (b"next X", b"oui x")

    copies = sagemaker.update_inference_component_runtime_config
    copies(InferenceComponentName=base.name, DesiredRuntimeConfig={"CopyCount": 0})
    with pytest.raises(ClientError, match="has no capacity to process this request"):
        adapter.invoke(b"x")

    def takes_a_copy() -> bool:
        try:
            copies(InferenceComponentName=base.name, DesiredRuntimeConfig={"CopyCount": 1})
        except ClientError as error:
            if "still ending" in str(error):
                return False
            raise
        return True

    await_true(takes_a_copy, "the last copy has ended")
    base.settled()
    assert adapter.invoke(b"x") == b"oui x"


def test_a_base_stays_as_long_as_it_has_adapters(base: Component) -> None:
    adapter = Adapter(base)
    adapter.create(adapter.archive(word="oui"))
    delete = base.account.sagemaker.delete_inference_component

    assert f"is the base of {adapter.name}" in refused(delete, InferenceComponentName=base.name)
    adapter.delete()
    assert adapter.name not in listed(base.account, base.endpoint)
    with pytest.raises(ClientError, match=f"Inference component {adapter.name} .* not found"):
        adapter.invoke(b"x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Container": {}}, "needs Container.ArtifactUrl"),
        ({"Container": {"ArtifactUrl": "s3://b/a.tar.gz", "Image": "serve"}}, "excludes Container.Image"),
        ({"ModelName": "model"}, "excludes ModelName"),
        ({"ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128}}, "excludes ComputeResourceRequirements"),
        ({"BaseInferenceComponentName": "nobody"}, "Could not find inference component"),
    ],
)
def test_what_is_no_adapter_is_refused_by_name(base: Component, changes: dict[str, Any], words: str) -> None:
    adapter = Adapter(base)
    said = refused(
        base.account.sagemaker.create_inference_component,
        InferenceComponentName=adapter.name,
        EndpointName=base.endpoint,
        Specification=adapter.wanted("s3://bucket/adapter.tar.gz") | changes,
    )

    assert words in said


def test_an_adapter_has_its_name_to_itself(base: Component) -> None:
    adapter = Adapter(base)
    adapter.create(adapter.archive(word="oui"))
    create = base.account.sagemaker.create_inference_component
    wanted = adapter.wanted(adapter.archive(word="non"))

    for specified in ({"Specification": wanted}, {"Specification": specification(), "RuntimeConfig": {"CopyCount": 1}}):
        said = refused(create, InferenceComponentName=adapter.name, EndpointName=base.endpoint, **specified)
        assert "Cannot create already existing" in said


def test_a_stack_brings_a_component_with_its_adapter_and_takes_both_away(account: Account, endpoint: str) -> None:
    name = account.name("stacked")
    french = account.put(f"{name}/french.tar.gz", model_archive({"word": "oui"}))
    kind = "AWS::SageMaker::InferenceComponent"
    template: dict[str, Any] = {
        "Resources": {
            "Component": {
                "Type": kind,
                "Properties": {
                    "InferenceComponentName": name,
                    "EndpointName": endpoint,
                    "VariantName": "v",
                    "Specification": specification(STAND_IN_PREFIX="base "),
                    "RuntimeConfig": {"CopyCount": 1},
                },
            },
            "Adapter": {
                "Type": kind,
                "DependsOn": "Component",
                "Properties": {
                    "InferenceComponentName": f"{name}-french",
                    "EndpointName": endpoint,
                    "Specification": {
                        "BaseInferenceComponentName": name,
                        "Container": {"ArtifactUrl": french},
                    },
                },
            },
        }
    }
    with stack_of(account) as stack:
        assert stack.create(template) == "CREATE_COMPLETE", stack.events("Adapter")
        assert account.invoke(endpoint, b"x", InferenceComponentName=f"{name}-french") == b"oui x"
        german = account.put(f"{name}/german.tar.gz", model_archive({"word": "ja"}))
        template["Resources"]["Adapter"]["Properties"]["Specification"]["Container"]["ArtifactUrl"] = german
        assert stack.update(template) == "UPDATE_COMPLETE", stack.events("Adapter")
        assert account.invoke(endpoint, b"x", InferenceComponentName=f"{name}-french") == b"ja x"
    assert not [left for left in listed(account, endpoint) if left.startswith(name)]
