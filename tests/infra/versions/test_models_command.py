"""`tidegate models`, against moto's registry, S3, ECR and CloudFormation."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.versions import models_command

BUCKET = f"tidegate-dev-data-{ACCOUNT}-{REGION}"
REPOSITORY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/tidegate-dev"
DEV = f"""
region = "{REGION}"

[image]
tag = "1.4.0"

[model]
group = "tidegate-dev"

[hosting]
mode = "realtime"

[model_registry]
promotion = true

[retention]
keep_data = false
"""
PROD = f"""
# For traffic.
region = "{REGION}"

[image]  # by hand until now
tag = "0.9.0"

[model]
archive = "s3://tidegate-prod/models/1/model.tar.gz"
size_gib = 2.5  # unpacked

[hosting]
mode = "realtime"
instance_count = 2  # two zones

[retention]
keep_data = true
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def account() -> Iterator[str]:
    """An account with the bucket, the repository with one image, and the group; returns the image's digest."""
    with mock_aws(), pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", REGION)
        boto3.client("s3", REGION).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        ecr = boto3.client("ecr", REGION)
        ecr.create_repository(repositoryName="tidegate-dev")
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:" + "0" * 64}, "layers": []}
        image = ecr.put_image(repositoryName="tidegate-dev", imageManifest=json.dumps(manifest), imageTag="1.4.0")
        yield image["image"]["imageId"]["imageDigest"]


@pytest.fixture
def stages(tmp_path: Path, account: str) -> Path:
    """The files of dev and prod, and an empty group."""
    (tmp_path / "dev.toml").write_text(DEV)
    (tmp_path / "prod.toml").write_text(PROD)
    boto3.client("sagemaker", REGION).create_model_package_group(ModelPackageGroupName="tidegate-dev")
    return tmp_path


@pytest.fixture
def run(stages: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command for dev: status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = models_command.main([*arguments, "--stage", str(stages / "dev.toml")])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def archive(path: Path, **manifest: Any) -> Path:
    """A model.tar.gz with a manifest as training_hooks writes it."""
    with tarfile.open(path, "w:gz") as tar:
        files = {
            "manifest.json": json.dumps({"format_version": 1, "files": {}} | manifest).encode(),
            "model.pth": b"weights",
        }
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def package(number: int = 1) -> dict[str, Any]:
    name = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/tidegate-dev/{number}"
    found: dict[str, Any] = boto3.client("sagemaker", REGION).describe_model_package(ModelPackageName=name)
    return found


def test_an_archive_becomes_a_version_with_its_image_by_digest_its_metrics_and_its_digests(
    run: Run, stages: Path, account: str
) -> None:
    example = {"request": {"file": "r.json", "content_type": "image/png"}, "response": {"file": "a.json"}}
    path = archive(stages / "model.tar.gz", metrics={"accuracy": 0.975, "loss": 0.08}, example=example)
    status, out, err = run("register", str(path), "--commit", "0a1b2c", "--description", "with augmentation")

    assert (status, err) == (0, "")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    url = f"s3://{BUCKET}/models/{sha256[:16]}/model.tar.gz"
    assert out.split("\t")[:2] == ["1", "PendingManualApproval"]
    assert out.split("\t")[3:] == [f"{REPOSITORY}@{account}", url, "accuracy=0.975 loss=0.08\n"]
    made = package()
    assert made["InferenceSpecification"] == {
        "Containers": [{"Image": f"{REPOSITORY}@{account}", "ModelDataUrl": url}],
        "SupportedContentTypes": [
            "application/json",
            "application/jsonlines",
            "application/x-npy",
            "application/x-npz",
            "image/png",
            "text/csv",
        ],
        "SupportedResponseMIMETypes": ["application/json", "application/jsonlines", "text/csv", "application/x-npy"],
    }
    with tarfile.open(path) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert made["CustomerMetadataProperties"] == {
            "archive_sha256": sha256,
            "manifest_sha256": hashlib.sha256(manifest.read()).hexdigest(),
            "metric:accuracy": "0.975",
            "metric:loss": "0.08",
        }
    assert made["MetadataProperties"]["CommitId"] == "0a1b2c"
    assert made["ModelPackageDescription"] == "with augmentation"
    s3 = boto3.client("s3", REGION)
    key = f"models/{sha256[:16]}/"
    assert s3.get_object(Bucket=BUCKET, Key=f"{key}model.tar.gz")["Body"].read() == path.read_bytes()
    assert made["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] == f"s3://{BUCKET}/{key}metrics.json"
    assert json.loads(s3.get_object(Bucket=BUCKET, Key=f"{key}metrics.json")["Body"].read()) == {
        "accuracy": 0.975,
        "loss": 0.08,
    }


def test_the_same_archive_and_image_are_one_version(run: Run, stages: Path) -> None:
    path = str(archive(stages / "model.tar.gz"))

    assert run("register", path)[1] == run("register", path)[1]
    other = f"{REPOSITORY}@sha256:{'1' * 64}"
    assert run("register", path, "--image", other)[1].startswith("2\t")


def test_an_image_that_is_nowhere_is_told_and_one_that_is_there_is_not(run: Run, stages: Path, account: str) -> None:
    path = str(archive(stages / "model.tar.gz"))

    assert run("register", path, "--image", f"{REPOSITORY}@{account}")[2] == ""
    assert run("register", path, "--image", f"host/name@{account}")[2] == "", "which only its registry knows"
    for other in (f"{REPOSITORY}@sha256:{'1' * 64}", f"{REPOSITORY}-other@{account}"):
        status, out, err = run("register", path, "--image", other)

        assert (status, other in out) == (0, True)
        assert err.startswith(f"tidegate: warning: Amazon ECR has no {other}, so nothing in AWS can run version ")
        assert err.count("\n") == 1


def test_an_archive_in_another_bucket_is_copied_into_the_stage_s(run: Run, stages: Path) -> None:
    path = archive(stages / "model.tar.gz", metrics={"accuracy": 0.5})
    s3 = boto3.client("s3", REGION)
    s3.create_bucket(Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.upload_file(str(path), "elsewhere", "job/output/model.tar.gz")
    status, _, err = run("register", "s3://elsewhere/job/output/model.tar.gz")

    assert (status, err) == (0, "")
    url = package()["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    bucket, _, key = url.removeprefix("s3://").partition("/")
    assert bucket == BUCKET
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == path.read_bytes()


def test_a_version_is_approved_or_rejected_with_a_note(run: Run, stages: Path) -> None:
    run("register", str(archive(stages / "model.tar.gz")))

    assert run("approve", "1", "--note", "better on the hard half")[1].split("\t")[:2] == ["1", "Approved"]
    assert package()["ApprovalDescription"] == "better on the hard half"
    assert run("reject", "1")[1].split("\t")[:2] == ["1", "Rejected"]


def test_a_version_is_approved_again_by_taking_the_approval_back_first(
    run: Run, stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a change of the approval is an event, and only an event is rolled out."""
    from moto.sagemaker.models import ModelPackage

    seen: list[str] = []
    change = ModelPackage.set_model_approval_status

    def remember(self: Any, status: str) -> None:
        seen.append(status)
        change(self, status)

    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    status, _, err = run("approve", "1")
    assert (status, err) == (
        1,
        "tidegate: error: version 1 of tidegate-dev is Approved already; add --again to have it rolled out anew.\n",
    )

    monkeypatch.setattr(ModelPackage, "set_model_approval_status", remember)
    assert run("approve", "1", "--again")[0] == 0
    assert seen == ["PendingManualApproval", "Approved"]


def test_versions_are_listed_from_the_newest(run: Run, stages: Path) -> None:
    """By number: the ninth comes after the tenth."""
    containers = [{"Image": f"{REPOSITORY}@sha256:{'0' * 64}", "ModelDataUrl": "s3://elsewhere/model.tar.gz"}]
    for _ in range(11):
        boto3.client("sagemaker", REGION).create_model_package(
            ModelPackageGroupName="tidegate-dev",
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification={"Containers": containers},
        )
    out = run("list")[1]

    assert [int(line.split("\t")[0]) for line in out.splitlines()] == list(range(11, 0, -1))


def test_a_promotion_is_shown_and_only_written_when_asked(run: Run, stages: Path, account: str) -> None:
    url = run("register", str(archive(stages / "model.tar.gz")))[1].split("\t")[4].strip()
    run("approve", "1")
    prod = stages / "prod.toml"
    status, shown, err = run("promote", "--to", str(prod), "--version", "1")

    assert (status, err) == (0, "")
    assert prod.read_text() == PROD
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/tidegate-dev/1"
    assert [line for line in shown.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"}] == [
        "-[image]  # by hand until now",
        '-tag = "0.9.0"',
        "-",
        '-archive = "s3://tidegate-prod/models/1/model.tar.gz"',
        f'+package = "{arn}"',
        f'+package_image = "{REPOSITORY}@{account}"',
        f'+package_archive = "{url}"',
    ]

    assert run("promote", "--to", str(prod), "--version", "1", "--write")[1] == shown
    from tidegate.infra.configuration.model import PackagedModel
    from tidegate.infra.stage import stage_file

    stage = stage_file.read(prod)
    packaged = PackagedModel(package=arn, package_image=f"{REPOSITORY}@{account}", package_archive=url, size_gib=2.5)
    assert (stage.model, stage.image) == (packaged, None)
    assert "# two zones" in prod.read_text()
    assert run("promote", "--to", str(prod), "--version", "1")[1] == f"{prod} has {arn} already\n"


KEY = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-0000-4000-8000-000000000000"


MADE_KEY = KEY.replace("0a1b2c3d", "9f8e7d6c")


@pytest.mark.parametrize(
    ("dev", "prod", "archive_key"),
    [
        ("new", "new", MADE_KEY),
        ("new", "aws", MADE_KEY),
        (KEY, "aws", KEY),
        (KEY, KEY, None),
        ("aws", "new", None),
    ],
)
def test_the_other_stage_is_let_use_the_key_that_the_archive_is_under(
    dev: str, prod: str, archive_key: str | None, run: Run, stages: Path
) -> None:
    (stages / "dev.toml").write_text(DEV + f'[encryption]\nkey = "{dev}"\n')
    (stages / "prod.toml").write_text(PROD + f'[encryption]\nkey = "{prod}"\n')
    boto3.client("ssm", REGION).put_parameter(Name="/tidegate/dev/key-arn", Value=MADE_KEY, Type="String")
    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    status, _, err = run("promote", "--to", str(stages / "prod.toml"), "--version", "1", "--write")

    assert (status, err) == (0, "")
    written = tomllib.loads((stages / "prod.toml").read_text())["model"]
    assert written.get("archive_key") == archive_key


def test_a_key_that_the_account_does_not_tell_is_not_passed_over(run: Run, stages: Path) -> None:
    (stages / "dev.toml").write_text(DEV + '[encryption]\nkey = "new"\n')
    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    status, _, err = run("promote", "--to", str(stages / "prod.toml"), "--version", "1")

    assert status == 1
    assert err.startswith("tidegate: error: the key of stage dev, kept in /tidegate/dev/key-arn: AWS says")


@pytest.mark.parametrize(
    ("shared", "place", "sentence"),
    [
        ("", 'account = "210987654321"', 'shares with none; write shared_with = ["210987654321"] into the file of dev'),
        (
            'shared_with = ["111111111111"]',
            'account = "210987654321"',
            'shares with 111111111111; write shared_with = ["210987654321"]',
        ),
        ('shared_with = ["210987654321"]', 'account = "210987654321"', None),
        ("", f'account = "{ACCOUNT}"', None),
    ],
)
def test_a_stage_of_another_account_gets_what_is_shared_with_it(
    shared: str, place: str, sentence: str | None, run: Run, stages: Path
) -> None:
    (stages / "dev.toml").write_text(f"{shared}\n{DEV}")
    (stages / "prod.toml").write_text(f"{place}\n{PROD}")
    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    status, out, err = run("promote", "--to", str(stages / "prod.toml"), "--version", "1")

    if sentence is None:
        assert (status, err) == (0, "")
        assert f":{ACCOUNT}:model-package/tidegate-dev/1" in out
    else:
        assert status == 1
        assert sentence in err


def test_a_stage_of_another_region_is_told_to_have_its_own_copies(run: Run, stages: Path) -> None:
    (stages / "prod.toml").write_text(PROD.replace(REGION, "us-east-1"))
    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    err = run("promote", "--to", str(stages / "prod.toml"), "--version", "1")[2]

    assert f"stage prod is in us-east-1, and archive and image are in {REGION}" in err


def test_without_a_version_the_one_that_the_stage_serves_is_promoted(run: Run, stages: Path) -> None:
    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    promote = ("promote", "--to", str(stages / "prod.toml"))
    assert "stack tidegate-dev-endpoint serves no package yet" in run(*promote)[2]

    with served(package()["ModelPackageArn"], config="config-1"):
        assert "model-package/tidegate-dev/1" in run(*promote)[1]


def test_a_version_that_the_endpoint_went_back_from_is_not_promoted(run: Run, stages: Path) -> None:
    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    with served(package()["ModelPackageArn"], config="config-2"):
        err = run("promote", "--to", str(stages / "prod.toml"))[2]

    assert "endpoint tidegate-dev serves config-1, and its stack names config-2" in err


@pytest.fixture
def deletable(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto has no DeleteModelPackage; the local cloud has, see tests/end_to_end/test_promotion.py."""
    from moto.core.responses import EmptyResult
    from moto.sagemaker.responses import SageMakerResponse

    def delete(self: Any) -> Any:
        del self.sagemaker_backend.model_packages[self._get_param("ModelPackageName")]
        return EmptyResult()

    monkeypatch.setattr(SageMakerResponse, "delete_model_package", delete, raising=False)


@contextmanager
def served(arn: str, *, config: str) -> Iterator[None]:
    """A stack that names the package and a configuration, and an endpoint that serves config-1."""
    cloudformation, sagemaker = boto3.client("cloudformation", REGION), boto3.client("sagemaker", REGION)
    role = f"arn:aws:iam::{ACCOUNT}:role/role"
    sagemaker.create_model(ModelName="model", ExecutionRoleArn=role, PrimaryContainer={"Image": "host/name:1"})
    variant = {"VariantName": "primary", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="config-1", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="tidegate-dev", EndpointConfigName="config-1")
    template = {
        "Parameters": {"ModelPackageArn": {"Type": "String"}},
        "Resources": {"T": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"EndpointConfigName": {"Value": config}},
    }
    given = [{"ParameterKey": "ModelPackageArn", "ParameterValue": arn}]
    cloudformation.create_stack(StackName="tidegate-dev-endpoint", TemplateBody=json.dumps(template), Parameters=given)
    try:
        yield
    finally:
        cloudformation.delete_stack(StackName="tidegate-dev-endpoint")


@pytest.mark.usefixtures("deletable")
def test_all_versions_are_deleted_so_that_the_group_can_be_destroyed(run: Run, stages: Path) -> None:
    for number in "12":
        run("register", str(archive(stages / "model.tar.gz", note=number)))
    status, out, err = run("delete", "--all")

    assert (status, err) == (0, "")
    assert [line.split("\t")[0] for line in out.splitlines()] == ["2", "1"]
    assert run("list")[1] == ""


@pytest.mark.usefixtures("deletable")
def test_the_version_that_the_endpoint_s_stack_names_is_not_deleted(run: Run, stages: Path) -> None:
    for number in "12":
        run("register", str(archive(stages / "model.tar.gz", note=number)))
    with served(package(1)["ModelPackageArn"], config="config-1"):
        assert run("delete", "2")[0] == 0
        err = run("delete", "1")[2]

    assert err == (
        "tidegate: error: version 1 of tidegate-dev is what stack tidegate-dev-endpoint serves; destroy that stack "
        "first, or approve another version.\n"
    )
    assert run("list")[1].startswith("1\t")


def test_a_stage_with_a_group_of_its_own_is_told_what_to_do_instead(run: Run, stages: Path) -> None:
    run("register", str(archive(stages / "model.tar.gz")))
    run("approve", "1")
    (stages / "prod.toml").write_text(DEV.replace("tidegate-dev", "tidegate-prod"))
    status, _, err = run("promote", "--to", str(stages / "prod.toml"), "--version", "1")

    assert status == 1
    assert "prod.toml: the stage takes what is approved in its own group 'tidegate-prod'; register the archive" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["register", "missing.tar.gz"],
            "missing.tar.gz cannot be read: No such file or directory; name a model.tar.gz",
        ),
        (["register", "{stages}/dev.toml"], "dev.toml is no model.tar.gz: not a gzip file"),
        (["register", "{stages}/model.tar.gz", "--image", "host/name:1"], "--image=host/name:1 is not in Amazon ECR"),
        (["register", "{stages}/model.tar.gz", "--image", f"{REPOSITORY}:9"], f"image {REPOSITORY}:9: AWS says"),
        (["register", "s3://nowhere/model.tar.gz"], "s3://nowhere/model.tar.gz: AWS says"),
        (["approve", "7"], "model-package/tidegate-dev/7: AWS says"),
        (["promote", "--to", "{stages}/prod.toml", "--version", "7"], "model-package/tidegate-dev/7: AWS says"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, run: Run, stages: Path) -> None:
    archive(stages / "model.tar.gz")
    status, out, err = run(*[argument.format(stages=stages) for argument in arguments])

    assert (status, out) == (1, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_version_that_nobody_approved_is_not_promoted(run: Run, stages: Path) -> None:
    run("register", str(archive(stages / "model.tar.gz")))
    err = run("promote", "--to", str(stages / "prod.toml"), "--version", "1")[2]

    assert err == "tidegate: error: version 1 of tidegate-dev is PendingManualApproval; approve it first.\n"


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (None, "has no manifest.json; pack it with 'tidegate pack'"),
        (b"{", "has a broken manifest.json"),
        (b"[]", "has a broken manifest.json"),
        (b'{"metrics": {"accuracy": "high"}}', "has a broken manifest.json"),
    ],
)
def test_an_archive_whose_manifest_is_missing_or_broken_is_refused(
    manifest: bytes | None, sentence: str, run: Run, stages: Path
) -> None:
    path = stages / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        if manifest is not None:
            member = tarfile.TarInfo("manifest.json")
            member.size = len(manifest)
            tar.addfile(member, io.BytesIO(manifest))

    assert sentence in run("register", str(path))[2]
