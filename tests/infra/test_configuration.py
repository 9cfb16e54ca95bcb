"""A stage that cannot be deployed is refused before synthesis, by a sentence that names key, value and way out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra import context, instance_types, validation
from infra.configuration import ConfigurationError, Hosting, ImageUri, RepositoryImage, Retention, Stage
from infra.stages import DEFAULT_STAGE, STAGES

GOOD = Stage(
    name="trial",
    image=RepositoryImage(tag_or_digest="1.4.0"),
    hosting=Hosting(),
    retention=Retention(keep_data=False),
)


def image(uri: str) -> dict[str, Any]:
    return {"image": ImageUri(uri=uri)}


def hosting(**changes: Any) -> dict[str, Any]:
    return {"hosting": Hosting(**changes)}


BAD_STAGES = [
    ({"name": "Trial"}, "Trial.name='Trial' is no part of a bucket's name; use at most 10 lower-case letters"),
    ({"prefix": "a-name-that-is-too-long"}, "trial.prefix='a-name-that-is-too-long' is no part of a bucket's name"),
    ({"account": "12345"}, "trial.account='12345' is not an account number; write its 12 digits as a string"),
    ({"region": "Frankfurt"}, "trial.region='Frankfurt' is not a Region; write one like 'eu-central-1'"),
    ({"tags": {"aws:team": "vision"}}, "trial.tags='aws:team' is refused by AWS; keys have 1 to 128 characters"),
    ({"image": RepositoryImage(tag_or_digest="latest")}, "trial.image='latest' is a tag that moves; push and name a"),
    (
        {"image": RepositoryImage(tag_or_digest="sha256:12ab")},
        "trial.image='sha256:12ab' is neither a tag nor a sha256",
    ),
    (image("registry.example"), "trial.image='registry.example' is not an image; write host/name:tag"),
    (image("registry.example/serving:latest"), "trial.image='latest' is a tag that moves"),
    ({"model_data_url": "models/m.tar.gz"}, "trial.model_data_url='models/m.tar.gz' is not an S3 address; upload the"),
    ({"model_data_url": "s3://b/m.tar.gz"}, "trial.model_data_url='s3://b/m.tar.gz' is not an S3 address"),
    (
        {"model_data_url": "s3://bucket/m.pth"},
        "trial.model_data_url='s3://bucket/m.pth' is not an archive; write s3://",
    ),
    (hosting(instance_type="ml.g6.xlrage"), "'ml.g6.xlrage' is not an instance type of SageMaker endpoints; did you"),
    (hosting(instance_type="g6"), "trial.hosting.instance_type='g6' is not an instance type of SageMaker endpoints"),
    (hosting(instance_type="ml.inf2.xlarge"), "='ml.inf2.xlarge' is without a build of our image; choose a GPU or CPU"),
    (hosting(instance_type="ml.c7g.large"), "='ml.c7g.large' is ARM, and the image is amd64; choose one like ml.m7i"),
    (hosting(inference_ami="ubuntu"), "trial.hosting.inference_ami='ubuntu' is not a host image of SageMaker; there a"),
    (
        hosting(instance_type="ml.m7i.large", inference_ami=instance_types.GPU_AMI),
        "is for GPU types, and this is ml.m7i.large; remove it",
    ),
    (hosting(instance_count=0), "trial.hosting.instance_count=0 is not a whole number from 1 to 1000"),
    (hosting(instance_count="2"), "trial.hosting.instance_count='2' is not a whole number from 1 to 1000"),
    (hosting(startup_timeout_s=30), "trial.hosting.startup_timeout_s=30 is not a whole number from 60 to 3600"),
    (hosting(model_download_timeout_s=7200), "trial.hosting.model_download_timeout_s=7200 is not a whole number"),
    ({"retention": Retention(keep_data=True, images=1)}, "trial.retention.images=1 is not a whole number from 2"),
    ({"retention": Retention(keep_data=True, old_versions_days=0)}, "trial.retention.old_versions_days=0 is not a"),
    ({"server": {"max_batch": 8}}, "trial.server: 'max_batch' is not a setting of the server; there are: "),
    ({"server": {"max_batch_size": 0}}, "trial.server: TIDEGATE_MAX_BATCH_SIZE='0' is not valid: it must be a whole"),
    ({"server": {"port": 9000}}, "trial.server='port' is set by SageMaker itself; remove it"),
    ({"environment": {"MY VARIABLE": "1"}}, "trial.environment='MY VARIABLE' is not the name of a variable"),
    ({"environment": {"WORKERS": 2}}, "trial.environment['WORKERS']=2 is not a string; put it in quotes"),
    ({"environment": {"LABELS": "x" * 1025}}, "trial.environment['LABELS'] is longer than 1024 characters"),
    ({"environment": {f"V{n}": "1" for n in range(101)}}, "trial.environment has 101 variables; SageMaker takes 100"),
    (
        {"server": {"workers": 2}, "environment": {"TIDEGATE_WORKERS": "3"}},
        "trial.environment='TIDEGATE_WORKERS' is already set by trial.server; keep one of the two",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD_STAGES, ids=[message[:50] for _, message in BAD_STAGES])
def test_a_stage_that_cannot_be_deployed_is_refused_with_its_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validation.check(replace(GOOD, **changes))

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"account": "123456789012", "region": "us-gov-west-1"},
        {"image": RepositoryImage(tag_or_digest="sha256:" + "0a" * 32)},
        image("123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/serving:2.13-gpu"),
        image("registry.example:5000/serving@sha256:" + "0a" * 32),
        {"model_data_url": "s3://some.bucket/a/b/model.tar.gz"},
        hosting(instance_type="ml.m7i.large"),
        hosting(instance_type="ml.p5.48xlarge", inference_ami="al2-ami-sagemaker-inference-gpu-3-1"),
        {"server": {"workers": 2}, "environment": {"SAGEMAKER_PROGRAM": "serve.py"}},
    ],
)
def test_a_stage_that_can_be_deployed_is_accepted(changes: dict[str, Any]) -> None:
    validation.check(replace(GOOD, **changes))


@pytest.mark.parametrize("name", STAGES)
def test_the_stages_of_the_project_can_be_deployed(name: str) -> None:
    validation.check(STAGES[name])


def test_the_default_instance_type_has_one_gpu_and_runs_transform_jobs_too() -> None:
    import botocore.session

    sagemaker = botocore.session.get_session().get_service_model("sagemaker")
    assert Hosting().instance_type == "ml.g6.xlarge"
    assert Hosting().instance_type in sagemaker.shape_for("TransformInstanceType").enum


@pytest.mark.parametrize(
    ("instance_type", "gpu", "arm", "foreign"),
    [
        ("ml.g4dn.xlarge", True, False, False),
        ("ml.g6e.xlarge", True, False, False),
        ("ml.p5.4xlarge", True, False, False),
        ("ml.p6e-gb200.36xlarge", True, True, False),
        ("ml.c6gn.large", False, True, False),
        ("ml.m6gd.large", False, True, False),
        ("ml.c6in.large", False, False, False),
        ("ml.trn1n.32xlarge", False, False, True),
        ("ml.dl1.24xlarge", False, False, True),
    ],
)
def test_an_instance_type_tells_its_kind(instance_type: str, gpu: bool, arm: bool, foreign: bool) -> None:
    assert instance_type in instance_types.endpoint_types()
    assert instance_types.has_gpu(instance_type) is gpu
    assert instance_types.is_arm(instance_type) is arm
    assert instance_types.has_foreign_accelerator(instance_type) is foreign


class TestCommandLine:
    """What `cdk -c key=value` decides."""

    def choose(self, **values: object) -> Stage:
        return context.choose({"trial": GOOD, "other": replace(GOOD, name="other")}, "trial", values)

    def test_without_a_stage_the_default_is_taken(self) -> None:
        assert self.choose() == GOOD

    def test_the_default_of_the_project_is_the_stage_that_needs_no_account(self) -> None:
        assert DEFAULT_STAGE == "local"

    def test_a_stage_is_chosen_by_name(self) -> None:
        assert self.choose(stage="other").name == "other"

    def test_values_for_one_command_replace_those_of_the_stage(self) -> None:
        stage = self.choose(model_data_url="s3://bucket/m.tar.gz", image_uri="registry.example/serving:1")

        assert stage.model_data_url == "s3://bucket/m.tar.gz"
        assert stage.image == ImageUri(uri="registry.example/serving:1")
        assert self.choose(image_tag="2.0.0").image == RepositoryImage(tag_or_digest="2.0.0")

    def test_keys_of_the_cdk_itself_are_left_alone(self) -> None:
        assert self.choose(**{"@aws-cdk/core:flag": True, "aws:cdk:x": 1, "cli-telemetry": False}) == GOOD

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"stage": "produciton"}, "-c stage=produciton does not exist; infra/stages.py has: trial, other"),
            (
                {"model_url": "s3://b/m.tar.gz"},
                "-c model_url=s3://b/m.tar.gz is not known; there are: stage, model_data",
            ),
            ({"stage": ""}, "-c stage= has no value; write one like -c stage=dev"),
            ({"model_data_url": "model.tar.gz"}, "-c model_data_url='model.tar.gz' is not an S3 address"),
            ({"image_uri": "serving"}, "-c image_uri='serving' is not an image; write host/name:tag"),
            ({"image_tag": "latest"}, "-c image_tag='latest' is a tag that moves"),
            (
                {"image_tag": "1", "image_uri": "h.example/s:1"},
                "-c image_tag=1 and -c image_uri=h.example/s:1 name two",
            ),
        ],
    )
    def test_a_value_that_cannot_be_meant_is_refused(self, values: dict[str, str], message: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            self.choose(**values)

        assert message in str(caught.value)
