"""`tidegate image push` without docker: where the image goes, what is refused, and in which order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.hosting.machines import accelerator, platform
from tidegate.infra.image_push import command
from tidegate.infra.image_push.destination import Destination, destination
from tidegate.infra.image_push.media_types import DOCKER_MANIFEST, unfit
from tidegate.infra.image_push.push import LocalImage, check_local, inspected, push
from tidegate.infra.image_push.registries import Login, Manifest, registry_of
from tidegate.infra.loopback import is_loopback
from tidegate.infra.stage import stage_file

DIGEST = "sha256:" + "a" * 64
ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DEPLOY = "cdk deploy registry -c stage=dev"


@dataclass(frozen=True, kw_only=True)
class Here:
    account: str = ACCOUNT
    region: str = REGION


def stage(image: dict[str, Any] | None, **changes: Any) -> Stage:
    table = {"name": "dev", "hosting": {"mode": "realtime"}, "retention": {"keep_data": False}} | changes
    return stage_file.parse(table if image is None else table | {"image": image})


@pytest.mark.parametrize(
    ("image", "tag", "address", "line"),
    [
        ({"tag": "1.4.0"}, None, f"{ECR}/tidegate-dev:1.4.0", f'digest = "{DIGEST}"'),
        ({"tag": "1.4.0"}, "1.5.0", f"{ECR}/tidegate-dev:1.5.0", f'digest = "{DIGEST}"'),
        ({"digest": DIGEST}, "1.5.0", f"{ECR}/tidegate-dev:1.5.0", f'digest = "{DIGEST}"'),
        (None, "1.5.0", f"{ECR}/tidegate-dev:1.5.0", f'digest = "{DIGEST}"'),
        ({"uri": "127.0.0.1:5000/a/b:7"}, None, "127.0.0.1:5000/a/b:7", f'uri = "127.0.0.1:5000/a/b@{DIGEST}"'),
        ({"uri": f"{ECR}/own:7"}, "8", f"{ECR}/own:8", f'uri = "{ECR}/own@{DIGEST}"'),
        ({"uri": f"{ECR}/own@{DIGEST}"}, "8", f"{ECR}/own:8", f'uri = "{ECR}/own@{DIGEST}"'),
    ],
)  # fmt: skip
def test_an_image_goes_where_the_stage_has_it_from(
    image: dict[str, Any] | None, tag: str | None, address: str, line: str
) -> None:
    where = destination(stage(image), tag, Here)
    assert where.address == address
    assert where.line(DIGEST) == line


def test_a_registry_in_china_has_the_ending_of_china() -> None:
    where = destination(stage({"tag": "1"}), None, lambda: Here(region="cn-north-1"))
    assert where.host == f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn"


@pytest.mark.parametrize(
    ("image", "tag", "sentence"),
    [
        ({"build": "."}, None, "is built and pushed by 'cdk deploy'; nothing is left to push"),
        ({"digest": DIGEST}, None, "names an image that is there already; give --tag for the next one"),
        ({"uri": f"{ECR}/own@{DIGEST}"}, None, "names an image that is there already; give --tag for the next one"),
        (None, None, r"has no \[image\], so the image has no tag; give --tag"),
        ({"tag": "1"}, "latest", "--tag='latest' is not a tag that stays; push and name a version"),
    ],
)
def test_a_stage_that_names_no_image_to_push_is_told_so(
    image: dict[str, Any] | None, tag: str | None, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        destination(stage(image), tag, Here)


@pytest.mark.parametrize(
    ("hosting", "batch", "kind", "machine"),
    [
        ({"mode": "realtime", "instance_type": "ml.g6.xlarge"}, None, "gpu", "linux/amd64"),
        ({"mode": "realtime", "instance_type": "ml.m7i.large"}, None, "cpu", "linux/amd64"),
        (
            {"mode": "realtime", "instance_type": "ml.m7i.large"},
            {"instance_type": "ml.g5.xlarge"},
            "gpu",
            "linux/amd64",
        ),
        ({"mode": "realtime", "instance_type": "ml.c7g.large"}, None, "cpu", "linux/arm64"),
        ({"mode": "serverless"}, None, "cpu", "linux/amd64"),
    ],
)  # fmt: skip
def test_the_instance_types_say_which_image_is_built(
    hosting: dict[str, Any], batch: dict[str, Any] | None, kind: str, machine: str
) -> None:
    made = stage({"tag": "1"}, hosting=hosting, **({} if batch is None else {"batch": batch}))
    assert (accelerator(made), platform(made)) == (kind, machine)


def test_only_one_docker_manifest_is_fit() -> None:
    assert unfit(DOCKER_MANIFEST) is None
    assert unfit(OCI_INDEX) == f"an OCI index ({OCI_INDEX})"
    assert unfit(OCI_MANIFEST) == f"an OCI manifest ({OCI_MANIFEST})"
    assert unfit("application/x-new") == "application/x-new"


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["registry.example.com", "10.0.0.1:5000", ECR])
def test_other_machines_are_not_this_one(host: str) -> None:
    assert not is_loopback(host)


@dataclass(kw_only=True)
class Docker:
    """Notes what is asked of it; its one image is for `platform`."""

    platform: str = "linux/amd64"
    media_type: str | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)
    passwords: list[str | None] = field(default_factory=list)

    def run(self, *words: str, timeout_s: float = 0, standard_input: str | None = None) -> str:
        assert timeout_s >= 0
        self.asked.append(words)
        self.passwords += [standard_input] if standard_input else []
        if words[:2] != ("image", "inspect"):
            return ""
        system, _, processor = self.platform.partition("/")
        image: dict[str, Any] = {"Os": system, "Architecture": processor}
        if self.media_type is not None:
            image["Descriptor"] = {"mediaType": self.media_type, "digest": DIGEST}
        return json.dumps([image])


@dataclass(kw_only=True)
class Shelf:
    """A registry that holds `after` once something was asked of it the second time."""

    before: Manifest | None = None
    after: Manifest | None = None
    looks: int = 0

    def login(self) -> Login:
        return Login(user="AWS", password="secret")

    def manifest(self) -> Manifest | None:
        self.looks += 1
        return self.before if self.looks == 1 else self.after


PLACE = Destination(host=ECR, repository="tidegate-dev", tag="1.4.0", of_stage=True)
FIT = Manifest(media_type=DOCKER_MANIFEST, digest=DIGEST)


def test_an_image_is_looked_at_pushed_and_looked_at_again() -> None:
    docker = Docker()
    pushed = push(docker, Shelf(after=FIT), PLACE, platform="linux/amd64", make=lambda: "tidegate:cpu")
    assert (pushed.digest, pushed.media_type) == (DIGEST, DOCKER_MANIFEST)
    assert docker.asked == [
        ("image", "inspect", "tidegate:cpu"),
        ("login", "--username", "AWS", "--password-stdin", ECR),
        ("tag", "tidegate:cpu", PLACE.address),
        ("push", PLACE.address),
        ("image", "rm", PLACE.address),
    ]
    assert docker.passwords == ["secret"], "it is read from standard input, where no list of processes shows it"


def test_a_tag_that_is_taken_is_refused_before_anything_is_built() -> None:
    def make() -> str:
        raise AssertionError("nothing is to be built")

    docker = Docker()
    with pytest.raises(ConfigurationError) as caught:
        push(docker, Shelf(before=FIT), PLACE, platform="linux/amd64", make=make)
    assert str(caught.value) == (
        f"{PLACE.address} is there already, {DIGEST}; give the next one by --tag, or deploy that one by "
        f'digest = "{DIGEST}"'
    )
    assert docker.asked == []


def test_a_taken_tag_of_a_kind_that_is_refused_says_so() -> None:
    taken = Manifest(media_type=OCI_INDEX, digest=DIGEST)
    with pytest.raises(
        ConfigurationError, match=r"is there already, sha256:a+, an OCI index \(.*\), which SageMaker ref"
    ):
        push(Docker(), Shelf(before=taken), PLACE, platform="linux/amd64", make=str)


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST])
def test_what_docker_would_push_as_oci_is_refused_before_the_push(media_type: str) -> None:
    """As a client with containerd's store says it in `docker image inspect`, since Docker 28."""
    docker = Docker(media_type=media_type)
    with pytest.raises(
        ConfigurationError, match=r"mine:1 is an OCI .*; build it anew by 'docker build --provenance=false"
    ):
        push(docker, Shelf(after=FIT), PLACE, platform="linux/amd64", make=lambda: "mine:1")
    assert docker.asked == [("image", "inspect", "mine:1")]


@pytest.mark.parametrize("media_type", [OCI_INDEX, OCI_MANIFEST])
def test_what_arrived_as_oci_is_refused_with_the_way_out(media_type: str) -> None:
    shelf = Shelf(after=Manifest(media_type=media_type, digest=DIGEST))
    with pytest.raises(
        ConfigurationError, match=r"in the registry as an OCI .* build it by .*, and push it under another"
    ):
        push(Docker(), shelf, PLACE, platform="linux/amd64", make=lambda: "mine:1")


def test_an_image_for_another_machine_is_refused_before_the_push() -> None:
    docker = Docker(platform="linux/arm64")
    with pytest.raises(
        ConfigurationError, match="mine:1 is for linux/arm64, and the stage's instances are linux/amd64"
    ):
        push(docker, Shelf(after=FIT), PLACE, platform="linux/amd64", make=lambda: "mine:1")
    assert len(docker.asked) == 1


def test_an_older_docker_does_not_say_the_kind_and_needs_not() -> None:
    image = inspected("mine:1", json.dumps([{"Os": "linux", "Architecture": "amd64"}]))
    assert image == LocalImage(name="mine:1", platform="linux/amd64", media_type=None)
    check_local(image, "linux/amd64")


@pytest.fixture
def account() -> Iterator[Any]:
    """An account with no repository; gives the client of ECR."""
    with mock_aws():
        yield boto3.client("ecr", REGION)


def test_a_repository_that_is_missing_says_what_makes_it(account: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry_of(PLACE, DEPLOY).manifest()
    assert str(caught.value) == f"{ECR} has no repository tidegate-dev; make it by '{DEPLOY}'"
    strange = Destination(host=ECR, repository="own", tag="1", of_stage=False)
    with pytest.raises(ConfigurationError, match="has no repository own; make it, or name another"):
        registry_of(strange, DEPLOY).manifest()


def test_ecr_tells_what_a_tag_names_and_how_to_log_in(account: Any) -> None:
    account.create_repository(repositoryName="tidegate-dev")
    registry = registry_of(PLACE, DEPLOY)
    assert registry.manifest() is None
    manifest = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": {"digest": DIGEST}, "layers": []}
    put = account.put_image(repositoryName="tidegate-dev", imageManifest=json.dumps(manifest), imageTag="1.4.0")
    found = registry.manifest()
    assert found == Manifest(media_type=DOCKER_MANIFEST, digest=put["image"]["imageId"]["imageDigest"])
    login = registry.login()
    assert login is not None
    assert login.user == "AWS"
    assert login.password


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without credentials of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def written(path: Path, image: str) -> str:
    path.write_text(
        f'region = "{REGION}"\n[image]\n{image}\n[hosting]\nmode = "realtime"\n[retention]\nkeep_data = false\n'
    )
    return str(path)


def test_without_credentials_the_command_says_what_to_set(
    nobody: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["push", "--stage", written(tmp_path / "dev.toml", 'tag = "1"')]) == 1
    assert capsys.readouterr().err == (
        "tidegate: error: the account: Unable to locate credentials; set AWS_PROFILE and AWS_REGION.\n"
    )


def test_without_docker_the_command_says_why(
    account: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DOCKER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["push", "--stage", written(tmp_path / "dev.toml", 'tag = "1"')]) == 1
    assert capsys.readouterr().err == (
        f"tidegate: error: {ECR}/tidegate-dev:1 was not pushed: no docker client is on PATH.\n"
    )
