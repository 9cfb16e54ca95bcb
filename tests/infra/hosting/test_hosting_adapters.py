"""Adapters: components that change what another component answers."""

from __future__ import annotations

import pytest

from tests.infra.conftest import Synthesised
from tests.infra.hosted import COMPONENT, NAME, change, host
from tests.infra.models.test_pipelines import statements
from tests.infra.stacks.test_endpoint import text

pytestmark = pytest.mark.usefixtures("node_on_path")


def test_an_adapter_is_a_component_of_its_own_that_names_the_base_and_takes_nothing() -> None:
    french = {"name": "french", "archive": "s3://bucket/french/1/adapter.tar.gz"}
    components = host(change("component", adapters=[french])).all(COMPONENT)

    (adapter,) = (one for one in components.values() if one["InferenceComponentName"] != NAME)
    assert adapter == {
        "InferenceComponentName": f"{NAME}-french",
        "EndpointName": NAME,
        "Specification": {
            "BaseInferenceComponentName": NAME,
            "Container": {"ArtifactUrl": "s3://bucket/french/1/adapter.tar.gz"},
        },
    }


def test_it_is_made_after_its_base_and_so_deleted_before_it() -> None:
    french = {"name": "french", "archive": "s3://bucket/french/1/adapter.tar.gz"}
    hosted = host(change("component", adapters=[french]))
    base, adapter = sorted(
        hosted.all(COMPONENT), key=lambda name: hosted.all(COMPONENT)[name]["InferenceComponentName"]
    )

    assert base in hosted.resources[adapter]["DependsOn"]


def test_the_role_may_fetch_adapters_and_callers_may_ask_each(samples: dict[str, Synthesised]) -> None:
    stage = samples["adapters"]
    read = statements(stage, "ExecutionRole")["ReadAdapters"]["Resource"]
    (lent,) = stage.properties("endpoint", "AWS::IAM::ManagedPolicy").values()
    (ask,) = (one for one in lent["PolicyDocument"]["Statement"] if one["Sid"] == "Ask")

    assert [text(one).rpartition(":::")[2] for one in read] == [
        "some-bucket/adapters/french/3/adapter.tar.gz",
        "some-bucket/adapters/german/1/adapter.tar.gz",
    ]
    assert [text(one).rpartition(":")[2] for one in ask["Resource"]] == [
        "endpoint/tidegate-adapters",
        "inference-component/tidegate-adapters",
        "inference-component/tidegate-adapters-french",
        "inference-component/tidegate-adapters-legal-german",
    ]


def test_the_stack_says_what_clients_send_for_each_adapter(samples: dict[str, Synthesised]) -> None:
    outputs = samples["adapters"].templates["endpoint"].to_json()["Outputs"]

    assert outputs["AdapterComponentNames"]["Value"] == "tidegate-adapters-french,tidegate-adapters-legal-german"
