"""`tidegate doctor`: all questions to moto, to a stand-in, to the local cloud, and to nobody."""

from __future__ import annotations

import datetime
import http.server
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from tests.contract.running import free_port
from tests.infra.conftest import ROOT
from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.doctor import artifact_checks, asker, command
from tidegate.infra.doctor.asker import Asker
from tidegate.infra.doctor.capacity_checks import Quota
from tidegate.infra.doctor.finding import Unanswered
from tidegate.infra.doctor.reservation_checks import TrainingPlan
from tidegate.infra.doctor.standing_checks import Name, Taken
from tidegate.infra.image_push.media_types import DOCKER_MANIFEST
from tidegate.infra.image_push.registries import ImageConfiguration
from tidegate.local_cloud import LocalCloud

BUCKET = f"tidegate-dev-data-{ACCOUNT}-{REGION}"
ARCHIVE = f"s3://{BUCKET}/models/model.tar.gz"
CHECKS = {
    "region", "credentials", "bootstrap", "stacks", "quotas", "reservation", "zones", "image", "archive", "layout",
    "role", "names",
}  # fmt: skip


def written(folder: Path, *, region: str | None = REGION, more: str = "") -> str:
    path = folder / "dev.toml"
    place = "" if region is None else f'region = "{region}"\n'
    path.write_text(
        f'{place}{more}[image]\ntag = "1.4.0"\n[hosting]\nmode = "realtime"\ninstance_type = "ml.m5.xlarge"\n'
        "[retention]\nkeep_data = false\n"
    )
    return str(path)


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit status, and the findings by check."""
    status = command.main([*words, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["exit_status"] == status
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in said["findings"]:
        assert set(finding) == {"check", "asked", "severity", "sentence", "command"}
        found.setdefault(finding["check"], []).append(finding)
    assert set(found) <= CHECKS
    return status, found


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account of moto with nothing in it, and what moto does not have: quotas, and layers of images."""

    def quotas(_: Asker) -> dict[str, Quota]:
        return {"ml.m5.xlarge for endpoint usage": Quota(code="L-1", value=1)}

    def configured(_: Asker, address: str) -> ImageConfiguration:
        return ImageConfiguration(platform="linux/amd64", labels={})

    with mock_aws():
        monkeypatch.setattr(Asker, "quotas", quotas)
        monkeypatch.setattr(Asker, "image_configuration", configured)
        yield


def test_an_empty_account_is_told_all_that_is_missing(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = written(tmp_path)
    status, found = report(capsys, "--stage", stage)
    assert status == 1
    wrong = {check: [each["command"] for each in all_ if each["severity"] == "error"] for check, all_ in found.items()}
    assert {check: commands for check, commands in wrong.items() if commands} == {
        "bootstrap": [f"cdk bootstrap aws://{ACCOUNT}/{REGION}"],
        "image": [f"tidegate image push --stage {stage}"],
        "archive": [
            f"cdk deploy storage -c stage={stage} && aws s3 cp model.tar.gz {ARCHIVE} --region {REGION}",
        ],
    }
    (quota,) = found["quotas"]
    assert quota["severity"] == "warning", "one instance starts, and an update takes two"
    assert [each["severity"] for each in found["names"]] == ["ok"] * 5
    (zones,) = found["zones"]
    assert zones["severity"] == "ok"
    assert f"{REGION}a" in zones["sentence"]


def prepare() -> None:
    """What an account has after `cdk bootstrap`, an upload and a push."""
    s3 = boto3.client("s3", REGION)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=BUCKET, Key="models/model.tar.gz", Body=b"an archive")
    boto3.client("ssm", REGION).put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="27", Type="String")
    ecr = boto3.client("ecr", REGION)
    ecr.create_repository(repositoryName="tidegate-dev")
    manifest = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": {"digest": "sha256:0"}, "layers": []}
    ecr.put_image(repositoryName="tidegate-dev", imageManifest=json.dumps(manifest), imageTag="1.4.0")
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    for unit in ("storage", "registry"):
        boto3.client("cloudformation", REGION).create_stack(
            StackName=f"tidegate-dev-{unit}", TemplateBody=json.dumps(template)
        )


def test_a_prepared_account_has_nothing_wrong(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def verdict(_: Asker, url: str, environment: Mapping[str, str]) -> artifact_checks.Verdict:
        asked.append(url)
        assert environment["TIDEGATE_MAX_BODY_BYTES"]
        return artifact_checks.Verdict(error=None)

    monkeypatch.setattr(Asker, "verdict", verdict)
    prepare()
    status, found = report(capsys, "--stage", written(tmp_path))
    assert status == 0
    assert {each["severity"] for all_ in found.values() for each in all_} == {"ok", "warning"}
    assert asked == [ARCHIVE]
    assert [each["sentence"] for each in found["stacks"]] == [
        "No stack of the stage stands in the way; there are: storage, registry."
    ]
    asked.clear()
    status, found = report(capsys, "--stage", written(tmp_path), "--no-load")
    assert (status, asked) == (0, [])
    assert found["layout"][0]["severity"] == "warning"


def test_what_a_check_says_of_a_model_is_told_in_sentences(account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cautions = [
        {"message": "it has no example", "way_out": "save_model(example=…) gives one"},
        {"message": "It is slow.", "way_out": ""},
    ]
    said = json.dumps({"error": None, "warnings": cautions})
    monkeypatch.setattr(asker, "find_spec", lambda _: True)
    monkeypatch.setattr(asker.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, ""))

    found = Asker(REGION).verdict(ARCHIVE, {})

    assert found == artifact_checks.Verdict(
        error=None, warnings=("it has no example. save_model(example=…) gives one.", "It is slow.")
    )


def test_what_stands_without_its_stack_is_named(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    boto3.client("cloudformation", REGION).delete_stack(StackName="tidegate-dev-registry")
    stage = written(tmp_path)
    status, found = report(capsys, "--stage", stage, "--no-load")
    assert status == 1
    assert [each["command"] for each in found["names"] if each["severity"] == "error"] == [
        f"cdk import registry -c stage={stage}"
    ]


def test_an_image_that_sagemaker_refuses_is_named(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    kind = "application/vnd.oci.image.index.v1+json"
    boto3.client("ecr", REGION).batch_delete_image(repositoryName="tidegate-dev", imageIds=[{"imageTag": "1.4.0"}])
    boto3.client("ecr", REGION).put_image(
        repositoryName="tidegate-dev",
        imageManifest=json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": []}),
        imageTag="1.4.0",
    )
    status, found = report(capsys, "--stage", written(tmp_path), "--no-load")
    assert status == 1
    assert f"is an OCI index ({kind}), which SageMaker refuses." in found["image"][0]["sentence"]


def test_a_role_is_looked_at_once_the_endpoint_s_stack_names_it(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = {
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    }
    role = boto3.client("iam", REGION).create_role(RoleName="own", AssumeRolePolicyDocument=json.dumps(policy))
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"ExecutionRoleArn": {"Value": role["Role"]["Arn"]}},
    }
    boto3.client("cloudformation", REGION).create_stack(
        StackName="tidegate-dev-endpoint", TemplateBody=json.dumps(template)
    )
    _, found = report(capsys, "--stage", written(tmp_path), "--no-load")
    assert found["role"][0]["severity"] == "error"
    assert found["role"][0]["asked"] == "iam:GetRole own"


def test_a_role_of_the_account_s_own_is_looked_at_before_any_stack_is_there(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = {
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]
    }
    boto3.client("iam", REGION).create_role(RoleName="own", AssumeRolePolicyDocument=json.dumps(policy))
    stage = written(tmp_path)
    with Path(stage).open("a") as file:
        file.write(f'[role]\narn = "arn:aws:iam::{ACCOUNT}:role/own"\n')
    _, found = report(capsys, "--stage", stage, "--no-load")
    assert [(each["severity"], each["asked"]) for each in found["role"]] == [("ok", "iam:GetRole own")]


def test_credentials_of_another_account_are_told(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = report(capsys, "--stage", written(tmp_path, more='account = "222222222222"\n'), "--no-load")
    assert status == 1
    assert found["credentials"][0]["severity"] == "error"


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Asker:
    """Asks nobody: a test says what is answered."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    return Asker(REGION)


def test_quotas_are_read_to_the_last_page(stubbed: Asker) -> None:
    pages = [("a for endpoint usage", "L-1", 0.0), ("b for endpoint usage", "L-2", 4.0)]
    with Stubber(stubbed._client("service-quotas")) as answers:
        for number, (name, code, value) in enumerate(pages):
            quota = {"QuotaName": name, "QuotaCode": code, "Value": value}
            more = {"NextToken": "t"} if number == 0 else {}
            answers.add_response("list_service_quotas", {"Quotas": [quota]} | more)
        assert stubbed.quotas() == {name: Quota(code=code, value=value) for name, code, value in pages}


def test_a_service_that_the_region_lacks_has_no_zone(stubbed: Asker) -> None:
    wanted = ["com.amazonaws.eu-central-1.sts", "com.amazonaws.eu-central-1.kms"]
    there = [{"ServiceName": wanted[0], "AvailabilityZones": ["eu-central-1a", "eu-central-1b"]}]
    with Stubber(stubbed._client("ec2")) as answers:
        asked = {"Filters": [{"Name": "service-name", "Values": wanted}]}
        answers.add_response("describe_vpc_endpoint_services", {"ServiceDetails": there}, asked)
        assert stubbed.zones_of_endpoint_services(wanted) == {
            wanted[0]: {"eu-central-1a", "eu-central-1b"},
            wanted[1]: set(),
        }


def test_a_private_network_is_held_against_what_the_account_offers(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zone without the type, and another without one of the endpoints: the third is the one to name."""
    zones = {f"{REGION}{letter}" for letter in "abc"}
    lacking = {"com.amazonaws.eu-central-1.sts": zones - {f"{REGION}b"}}

    def supported(_: Asker, services: Collection[str]) -> dict[str, set[str]]:
        return {service: lacking.get(service, zones) for service in services}

    monkeypatch.setattr(Asker, "zones_of_endpoint_services", supported)
    monkeypatch.setattr(Asker, "zones_offering", lambda *_: zones - {f"{REGION}a"})
    stage = written(tmp_path)
    with Path(stage).open("a", encoding="utf-8") as file:
        file.write('[network]\nvpc = "new"\n')
    status, found = report(capsys, "--stage", stage, "--no-load")
    assert status == 1
    instances, endpoints = found["zones"]
    assert (instances["severity"], endpoints["severity"]) == ("warning", "error")
    assert "not in zones eu-central-1a" in instances["sentence"]
    assert "no endpoint of com.amazonaws.eu-central-1.sts in eu-central-1b" in endpoints["sentence"]
    assert all("write availability_zones = ['eu-central-1c'] into" in each["sentence"] for each in found["zones"])


def test_a_training_plan_is_read_as_the_api_tells_it(stubbed: Asker) -> None:
    held = {"InstanceType": "ml.p5.48xlarge", "Status": "Active", "TotalInstanceCount": 2}
    held["ReservedCapacityArn"] = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:reserved-capacity/a"
    told = {
        "TrainingPlanArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-plan/ours",
        "TrainingPlanName": "ours",
        "Status": "Active",
        "TotalInstanceCount": 4,
        "AvailableInstanceCount": 3,
        "TargetResources": ["endpoint"],
        "EndTime": datetime.datetime(2026, 12, 30, tzinfo=datetime.UTC),
        "ReservedCapacitySummaries": [held, held],
    }
    with Stubber(stubbed._client("sagemaker")) as answers:
        answers.add_response("describe_training_plan", told, {"TrainingPlanName": "ours"})
        assert stubbed.training_plan("ours") == TrainingPlan(
            status="Active",
            targets=("endpoint",),
            instance_types=("ml.p5.48xlarge",),
            total=4,
            available=3,
            end=datetime.datetime(2026, 12, 30, tzinfo=datetime.UTC),
        )
        answers.add_client_error("describe_training_plan", "ResourceNotFound", "no such plan")
        assert stubbed.training_plan("theirs") is None


def test_a_refused_question_is_no_answer(stubbed: Asker) -> None:
    with Stubber(stubbed._client("service-quotas")) as answers:
        answers.add_client_error("list_service_quotas", "AccessDeniedException", "not yours.")
        assert stubbed.quotas() == Unanswered(reason="AWS says 'not yours' (AccessDeniedException)")


@pytest.mark.parametrize(("code", "taken"), [("404", Taken.FREE), ("403", Taken.ELSEWHERE)])
def test_a_bucket_of_somebody_else_is_not_free(stubbed: Asker, code: str, taken: Taken) -> None:
    bucket = Name(kind="bucket", name="some-bucket", unit="storage", remove="s3 rb s3://some-bucket")
    with Stubber(stubbed._client("s3")) as answers:
        answers.add_client_error("head_bucket", code, "", int(code))
        assert stubbed.taken(bucket) is taken


def test_a_registry_that_does_not_answer_is_no_answer(stubbed: Asker) -> None:
    port = free_port()
    found = stubbed.image(f"127.0.0.1:{port}/own/name:7")
    assert isinstance(found, Unanswered)
    assert found.reason.startswith(f"the registry 127.0.0.1:{port} does not answer: ")


class _Registry(http.server.BaseHTTPRequestHandler):
    """Of one image: its manifest by a tag, and what it says of itself."""

    configuration = json.dumps(
        {"os": "linux", "architecture": "arm64", "config": {"Labels": {"a": "b"}}, "rootfs": {}}
    ).encode()
    manifest = json.dumps({"mediaType": DOCKER_MANIFEST, "config": {"digest": "sha256:c0"}, "layers": []}).encode()

    def do_GET(self) -> None:
        answers = {
            "/v2/own/name/manifests/7": self.manifest,
            "/v2/own/name/blobs/sha256:c0": self.configuration,
            "/signed": self.configuration,
        }
        body = answers.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: Any) -> None:
        """Nothing on the console of the tests."""


@pytest.fixture
def registry() -> Iterator[str]:
    """Its host and port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ARM = ImageConfiguration(platform="linux/arm64", labels={"a": "b"})


def test_a_registry_tells_what_an_image_says_of_itself(stubbed: Asker, registry: str) -> None:
    assert stubbed.image_configuration(f"{registry}/own/name:7") == ARM
    assert stubbed.image_configuration(f"{registry}/own/name:8") is None


def test_ecr_tells_where_it_lies(stubbed: Asker, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    there = {"registryId": ACCOUNT, "repositoryName": "own"}
    of_tag = there | {"imageIds": [{"imageTag": "7"}], "acceptedMediaTypes": [DOCKER_MANIFEST]}
    image = {"imageManifest": _Registry.manifest.decode()}
    with Stubber(stubbed._client("ecr", REGION)) as answers:
        answers.add_response("batch_get_image", {"images": [image]}, of_tag)
        layer = {"downloadUrl": f"http://{registry}/signed", "layerDigest": "sha256:c0"}
        answers.add_response("get_download_url_for_layer", layer, there | {"layerDigest": "sha256:c0"})
        assert stubbed.image_configuration(f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/own:7") == ARM


def test_an_image_that_lies_nowhere_is_no_answer(
    stubbed: Asker, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/own:7"
    with Stubber(stubbed._client("ecr", REGION)) as answers:
        answers.add_response("batch_get_image", {"images": []})
        assert stubbed.image_configuration(address) is None
        answers.add_response("batch_get_image", {"images": [{"imageManifest": _Registry.manifest.decode()}]})
        answers.add_response("get_download_url_for_layer", {"downloadUrl": f"http://{registry}/expired"})
        found = stubbed.image_configuration(address)
    assert isinstance(found, Unanswered)
    assert "Amazon S3, which says 'HTTP Error 404" in found.reason


def test_the_text_has_a_line_for_each_finding_and_the_command_below(
    account: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--stage", written(tmp_path), "--no-load"]) == 1
    lines = capsys.readouterr().out.splitlines()
    place = lines.index(
        f"error    bootstrap    aws://{ACCOUNT}/{REGION} has no bootstrap stack with the qualifier hnb659fds."
    )
    assert lines[place + 1] == f"{'':<21} cdk bootstrap aws://{ACCOUNT}/{REGION}"


def test_a_stage_file_that_is_refused_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--stage", written(tmp_path, more="colour = 1\n")]) == 1
    assert capsys.readouterr().err.startswith("tidegate: error: dev.toml: colour=1 is not a key")


def test_the_qualifier_is_that_of_cdk_json(tmp_path: Path) -> None:
    file = tmp_path / "cdk.json"
    assert command._qualifier(file) == "hnb659fds"
    file.write_text('{"context": {"@aws-cdk/core:bootstrapQualifier": "mine"}}')
    assert command._qualifier(file) == "mine"


def alone(**more: str) -> dict[str, str]:
    """The environment of a machine without anything of AWS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    files = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    direct = {"AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return kept | files | direct | more


def run(stage: str, environment: Mapping[str, str], *words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "infra", "doctor", "--stage", stage, "--json", *words],
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_without_credentials_each_thing_that_was_not_asked_is_named(tmp_path: Path) -> None:
    status, said = run(written(tmp_path), alone())
    assert status == 2
    assert (said["account"], said["region"]) == (None, REGION)
    assert {finding["check"]: finding["severity"] for finding in said["findings"]} == {
        check: "ok" if check == "region" else "unknown" for check in CHECKS
    }
    (credentials,) = (each for each in said["findings"] if each["check"] == "credentials")
    assert credentials["sentence"] == "This could not be asked: Unable to locate credentials."


def test_without_a_region_it_says_what_to_set(tmp_path: Path) -> None:
    status, said = run(written(tmp_path, region=None), alone())
    assert status == 1
    assert said["findings"][0]["command"] == "export AWS_DEFAULT_REGION=eu-central-1"


def test_an_address_where_nobody_answers_is_not_waited_for(tmp_path: Path) -> None:
    """The clients give up after two tries; the account alone is asked, and nothing else after it."""
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    status, said = run(written(tmp_path), alone(**keys))
    assert status == 2
    (credentials,) = (each for each in said["findings"] if each["check"] == "credentials")
    assert "Could not connect to the endpoint URL" in credentials["sentence"]
    assert {each["asked"] for each in said["findings"]} == {
        "the stage file, AWS_DEFAULT_REGION, AWS_REGION, the profile",
        "sts:GetCallerIdentity",
        "nothing",
    }


def test_the_patience_of_its_clients_is_small() -> None:
    config = Asker(REGION)._config
    assert (config.connect_timeout, config.read_timeout) == (3, 10)
    assert config.retries == {"total_max_attempts": 2}


def test_the_local_cloud_is_examined_as_a_whole(tmp_path: Path) -> None:
    """With a real archive: nothing is wrong, its model is loaded by `check`, and nothing is unknown."""
    stage = tmp_path / "dev.toml"
    model = tmp_path / "model"
    (model / "code").mkdir(parents=True)
    (model / "code/inference.py").write_text("def model_fn(model_dir):\n    return len\n")
    with LocalCloud(tmp_path / "cloud") as cloud:
        s3 = cloud.client("s3")
        environment = cloud.environment
        bucket = f"tidegate-dev-data-{ACCOUNT}-{environment['AWS_REGION']}"
        s3.create_bucket(Bucket=bucket)
        archive = tmp_path / "model.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(model, ".")
        s3.upload_file(str(archive), bucket, "models/model.tar.gz")
        written(tmp_path, region=environment["AWS_REGION"], more="bootstrapped = false\n")
        template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
        cloud.client("cloudformation").create_stack(StackName="tidegate-dev-storage", TemplateBody=template)
        status, said = run(str(stage), alone() | environment)
    found = {each["check"]: each for each in said["findings"]}
    assert status == 0, said
    assert set(found) == CHECKS
    assert found["layout"]["asked"] == f"tidegate check s3://{bucket}/models/model.tar.gz"
    assert {each["severity"] for each in said["findings"]} <= {"ok", "warning"}


DOCUMENT = (ROOT / "docs" / "doctor.md").read_text()


def test_every_check_and_every_key_is_documented() -> None:
    assert all(f"| `{check}` |" in DOCUMENT for check in CHECKS)
    assert set(re.findall(r"\| `findings\[\]\.(\w+)` \|", DOCUMENT)) == {
        "check", "asked", "severity", "sentence", "command",
    }  # fmt: skip
    assert all(f"`{key}`" in DOCUMENT for key in ("stage", "account", "region", "exit_status", "findings"))


def test_every_question_to_aws_is_documented() -> None:
    """By the operations that the asker calls."""
    text = Path(asker.__file__).read_text()
    called = set(
        re.findall(
            r"(?:\)|ecr)\.(get_\w+|batch_get_\w+|describe_\w+|head_\w+)\(|\"(list_\w+|describe_instance\w+)\"", text
        )
    )
    operations = {"".join(word.capitalize() for word in (a or b).split("_")) for a, b in called} - {"GetPaginator"}
    assert "HeadBucket" in operations
    assert not [name for name in operations if name not in DOCUMENT]
