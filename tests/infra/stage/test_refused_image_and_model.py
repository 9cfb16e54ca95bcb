"""What is said of the image and the model of a stage file that cannot be deployed: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.stage.stage_files import (
    refusal,
    written,
)

BAD_TABLES: list[tuple[dict[str, str | None], str]] = [
    # --- image
    (
        {"image": 'tag = "1"\nuri = "registry.example/serving:1"'},
        "image has tag and uri, and takes exactly one of tag, digest, uri, build; remove what is not meant",
    ),
    ({"image": ""}, "image does not say which; write exactly one of tag, digest, uri, build"),
    (
        {"image": 'tag = "latest"'},
        "image.tag='latest' is not a tag that stays; push and name a version, such as '1.4.0'",
    ),
    (
        {"image": 'digest = "sha256:12ab"'},
        "image.digest='sha256:12ab' is not a digest; write 'sha256:' and its 64 hexadecimal digits",
    ),
    (
        {"image": 'uri = "registry.example/serving:latest"'},
        "image.uri='registry.example/serving:latest' is not an image that stays; write host/name:version or "
        "host/name@sha256:digest",
    ),
    (
        {"image": 'uri = "registry.example/serving:1"'},
        "image.uri='registry.example/serving:1' is not in Amazon ECR, and SageMaker reaches other registries through "
        "a VPC "
        "only; push it to ECR, or write [network]",
    ),
    (
        {"image": 'tag = "1"\nbuild_args = { TORCH = "2.13" }'},
        "image.build_args={…} does not go with tag; remove one of the two",
    ),
    (
        {"image": 'build = "no/such/place"'},
        "image.build='no/such/place' is no directory; give its path from where cdk is run",
    ),
    (
        {"image": 'build = "infra"'},
        "image.dockerfile='Dockerfile' is not a file in infra; give its path from there, such as "
        "'container/Dockerfile'",
    ),
    # --- model
    (
        {"model": 'archive = "models/m.tar.gz"'},
        "model.archive='models/m.tar.gz' is not an archive in S3; pack it with 'tidegate pack', upload it, write "
        "s3://bucket/path/model.tar.gz, where a bucket's name has 3 to 63 small letters, digits, dots and hyphens",
    ),
    (
        {"model": 'archive = "s3://bucket/m.tar.gz"\ntraining_job = "digits-1"'},
        "model has archive and training_job, and takes at most one of archive, prefix, training_job, package, group, "
        "directory, repository; remove what is not meant",
    ),
    (
        {"model": 'prefix = "s3://bucket/model"'},
        "model.prefix='s3://bucket/model' is not a prefix in S3; write s3://bucket/path/ with the slash at its end",
    ),
    (
        {"model": 'repository = "s3://bucket/models/*"'},
        "model.repository='s3://bucket/models/*' is not a place in S3; write s3://bucket/path, without '*', '?', '$' "
        "or '//'",
    ),
    (
        {"model": 'repository = "s3://bucket/models"\narchive = "s3://bucket/m.tar.gz"'},
        "model has repository and archive, and takes at most one of archive, prefix, training_job, package, group, "
        "directory, repository; remove what is not meant",
    ),
    (
        {"model": 'repository = "s3://bucket/models"\nrepository_key = "alias/mine"'},
        "model.repository_key='alias/mine' is not a key; write the ARN of a KMS key (not of an alias)",
    ),
    (
        {"model": 'repository_key = "arn:aws:kms:eu-west-1:210987654321:key/0a1b"'},
        "model.repository_key='arn:aws:kms:eu-west-1:210987654321:key/0a1b' goes with model.repository, which is "
        "missing; write both or none",
    ),
    (
        {"model": 'package_archive = "s3://bucket/m.tar.gz"'},
        "model.package_archive='s3://bucket/m.tar.gz' goes with model.package, which is missing; write both or none",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting": 'mode = "multi_model"'},
        "model.repository='s3://bucket/models' is a list of models that the server keeps itself, and in mode "
        "multi_model SageMaker says which are loaded; write mode = 'realtime', or model.directory = 's3://bucket/path/'",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting": 'mode = "serverless"'},
        "model.repository='s3://bucket/models' is followed between requests, when a serverless endpoint need not have "
        "a container at all; choose mode 'realtime' or 'async', or name one model.archive",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting": 'mode = "realtime"\nnetwork_isolation = true'},
        "hosting.network_isolation=true is a container without a network, which cannot read model.repository; remove "
        "one of the two",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "hosting__shadow": 'archive = "s3://bucket/m.tar.gz"'},
        "hosting.shadow.archive='s3://bucket/m.tar.gz' is one model beside the many of model.repository, which all "
        "variants serve; leave it out, and publish that model as a version",
    ),
    (
        {"server": 'model_repository = "s3://bucket/models"'},
        "server.model_repository='s3://bucket/models' is said to the container and not to its role; write "
        "model.repository, and leave it out here",
    ),
    (
        {"environment": 'TIDEGATE_MODEL_REPOSITORY = "s3://bucket/models"'},
        "environment.TIDEGATE_MODEL_REPOSITORY='s3://bucket/models' is said to the container and not to its role; "
        "write model.repository, and leave it out here",
    ),
    (
        {"model": 'repository = "s3://bucket/models"', "server": "max_disk_models = 2\nmax_loaded_models = 3"},
        "[server]: TIDEGATE_MAX_DISK_MODELS=2 is less than TIDEGATE_MAX_LOADED_MODELS=3: a model that is loaded is on "
        "the disk too",
    ),
    ({"model": "size_gib = 0"}, "model.size_gib=0 is not a number from 0.001 to 500"),
    (
        {"model": 'directory = "s3://bucket/models/"'},
        "model.directory='s3://bucket/models/' is for mode multi_model, and the mode is realtime; name one "
        "model.archive",
    ),
    (
        {"model": 'package = "digits/latest"'},
        "model.package='digits/latest' is not a model package; write its ARN or 'group/version'",
    ),
    (
        {"model": 'package = "digits/3"'},
        "[image] does not go with model.package, which names its image itself; remove one of the two",
    ),
    (
        {"image": None, "model": 'package = "digits/3"\npackage_archive = "s3://bucket/m.tar.gz"'},
        "model.package_image is missing, and model.package_archive is there; write both, as 'tidegate models "
        "promote' does, or none to have them looked up",
    ),
    (
        {
            "image": None,
            "model": 'package = "digits/3"\npackage_archive = "s3://bucket/m.tar.gz"\n'
            'package_image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/serving:1"',
        },
        "model.package='digits/3' is short for an ARN, and with model.package_image nothing is looked up; write the "
        "whole ARN",
    ),
    (
        {"model": 'archive = "s3://bucket/m.tar.gz"', "hosting": 'mode = "multi_model"'},
        "hosting.mode='multi_model' serves archives below a prefix; write model.directory = 's3://bucket/path/', or "
        "leave "
        "[model] out for models/ in the stage's bucket",
    ),
    (
        {"image": None, "model": 'group = "digits"', "hosting__shadow": 'archive = "s3://bucket/m.tar.gz"'},
        "hosting.shadow.archive='s3://bucket/m.tar.gz' is apart from the package of [model], which has image and "
        "archive "
        "in one; name model.archive and [image] instead, or leave it out",
    ),
    (
        {"hosting__shadow": 'image_uri = "registry.example/serving:1"'},
        "hosting.shadow.image_uri='registry.example/serving:1' is not in Amazon ECR, and SageMaker reaches other "
        "registries through a VPC only; push it to ECR, or write [network]",
    ),
    (
        {"hosting__shadow": 'image_uri = "serving"'},
        "hosting.shadow.image_uri='serving' is not an image that stays; write host/name:version or "
        "host/name@sha256:digest",
    ),
]


@pytest.mark.parametrize(("tables", "sentence"), BAD_TABLES, ids=[sentence[:60] for _, sentence in BAD_TABLES])
def test_a_stage_that_cannot_be_deployed_is_refused(
    tables: dict[str, str | None], sentence: str, tmp_path: Path
) -> None:
    assert refusal(written(tmp_path, **tables)) == sentence
