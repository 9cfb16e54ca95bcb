"""What `cdk -c key=value` decides, and which values it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.stage.stage_files import DIGEST, written
from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.configuration.image import ImageUri, PinnedImage, TaggedImage
from tidegate.infra.configuration.model import ArchivedModel
from tidegate.infra.stage import context, stage_file

ECR_IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/serving:2"


def test_without_a_stage_the_one_that_needs_no_account_is_taken() -> None:
    assert context.choose({}) == stage_file.read(stage_file.find("local"))


def test_a_stage_is_chosen_by_name_or_by_the_path_of_its_file(tmp_path: Path) -> None:
    assert context.choose({"stage": "dev"}).name == "dev"
    assert context.choose({"stage": str(written(tmp_path))}).name == "trial"


def test_values_for_one_command_replace_those_of_the_stage(tmp_path: Path) -> None:
    path = str(written(tmp_path, model="size_gib = 3"))
    stage = context.choose({"stage": path, "model_data_url": "s3://bucket/m.tar.gz", "image_uri": ECR_IMAGE})

    assert stage.model == ArchivedModel(archive="s3://bucket/m.tar.gz", size_gib=3)
    assert stage.image == ImageUri(uri=ECR_IMAGE)
    assert context.choose({"image_tag": "2.0.0"}).image == TaggedImage(tag="2.0.0")
    assert context.choose({"image_tag": DIGEST}).image == PinnedImage(digest=DIGEST)


def test_a_stage_that_does_not_exist_is_named_with_the_option_that_was_typed() -> None:
    for stage in ("prd", "stages/mine.toml"):
        with pytest.raises(ConfigurationError, match=f"^--stage {stage} does not exist; "):
            stage_file.find(stage, option="--stage ")


def test_keys_of_the_cdk_itself_are_left_alone() -> None:
    assert context.choose({"@aws-cdk/core:flag": True, "aws:cdk:x": 1, "cli-telemetry": False}).name == "local"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"stage": "staging"},
            "-c stage=staging does not exist; infra/stages/ has dev, local, prod: give one of those, or the path of "
            "a file",
        ),
        ({"stage": "prd"}, "-c stage=prd does not exist; infra/stages/ has dev, local, prod: did you mean prod?"),
        (
            {"stage": "stages/mine.toml"},
            "-c stage=stages/mine.toml does not exist; give a stage's name or the path of its file",
        ),
        (
            {"model_url": "s3://b/m.tar.gz"},
            "-c model_url=s3://b/m.tar.gz is not known; there are: stage, model_data_url, image_tag, image_uri",
        ),
        ({"stage": ""}, "-c stage= has no value; write one like -c stage=dev"),
        (
            {"model_data_url": "model.tar.gz"},
            "-c model_data_url='model.tar.gz' is not an archive in S3; pack it with 'tidegate pack', upload it, "
            "write s3://bucket/path/model.tar.gz, where a bucket's name has 3 to 63 small letters, digits, dots and "
            "hyphens",
        ),
        (
            {"image_uri": "serving"},
            "-c image_uri='serving' is not an image that stays; write host/name:version or host/name@sha256:digest",
        ),
        (
            {"image_tag": "latest"},
            "-c image_tag='latest' is not a tag that stays; push and name a version, such as '1.4.0'",
        ),
        (
            {"image_tag": "1", "image_uri": ECR_IMAGE},
            f"-c image_tag=1 and -c image_uri={ECR_IMAGE} name two images; give one of them",
        ),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        context.choose(values)

    assert str(caught.value) == sentence


def test_an_archive_cannot_be_put_in_the_place_of_what_was_approved(tmp_path: Path) -> None:
    path = str(written(tmp_path, image=None, model='group = "digits"'))
    with pytest.raises(ConfigurationError) as caught:
        context.choose({"stage": path, "model_data_url": "s3://bucket/m.tar.gz"})

    assert str(caught.value) == (
        "-c model_data_url=s3://bucket/m.tar.gz would take the endpoint from the approved packages of model.group "
        "digits; "
        "register and approve a package instead"
    )
