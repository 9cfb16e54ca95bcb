"""The real-time endpoint: variants, shadow, capture, and what a change changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.hosted import BUCKET, CONFIG, ENDPOINT, FULL, KEY, change, host

pytestmark = pytest.mark.usefixtures("node_on_path")

PLAIN = {"mode": "realtime"}


def test_without_further_keys_it_is_one_gpu_variant_that_spreads_requests_by_load() -> None:
    hosted = host(PLAIN)

    (variant,) = hosted.variants
    assert variant == {
        "VariantName": "primary",
        "ModelName": "model-1",
        "InstanceType": "ml.g6.xlarge",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1,
        "InferenceAmiVersion": "al2023-ami-sagemaker-inference-gpu-4-1",
        "ModelDataDownloadTimeoutInSeconds": 600,
        "ContainerStartupHealthCheckTimeoutInSeconds": 600,
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    assert hosted.only(ENDPOINT).keys() == {"EndpointName", "EndpointConfigName"}
    assert [variant.name for variant in hosted.endpoint.plan.variants] == ["primary"]
    assert hosted.endpoint.model_name == "model-1"
    assert hosted.endpoint.component_name is None


def test_time_outs_follow_the_model_s_size_unless_they_are_written() -> None:
    (derived,) = host(PLAIN, size_gib=40).variants
    (written,) = host(PLAIN | {"startup_timeout_s": 77, "model_download_timeout_s": 66}, size_gib=40).variants

    assert derived["ModelDataDownloadTimeoutInSeconds"] == 1440
    assert derived["ContainerStartupHealthCheckTimeoutInSeconds"] == 960
    assert written["ModelDataDownloadTimeoutInSeconds"] == 66
    assert written["ContainerStartupHealthCheckTimeoutInSeconds"] == 77


def test_a_cpu_type_has_no_host_image_and_a_written_one_is_taken_for_gpus() -> None:
    (cpu,) = host(PLAIN | {"instance_type": "ml.m7i.large"}).variants
    (older,) = host(PLAIN | {"inference_ami": "al2-ami-sagemaker-inference-gpu-3-1"}).variants

    assert "InferenceAmiVersion" not in cpu
    assert older["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"


def test_our_server_s_own_series_are_scraped() -> None:
    assert host(PLAIN).only(CONFIG)["MetricsConfig"] == {
        "EnableDetailedObservability": True,
        "MetricPublishFrequencyInSeconds": 60,
    }


def test_volumes_and_captures_are_encrypted_by_the_stage_s_key() -> None:
    config = host(PLAIN | {"instance_type": "ml.m7i.large", "capture": {"percent": 1}}, key_arn=KEY).only(CONFIG)

    assert config["KmsKeyId"] == KEY
    assert config["DataCaptureConfig"]["KmsKeyId"] == KEY


@pytest.mark.parametrize("instance_type", ["ml.g6.xlarge", "ml.m5d.large"])
def test_local_disks_are_left_to_the_hardware_that_encrypts_them(instance_type: str) -> None:
    assert "KmsKeyId" not in host(PLAIN | {"instance_type": instance_type}, key_arn=KEY).only(CONFIG)


def test_without_a_key_of_the_stage_none_is_named() -> None:
    assert "KmsKeyId" not in host(PLAIN | {"instance_type": "ml.m7i.large"}).only(CONFIG)


def test_several_variants_share_the_requests_and_take_from_hosting_what_they_do_not_say() -> None:
    variants = [
        {"name": "champion", "weight": 9},
        {"name": "challenger", "weight": 1, "instance_type": "ml.m7i.large", "instance_count": 3},
    ]
    hosted = host(PLAIN | {"instance_count": 2, "variants": variants}, variant_models={"challenger": "model-2"})

    champion, challenger = hosted.variants
    assert (champion["ModelName"], champion["InitialVariantWeight"]) == ("model-1", 9)
    assert (champion["InstanceType"], champion["InitialInstanceCount"]) == ("ml.g6.xlarge", 2)
    assert (challenger["ModelName"], challenger["InitialVariantWeight"]) == ("model-2", 1)
    assert (challenger["InstanceType"], challenger["InitialInstanceCount"]) == ("ml.m7i.large", 3)
    assert "InferenceAmiVersion" not in challenger
    assert [variant.name for variant in hosted.endpoint.plan.variants] == ["champion", "challenger"]


def test_a_shadow_gets_its_part_of_the_requests_by_its_own_model() -> None:
    hosted = host(PLAIN | {"shadow": {"percent": 20}}, variant_models={"shadow": "model-2"})

    (shadow,) = hosted.only(CONFIG)["ShadowProductionVariants"]
    (production,) = hosted.variants
    assert shadow["VariantName"] == "shadow"
    assert shadow["ModelName"] == "model-2"
    assert shadow["InitialVariantWeight"] / production["InitialVariantWeight"] == pytest.approx(0.2)
    assert shadow["InstanceType"] == "ml.g6.xlarge"


@pytest.mark.parametrize(
    ("what", "modes"),
    [("input", ["Input"]), ("output", ["Output"]), ("input_and_output", ["Input", "Output"])],
)
def test_captured_requests_go_to_the_stage_s_bucket_and_the_role_must_write_there(what: str, modes: list[str]) -> None:
    hosted = host(PLAIN | {"capture": {"percent": 5, "what": what, "prefix": "seen/"}})

    capture = hosted.only(CONFIG)["DataCaptureConfig"]
    assert capture["EnableCapture"] is True
    assert capture["InitialSamplingPercentage"] == 5
    assert capture["DestinationS3Uri"] == f"s3://{BUCKET}/seen"
    assert [option["CaptureMode"] for option in capture["CaptureOptions"]] == modes
    assert hosted.endpoint.plan.writes_below == ("seen/",)


def test_models_are_there_before_the_configuration_and_that_before_the_endpoint() -> None:
    """The names are literal, so CloudFormation must be told the order."""
    hosted = host(FULL["realtime"], variant_models={"shadow": "model-2"})

    assert len(hosted.all("AWS::SageMaker::Model")) == 2
    assert hosted.comes_after(CONFIG, "AWS::SageMaker::Model")
    assert hosted.comes_after(ENDPOINT, CONFIG)


@pytest.mark.parametrize(
    "keys",
    [
        {"instance_type": "ml.g6e.xlarge"},
        {"instance_count": 3},
        {"inference_ami": "al2-ami-sagemaker-inference-gpu-3-1"},
        {"startup_timeout_s": 120},
        {"shadow": {"percent": 21}},
        {"capture": None},
        {"variants": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}], "shadow": None},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_every_change_of_the_configuration_is_a_new_one_behind_the_same_name(keys: dict[str, Any]) -> None:
    before, after = host(FULL["realtime"]), host(change("realtime", **keys))

    assert before.endpoint.config_name != after.endpoint.config_name
    assert after.only(ENDPOINT)["EndpointConfigName"] == after.only(CONFIG)["EndpointConfigName"]
    assert before.only(ENDPOINT)["EndpointName"] == after.only(ENDPOINT)["EndpointName"]


@pytest.mark.parametrize("keys", [{"rollout": None}, {"scaling": {"min_instances": 2, "max_instances": 9}}])
def test_roll_out_and_scaling_are_no_part_of_the_configuration(keys: dict[str, Any]) -> None:
    """So that changing them starts no instance."""
    before, after = host(FULL["realtime"]), host(change("realtime", **keys))

    assert before.endpoint.config_name == after.endpoint.config_name


def test_another_model_is_a_new_configuration_at_the_same_place_in_the_template() -> None:
    before, after = host(FULL["realtime"]), host(FULL["realtime"], model_name="model-2")

    assert before.endpoint.config_name != after.endpoint.config_name
    assert before.resources.keys() == after.resources.keys()


def test_a_model_that_cloudformation_names_has_a_configuration_that_cloudformation_names() -> None:
    """A digest of what nobody knows yet would stay the same, and CloudFormation could not replace the configuration."""
    hosted = host(FULL["realtime"], model_name=None)

    (config_id,) = hosted.all(CONFIG)
    reference = {"Fn::GetAtt": [config_id, "EndpointConfigName"]}
    assert "EndpointConfigName" not in hosted.only(CONFIG)
    assert hosted.only(ENDPOINT)["EndpointConfigName"] == reference
    assert {"Name": "EndpointConfigName", "Value": reference} in hosted.alarm("-5xx")["Dimensions"]
