"""Where model and image come from, and what the role may read and pull for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn
from unittest.mock import ANY

import boto3
import pytest
from moto import mock_aws

from tests.infra.conftest import Synthesise, Synthesised
from tests.infra.rights.test_execution_role import resources, statements
from tests.infra.stacks.test_endpoint import CONFIG, ENDPOINT, MODEL, text
from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.models import account

REGION = "eu-central-1"
IMAGE = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/team/serving@sha256:" + "0a" * 32
ROLE = "arn:aws:iam::123456789012:role/training"
S3 = "arn:${AWS::Partition}:s3:::"


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with nothing in it, and nothing remembered from the one before."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    account.archive_of_training_job.cache_clear()
    account.package.cache_clear()
    with mock_aws():
        yield boto3.client("sagemaker", region_name=REGION)


def registered(sagemaker: Any, status: str) -> str:
    sagemaker.create_model_package_group(ModelPackageGroupName="digits")
    return str(
        sagemaker.create_model_package(
            ModelPackageGroupName="digits",
            ModelApprovalStatus=status,
            InferenceSpecification={
                "Containers": [{"Image": IMAGE, "ModelDataUrl": "s3://registry-bucket/digits/1/model.tar.gz"}],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
        )["ModelPackageArn"]
    )


def container(stage: Synthesised) -> dict[str, Any]:
    found = stage.only("endpoint", MODEL)["PrimaryContainer"]
    assert isinstance(found, dict)
    return found


def test_files_below_a_prefix_are_mounted_as_they_are_and_may_be_listed(samples: dict[str, Synthesised]) -> None:
    stage = samples["async"]
    allowed = statements(stage)

    assert container(stage)["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": "s3://some-bucket/models/7/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    assert "ModelDataUrl" not in container(stage)
    assert resources(allowed["ReadThisModel"]) == [f"{S3}some-bucket/models/7/*"]
    assert resources(allowed["ListThisModel"]) == [f"{S3}some-bucket"]


def test_a_repository_is_a_variable_of_a_container_that_has_no_model_data(samples: dict[str, Synthesised]) -> None:
    """SageMaker starts a container without model data too; then /opt/ml/model is empty."""
    found = container(samples["repository"])

    assert not found.keys() & {"ModelDataUrl", "ModelDataSource", "ModelPackageName", "Mode"}
    assert found["Environment"]["TIDEGATE_MODEL_REPOSITORY"] == "s3://some-bucket/models/live"
    assert found["Environment"]["TIDEGATE_RELOAD_INTERVAL_S"] == "30"


def test_the_role_lists_and_reads_the_repository_and_decrypts_it_and_nothing_beside_it(
    samples: dict[str, Synthesised],
) -> None:
    allowed = statements(samples["repository"])
    about_it = {sid for sid, statement in allowed.items() if "some-bucket" in json.dumps(statement)}

    assert about_it == {"ReadThisModel", "ListThisModel"}
    assert allowed["ReadThisModel"]["Action"] == "s3:GetObject"
    assert resources(allowed["ReadThisModel"]) == ["arn:aws:s3:::some-bucket/models/live/*"]
    assert allowed["ListThisModel"]["Action"] == "s3:ListBucket"
    assert resources(allowed["ListThisModel"]) == ["arn:aws:s3:::some-bucket"]
    assert allowed["ListThisModel"]["Condition"] == {"StringLike": {"s3:prefix": ["models/live/*"]}}
    assert allowed["DecryptThisModel"]["Action"] == "kms:Decrypt"
    assert resources(allowed["DecryptThisModel"])[0].startswith("arn:aws:kms:eu-west-1:210987654321:key/")
    assert allowed["DecryptThisModel"]["Condition"] == {
        "StringLike": {"kms:ViaService": ["s3.eu-west-1.amazonaws.com*"]}
    }


def test_a_repository_may_be_a_whole_bucket_or_end_in_a_slash(synthesise: Synthesise) -> None:
    whole = synthesise(stage="dev", changes={"model": {"repository": "s3://models"}})
    slash = synthesise(stage="dev", changes={"model": {"repository": "s3://models/live/"}})

    assert resources(statements(whole)["ReadThisModel"]) == [f"{S3}models/*"]
    assert "Condition" not in statements(whole)["ListThisModel"]
    assert "DecryptThisModel" not in statements(whole)
    assert container(slash)["Environment"]["TIDEGATE_MODEL_REPOSITORY"] == "s3://models/live"
    assert statements(slash)["ListThisModel"]["Condition"] == {"StringLike": {"s3:prefix": ["live/*"]}}


def test_batch_jobs_of_a_repository_run_the_same_model(samples: dict[str, Synthesised]) -> None:
    parameter = samples["repository"].only("endpoint", "AWS::SSM::Parameter")

    assert parameter["Value"] == samples["repository"].only("endpoint", MODEL)["ModelName"]


def test_a_multi_model_endpoint_serves_the_archives_below_a_prefix(samples: dict[str, Synthesised]) -> None:
    found = container(samples["multimodel"])

    assert (found["Mode"], found["ModelDataUrl"]) == ("MultiModel", "s3://some-bucket/tenants/")
    assert found["MultiModelConfig"] == {"ModelCacheSetting": "Enabled"}


def test_each_variant_and_the_shadow_with_an_archive_of_their_own_have_a_model_of_their_own(
    samples: dict[str, Synthesised],
) -> None:
    urls = {
        name: sorted(
            text(model["PrimaryContainer"]["ModelDataUrl"]) for model in stage.properties("endpoint", MODEL).values()
        )
        for name, stage in samples.items()
        if name in {"variants", "realtime"}
    }

    assert urls["realtime"] == ["s3://some-bucket/models/7/model.tar.gz", "s3://some-bucket/models/8/model.tar.gz"]
    assert urls["variants"][0] == "s3://some-bucket/models/8/model.tar.gz"
    assert resources(statements(samples["realtime"])["ReadShadowModel"]) == [
        "arn:aws:s3:::some-bucket/models/8/model.tar.gz"
    ]


def test_a_shadow_with_the_archive_of_its_production_variant_is_a_model_beside_it(synthesise: Synthesise) -> None:
    """Models are named by their content, and two resources cannot have one name."""
    url = "s3://bucket/1/model.tar.gz"
    stage = synthesise(stage="dev", changes={"model": {"archive": url}, "hosting": {"shadow": {"archive": url}}})

    assert len({model["ModelName"] for model in stage.properties("endpoint", MODEL).values()}) == 2


def test_cdk_builds_the_image_of_graviton_for_arm(synthesise: Synthesise) -> None:
    image = {"tag": None, "build": ".", "dockerfile": "container/Dockerfile"}
    changes = {"image": image, "hosting": {"instance_type": "ml.c8g.large"}}
    stage = synthesise(stage="dev", changes=changes)
    (path,) = stage.directory.glob("endpoint.assets.json")
    (asset,) = json.loads(path.read_text())["dockerImages"].values()

    assert asset["source"]["platform"] == "linux/arm64"
    (variant,) = stage.only("endpoint", CONFIG)["ProductionVariants"]
    assert variant["InstanceType"] == "ml.c8g.large"
    assert "InferenceAmiVersion" not in variant


def test_cdk_builds_the_image_for_the_processor_of_the_hosts(samples: dict[str, Synthesised]) -> None:
    stage = samples["variants"]
    (assets,) = (json.loads(path.read_text())["dockerImages"] for path in stage.directory.glob("endpoint.assets.json"))
    (asset,) = assets.values()

    assert asset["source"]["platform"] == "linux/amd64"
    # One Docker manifest: SageMaker refuses OCI's, and the CDK asks for no provenance by itself.
    assert asset["source"]["dockerOutputs"] == ["type=image,oci-mediatypes=false"]
    assert asset["source"]["dockerFile"] == "container/Dockerfile"
    assert asset["source"]["dockerBuildArgs"] == {"ACCELERATOR": "gpu"}
    (destination,) = asset["destinations"].values()
    for model in stage.properties("endpoint", MODEL).values():
        assert text(model["PrimaryContainer"]["Image"]).endswith(f":{destination['imageTag']}")
    (repository,) = resources(statements(stage)["PullImage"])
    assert "repository/cdk-hnb659fds-container-assets-" in repository


class TestTrainingJob:
    """`model.training_job`."""

    def test_its_archive_is_served(self, sagemaker: Any, synthesise: Synthesise) -> None:
        sagemaker.create_training_job(
            TrainingJobName="digits-1",
            RoleArn=ROLE,
            AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            OutputDataConfig={"S3OutputPath": "s3://training-bucket/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
        url = sagemaker.describe_training_job(TrainingJobName="digits-1")["ModelArtifacts"]["S3ModelArtifacts"]
        stage = synthesise(stage="dev", changes={"region": REGION, "model": {"training_job": "digits-1"}})

        assert container(stage)["ModelDataUrl"] == url
        assert resources(statements(stage)["ReadThisModel"]) == [f"arn:aws:s3:::{url.removeprefix('s3://')}"]

    @pytest.mark.usefixtures("sagemaker")
    def test_one_that_does_not_exist_is_one_sentence(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            account.archive_of_training_job("digits-9", REGION)

        sentence = str(caught.value)
        assert sentence.startswith("model.training_job='digits-9' cannot be read: SageMaker says '")
        assert sentence.endswith("'; check name and Region")

    def test_without_credentials_the_sentence_says_what_to_set(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        account.archive_of_training_job.cache_clear()
        for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(ConfigurationError) as caught:
            account.archive_of_training_job("digits-1", REGION)

        assert str(caught.value) == (
            "model.training_job='digits-1' must be looked up in the account, and that failed: Unable to locate "
            "credentials; "
            "set AWS_PROFILE and AWS_REGION, or write model.archive"
        )


class TestPackage:
    """`model.package`."""

    def test_its_image_and_archive_are_what_the_role_may_fetch(self, sagemaker: Any, synthesise: Synthesise) -> None:
        arn = registered(sagemaker, "Approved")
        stage = synthesise(stage="dev", changes={"region": REGION, "image": None, "model": {"package": arn}})
        allowed = statements(stage)

        assert container(stage)["ModelPackageName"] == arn
        assert "Image" not in container(stage)
        assert resources(allowed["ReadThisModel"]) == ["arn:aws:s3:::registry-bucket/digits/1/model.tar.gz"]
        assert resources(allowed["PullImage"]) == [f"arn:aws:ecr:{REGION}:123456789012:repository/team/serving"]

    def test_one_whose_image_and_archive_are_written_down_needs_no_account(
        self, monkeypatch: pytest.MonkeyPatch, synthesise: Synthesise
    ) -> None:
        def refuse(*_: object) -> NoReturn:
            raise AssertionError("the account was asked")

        monkeypatch.setattr(account, "_ask", refuse)
        arn = f"arn:aws:sagemaker:{REGION}:123456789012:model-package/digits/3"
        model = {
            "package": arn,
            "package_image": f"123456789012.dkr.ecr.{REGION}.amazonaws.com/team/serving@sha256:{'0a' * 32}",
            "package_archive": "s3://registry-bucket/digits/3/model.tar.gz",
        }
        stage = synthesise(stage="dev", changes={"region": REGION, "image": None, "model": model})
        allowed = statements(stage)

        assert container(stage) == {"Environment": ANY, "ModelPackageName": arn}
        assert resources(allowed["ReadThisModel"]) == ["arn:aws:s3:::registry-bucket/digits/3/model.tar.gz"]
        assert resources(allowed["PullImage"]) == [f"arn:aws:ecr:{REGION}:123456789012:repository/team/serving"]

    def test_one_that_nobody_approved_is_refused(self, sagemaker: Any) -> None:
        arn = registered(sagemaker, "PendingManualApproval")
        with pytest.raises(ConfigurationError) as caught:
            account.package(arn, REGION)

        assert str(caught.value) == (
            f"model.package='{arn}' is PendingManualApproval, and only approved packages are deployed; approve it, "
            f"or name "
            "another version"
        )


class TestGroup:
    """`model.group`: what was approved last."""

    @pytest.fixture
    def approved(self, samples: dict[str, Synthesised]) -> Synthesised:
        return samples["approved"]

    def test_the_package_is_a_parameter_that_is_empty_at_first(self, approved: Synthesised) -> None:
        parameter = approved.templates["endpoint"].to_json()["Parameters"]["ModelPackageArn"]

        assert (parameter["Type"], parameter["Default"]) == ("String", "")
        assert container(approved)["ModelPackageName"] == {"Ref": "ModelPackageArn"}

    def test_what_serves_it_is_named_by_cloudformation_so_that_a_new_package_replaces_it(
        self, approved: Synthesised
    ) -> None:
        assert "ModelName" not in approved.only("endpoint", MODEL)
        assert "EndpointConfigName" not in approved.only("endpoint", CONFIG)
        assert approved.only("endpoint", ENDPOINT)["EndpointName"] == "tidegate-approved"

    def test_before_the_first_approval_only_the_role_is_made(self, approved: Synthesised) -> None:
        template = approved.templates["endpoint"].to_json()
        at_once = {item["Type"] for item in template["Resources"].values() if "Condition" not in item}
        shown_at_once = {name for name, output in template["Outputs"].items() if "Condition" not in output}

        assert at_once == {"AWS::IAM::Role"}
        assert shown_at_once == {"BucketName", "ExecutionRoleArn", "ServedModelPackageArn"}
        assert template["Conditions"]["IsApproved"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ModelPackageArn"}, ""]}]}

    def test_nothing_unconditional_refers_to_what_is_not_there_yet(self, approved: Synthesised) -> None:
        template = approved.templates["endpoint"].to_json()
        later = {name for name, item in template["Resources"].items() if "Condition" in item}
        always = json.dumps([item for item in template["Resources"].values() if "Condition" not in item])

        assert not [name for name in later if f'"{name}"' in always]
