"""The models and batch stacks of whole stages, and that they meet the other stacks in the same names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.conftest import SAMPLES, Synthesise, Synthesised
from tests.infra.state_machines import text
from tests.infra.templates import called_actions, lint_definition
from tidegate.infra.promotion.lookups import PARAMETER


def machine(stage: Synthesised, unit: str, name: str) -> dict[str, Any]:
    """The properties of the state machine called `name`."""
    found = stage.properties(unit, "AWS::StepFunctions::StateMachine").values()
    (properties,) = (one for one in found if one["StateMachineName"] == name)
    return properties


def values(properties: dict[str, Any]) -> dict[str, Any]:
    """What is put into a machine's definition."""
    given: dict[str, Any] = properties["DefinitionString"]["Fn::Sub"][1]
    return given


@pytest.mark.parametrize(("sample", "policy"), [("approved", "Delete"), ("private", "RetainExceptOnCreate")])
def test_a_group_stays_where_data_stays(sample: str, policy: str, samples: dict[str, Synthesised]) -> None:
    ((_, group),) = samples[sample].templates["models"].find_resources("AWS::SageMaker::ModelPackageGroup").items()

    assert group["Properties"]["ModelPackageGroupName"] == f"tidegate-{sample}"
    assert group["DeletionPolicy"] == policy


def test_without_promotion_there_is_a_group_and_nothing_else(samples: dict[str, Synthesised]) -> None:
    resources = samples["private"].templates["models"].to_json()["Resources"].values()

    assert {found["Type"] for found in resources} <= {"AWS::SageMaker::ModelPackageGroup", "AWS::CDK::Metadata"}


def test_the_promotion_changes_a_parameter_that_the_endpoint_s_stack_has(samples: dict[str, Synthesised]) -> None:
    stage = samples["approved"]
    endpoint = stage.templates["endpoint"].to_json()

    assert values(machine(stage, "models", "tidegate-approved-promotion"))["Stack"] == "tidegate-approved-endpoint"
    assert stage.artifact("endpoint")["properties"]["stackName"] == "tidegate-approved-endpoint"
    assert endpoint["Parameters"][PARAMETER]["Default"] == ""
    (model,) = stage.properties("endpoint", "AWS::SageMaker::Model").values()
    assert model["PrimaryContainer"]["ModelPackageName"] == {"Ref": PARAMETER}
    # A name made of its content could not follow a parameter.
    assert "ModelName" not in model


def test_approvals_of_the_endpoint_s_own_group_are_rolled_out(samples: dict[str, Synthesised]) -> None:
    rule = samples["approved"].only("models", "AWS::Events::Rule")

    assert rule["EventPattern"]["detail"]["ModelPackageGroupName"] == ["tidegate-approved"]


@pytest.mark.parametrize("sample", ["approved", "private", "realtime"])
def test_jobs_read_the_model_s_name_where_the_endpoint_s_stack_writes_it(
    sample: str, samples: dict[str, Synthesised]
) -> None:
    stage = samples[sample]
    name = values(machine(stage, "batch", f"tidegate-{sample}-batch"))["ModelNameParameter"]
    kept = [found["Name"] for found in stage.properties("endpoint", "AWS::SSM::Parameter").values()]

    assert name in kept


def test_a_stage_without_batch_keeps_the_model_s_name_for_jobs_by_hand(all_stages: dict[str, Synthesised]) -> None:
    parameter = all_stages["dev"].only("endpoint", "AWS::SSM::Parameter")

    assert parameter["Name"] == "/tidegate/dev/model-name"
    assert parameter["Value"] == all_stages["dev"].only("endpoint", "AWS::SageMaker::Model")["ModelName"]


@pytest.mark.parametrize("sample", ["async", "multimodel"])
def test_a_model_that_no_job_can_run_has_its_name_kept_nowhere(sample: str, samples: dict[str, Synthesised]) -> None:
    assert not samples[sample].properties("endpoint", "AWS::SSM::Parameter")


@pytest.mark.parametrize("sample", ["approved", "private", "realtime"])
def test_jobs_and_stacks_carry_the_same_tags(sample: str, samples: dict[str, Synthesised]) -> None:
    stage = samples[sample]
    definition = json.loads(machine(stage, "batch", f"tidegate-{sample}-batch")["DefinitionString"]["Fn::Sub"][0])
    tags = {tag["Key"]: tag["Value"] for tag in definition["States"]["CreateJob"]["Arguments"]["Tags"]}

    assert tags == stage.artifact("batch")["properties"]["tags"]
    assert tags.items() >= {"project": "tidegate", "stage": sample}.items()


@pytest.mark.parametrize("sample", ["approved", "private", "realtime"])
def test_the_bucket_tells_eventbridge_of_uploads_to_the_bucket_that_the_rule_waits_for(
    sample: str, samples: dict[str, Synthesised]
) -> None:
    stage = samples[sample]
    rule = stage.only("batch", "AWS::Events::Rule")
    telling = [
        text(bucket["BucketName"], {})
        for bucket in stage.properties("storage", "AWS::S3::Bucket").values()
        if bucket.get("NotificationConfiguration", {}).get("EventBridgeConfiguration", {}).get("EventBridgeEnabled")
    ]

    assert telling == [text(name, {}) for name in rule["EventPattern"]["detail"]["bucket"]["name"]]


def test_a_new_key_encrypts_outputs_and_the_volumes_that_take_one(samples: dict[str, Synthesised]) -> None:
    """The key's ARN is a parameter of the stack, so it is no part of the definition's text."""
    properties = machine(samples["private"], "batch", "tidegate-private-batch")
    definition = json.loads(properties["DefinitionString"]["Fn::Sub"][0])
    arguments = definition["States"]["CreateJob"]["Arguments"]

    assert arguments["TransformOutput"]["KmsKeyId"] == "${Key}"
    assert arguments["TransformResources"] == {
        "InstanceType": "ml.m5.xlarge",
        "InstanceCount": 1,
        "VolumeKmsKeyId": "${Key}",
    }
    assert values(properties)["Key"]["Ref"] in samples["private"].templates["batch"].to_json()["Parameters"]


def test_disks_that_belong_to_the_instance_are_given_no_key(synthesise: Any) -> None:
    """SageMaker refuses one for them."""
    stage = synthesise(stage=str(SAMPLES / "private.toml"), changes={"batch": {"instance_type": "ml.g5.xlarge"}})
    definition = json.loads(machine(stage, "batch", "tidegate-private-batch")["DefinitionString"]["Fn::Sub"][0])
    arguments = definition["States"]["CreateJob"]["Arguments"]

    assert arguments["TransformOutput"]["KmsKeyId"] == "${Key}"
    assert arguments["TransformResources"] == {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1}


def test_another_bootstrap_is_known_everywhere(synthesise: Synthesise) -> None:
    """`cdk bootstrap --qualifier`: no stack, role or machine keeps the name of the default one."""
    stage = synthesise(stage=str(SAMPLES / "approved.toml"), **{"@aws-cdk/core:bootstrapQualifier": "team1"})
    written = {path.name: path.read_text() for path in stage.directory.glob("*.json")}

    assert [name for name, text in written.items() if "hnb659fds" in text] == []
    assert "parameter/cdk-bootstrap/team1/version" in written["models.template.json"]


def test_a_group_whose_approvals_are_rolled_out_comes_after_the_endpoint_s_stack(
    samples: dict[str, Synthesised],
) -> None:
    assert "endpoint" in samples["approved"].artifact("models")["dependencies"]
    # Where nothing is rolled out, a group can be there before the first archive is.
    assert "endpoint" not in samples["realtime"].artifact("models")["dependencies"]


@pytest.mark.parametrize(
    ("sample", "served_by"),
    [("approved", "AWS::SageMaker::Endpoint"), ("component", "AWS::SageMaker::InferenceComponent")],
)
def test_the_model_s_name_changes_only_after_what_serves_it_did(
    sample: str, served_by: str, samples: dict[str, Synthesised]
) -> None:
    """Otherwise a job could run a model that the endpoint's alarms send back a minute later."""
    template = samples[sample].templates["endpoint"]
    (parameter,) = template.find_resources("AWS::SSM::Parameter").values()

    assert set(template.find_resources(served_by)) <= set(parameter["DependsOn"])


def test_a_component_is_looked_at_beside_its_endpoint(samples: dict[str, Synthesised]) -> None:
    """A new model is an update of the component; the endpoint's configuration does not change with it."""
    stage = samples["component"]
    properties = machine(stage, "models", "tidegate-component-promotion")
    definition = properties["DefinitionString"]["Fn::Sub"][0]
    (component,) = stage.properties("endpoint", "AWS::SageMaker::InferenceComponent").values()

    assert values(properties)["Endpoint"] == component["InferenceComponentName"]
    assert {"sagemaker:describeendpoint", "sagemaker:describeinferencecomponent"} <= called_actions(definition)
    topic = values(properties)["Topic"]["Ref"]
    assert lint_definition(text(properties["DefinitionString"], {topic: "topic"})) == ""
