"""What every stage's endpoint promises, and what a change of the model changes, read from the templates."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.infra.conftest import Synthesise, Synthesised

MODEL = "AWS::SageMaker::Model"
CONFIG = "AWS::SageMaker::EndpointConfig"
ENDPOINT = "AWS::SageMaker::Endpoint"


def variant(stage: Synthesised) -> dict[str, Any]:
    (only,) = stage.only("endpoint", CONFIG)["ProductionVariants"]
    return dict(only)


def names(stage: Synthesised) -> tuple[str, str, str]:
    """The names of model, configuration and endpoint."""
    return (
        stage.only("endpoint", MODEL)["ModelName"],
        stage.only("endpoint", CONFIG)["EndpointConfigName"],
        stage.only("endpoint", ENDPOINT)["EndpointName"],
    )


def text(value: Any) -> str:
    """A property as one string, with `${…}` for what only the deploy knows."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        return "".join(text(part) for part in value["Fn::Join"][1])
    if "Fn::Sub" in value:
        return str(value["Fn::Sub"])
    return f"${{{value['Ref']}}}"


def test_an_endpoint_is_a_gpu_variant_that_spreads_requests_by_load(stage: Synthesised) -> None:
    only = variant(stage)

    assert only["InstanceType"] == "ml.g6.xlarge"
    assert only["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert only["InitialInstanceCount"] >= 1
    assert only["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert only["ContainerStartupHealthCheckTimeoutInSeconds"] == 600
    assert only["ModelDataDownloadTimeoutInSeconds"] == 600


def test_production_has_an_instance_in_more_than_one_zone(all_stages: dict[str, Synthesised]) -> None:
    assert variant(all_stages["prod"])["InitialInstanceCount"] == 2


def test_the_endpoint_runs_the_configuration_that_runs_the_model(stage: Synthesised) -> None:
    """The names are literal, so CloudFormation must be told the order."""
    model, config, _ = names(stage)
    template = stage.templates["endpoint"]
    (config_id,) = template.find_resources(CONFIG)
    (model_id,) = template.find_resources(MODEL)

    assert variant(stage)["ModelName"] == model
    assert stage.only("endpoint", ENDPOINT)["EndpointConfigName"] == config
    assert model_id in template.find_resources(CONFIG)[config_id]["DependsOn"]
    assert config_id in next(iter(template.find_resources(ENDPOINT).values()))["DependsOn"]


def test_the_outputs_name_what_a_client_needs(stage: Synthesised) -> None:
    outputs = {name: output["Value"] for name, output in stage.templates["endpoint"].to_json()["Outputs"].items()}
    model, config, endpoint = names(stage)

    assert set(outputs) == {
        "BucketName",
        "EndpointConfigName",
        "EndpointName",
        "ExecutionRoleArn",
        "InvokePolicyArn",
        "ModelName",
    }
    assert (outputs["ModelName"], outputs["EndpointConfigName"], outputs["EndpointName"]) == (model, config, endpoint)
    assert set(stage.templates["registry"].to_json()["Outputs"]) == {"RepositoryUri"}
    assert set(stage.templates["storage"].to_json()["Outputs"]) == {"BucketName"}


def test_without_an_archive_the_model_takes_the_bucket_s_own_and_says_so(
    all_stages: dict[str, Synthesised],
) -> None:
    stage = all_stages["dev"]
    url = text(stage.only("endpoint", MODEL)["PrimaryContainer"]["ModelDataUrl"])

    assert url == "s3://tidegate-dev-data-${AWS::AccountId}-${AWS::Region}/models/model.tar.gz"
    assert "no model archive is named" in stage.report


def test_a_variable_that_looks_misspelt_is_a_warning_and_one_of_the_script_s_own_is_none(
    synthesise: Synthesise,
) -> None:
    variables = {"TS_JOB_QUEU_SIZE": "5", "SAGEMAKER_PROGRAMM": "serve.py", "MY_OWN": "1"}
    report = synthesise(stage="dev", changes={"environment": variables}).report

    assert "environment.TS_JOB_QUEU_SIZE: unknown variable; did you mean TS_JOB_QUEUE_SIZE?" in report
    assert "environment.SAGEMAKER_PROGRAMM: unknown variable; did you mean SAGEMAKER_PROGRAM?" in report
    assert "MY_OWN" not in report


def test_the_archive_and_the_image_of_the_command_line_are_deployed(synthesise: Synthesise) -> None:
    uri = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/serving:2"
    stage = synthesise(stage="prod", model_data_url="s3://bucket/a/model.tar.gz", image_uri=uri)
    container = stage.only("endpoint", MODEL)["PrimaryContainer"]

    assert container["ModelDataUrl"] == "s3://bucket/a/model.tar.gz"
    assert container["Image"] == uri


@pytest.mark.parametrize(
    ("reference", "ending"),
    [("1.4.0", "/tidegate-dev:1.4.0"), ("sha256:" + "0a" * 32, "/tidegate-dev@sha256:" + "0a" * 32)],
)
def test_a_tag_or_a_digest_names_an_image_of_the_stage_s_own_repository(
    reference: str, ending: str, synthesise: Synthesise
) -> None:
    image = synthesise(stage="dev", image_tag=reference).only("endpoint", MODEL)["PrimaryContainer"]["Image"]

    assert text(image) == "${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}" + ending


def test_server_settings_reach_the_container_under_the_server_s_own_names(
    synthesise: Synthesise,
) -> None:
    stage = synthesise(stage="dev", changes={"server": {"max_batch_size": 8}})

    assert stage.only("endpoint", MODEL)["PrimaryContainer"]["Environment"]["TIDEGATE_MAX_BATCH_SIZE"] == "8"


@pytest.mark.parametrize("stage", ["dev", "prod", "local"])
def test_a_stage_as_shipped_asks_for_no_batches(all_stages: dict[str, Synthesised], stage: str) -> None:
    """Whether requests may share a call is the model's matter: the archive declares it, or it says nothing."""
    environment = all_stages[stage].only("endpoint", MODEL)["PrimaryContainer"]["Environment"]
    assert not any("BATCH_SIZE" in name for name in environment)


def test_a_cpu_type_has_no_gpu_host_image(synthesise: Synthesise) -> None:
    cpu = {"hosting": {"instance_type": "ml.m7i.large"}}

    assert "InferenceAmiVersion" not in variant(synthesise(stage="dev", changes=cpu))


@pytest.fixture(scope="module")
def before(synthesise: Synthesise) -> Synthesised:
    """What was deployed before the change."""
    return synthesise(stage="dev", model_data_url="s3://bucket/1/model.tar.gz")


class TestChange:
    """SageMaker's models and configurations cannot change; their names tell one content from another."""

    def test_the_same_content_has_the_same_names(self, before: Synthesised, synthesise: Synthesise) -> None:
        assert names(synthesise(stage="dev", model_data_url="s3://bucket/1/model.tar.gz")) == names(before)

    def test_names_are_short_enough_and_tell_their_stage(self, before: Synthesised) -> None:
        model, config, endpoint = names(before)

        assert re.fullmatch(r"tidegate-dev-[0-9a-f]{10}", model)
        assert re.fullmatch(r"tidegate-dev-[0-9a-f]{10}", config)
        assert endpoint == "tidegate-dev"

    @pytest.mark.parametrize("value", [{"model_data_url": "s3://bucket/2/model.tar.gz"}, {"image_tag": "2.0.0"}])
    def test_a_new_archive_or_image_makes_a_new_model_and_configuration_for_the_same_endpoint(
        self, value: dict[str, str], before: Synthesised, synthesise: Synthesise
    ) -> None:
        after = synthesise(stage="dev", **({"model_data_url": "s3://bucket/1/model.tar.gz"} | value))

        assert [old == new for old, new in zip(names(before), names(after), strict=True)] == [False, False, True]

    def test_another_instance_type_makes_a_new_configuration_of_the_same_model(
        self, before: Synthesised, synthesise: Synthesise
    ) -> None:
        bigger = {"hosting": {"instance_type": "ml.g6e.xlarge"}}
        after = synthesise(stage="dev", changes=bigger, model_data_url="s3://bucket/1/model.tar.gz")

        assert [old == new for old, new in zip(names(before), names(after), strict=True)] == [True, False, True]

    def test_resources_keep_their_place_in_the_template_so_that_the_old_ones_are_replaced(
        self, before: Synthesised, synthesise: Synthesise
    ) -> None:
        after = synthesise(stage="dev", model_data_url="s3://bucket/2/model.tar.gz")

        assert before.templates["endpoint"].to_json()["Resources"].keys() == (
            after.templates["endpoint"].to_json()["Resources"].keys()
        )
