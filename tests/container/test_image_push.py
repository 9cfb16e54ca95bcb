"""`tidegate image push` with the docker of this machine and a real registry on loopback."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from container.engine import ROOT, DockerFailed, Engine
from tests.container.conftest import leave_untested
from tests.contract.running import free_port
from tests.polling import until
from tidegate.infra.image_push import command
from tidegate.infra.image_push.media_types import ACCEPTED, DOCKER_MANIFEST

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OF_OCI = {
    DOCKER_MANIFEST: OCI_MANIFEST,
    "application/vnd.docker.container.image.v1+json": "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
}


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The registry, asked and told without any code of ours."""

    host: str

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, bytes]:
        """Status, Content-Type and body."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, f"/v2/{path}", body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        finally:
            connection.close()

    def get(self, name: str, tag: str) -> tuple[str, bytes]:
        status, media_type, body = self.ask("GET", f"{name}/manifests/{tag}", Accept=", ".join(ACCEPTED))
        assert status == 200, body
        return media_type, body

    def put(self, name: str, tag: str, media_type: str, manifest: object) -> bytes:
        body = json.dumps(manifest).encode()
        status, _, said = self.ask("PUT", f"{name}/manifests/{tag}", body, Content_Type=media_type)
        assert status == 201, said
        return body

    def as_oci(self, name: str, tag: str) -> bytes:
        """Let the tag name an OCI index of the image that it names, as docker's default build would push it."""
        _, content = self.get(name, tag)
        text = re.sub("|".join(map(re.escape, _OF_OCI)), lambda found: _OF_OCI[found[0]], content.decode())
        manifest = self.put(name, f"{tag}-manifest", OCI_MANIFEST, json.loads(text))
        entry = {
            "mediaType": OCI_MANIFEST,
            "digest": digest_of(manifest),
            "size": len(manifest),
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        return self.put(name, tag, OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Debian's docker-registry on a free port of this machine."""
    program = shutil.which("docker-registry")
    if program is None:
        leave_untested("there is no docker-registry: apt-get install docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    configuration = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": "127.0.0.1:0"},
    }
    (folder / "config.yml").write_text(json.dumps(configuration))  # JSON is YAML too
    log = (folder / "log").open("wb")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY_", "OTEL_"))}
    running = subprocess.Popen([program, "serve", folder / "config.yml"], stdout=log, stderr=log, env=environment)
    try:

        def listening() -> re.Match[str] | None:
            # The port is the kernel's choice; the log says which, and may be in the middle of saying it.
            assert running.poll() is None, (folder / "log").read_text()
            return re.search(r"listening on (127\.0\.0\.1:\d+)\D", (folder / "log").read_text())

        yield Shelf(host=until(listening, "the registry is up", log=(folder / "log").read_text)[1])
    finally:
        running.terminate()
        running.wait(60)
        log.close()


@pytest.fixture(scope="module")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Makes an image of one file for a platform; those that were made are removed at the end."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /file\n")
    made: list[str] = []

    def image(platform: str) -> str:
        name = f"tidegate-test-push:{platform.partition('/')[2]}"
        if name not in made:
            engine.build("--platform", platform, "--tag", name, str(folder))
            made.append(name)
        return name

    yield image
    for name in made:
        engine.run("image", "rm", name)


@pytest.fixture
def stage(shelf: Shelf, tmp_path: Path) -> Path:
    """A stage whose image is in a repository of its own in that registry, with the tag 1.0."""
    path = tmp_path / "dev.toml"
    repository = re.sub(r"[^a-z0-9]+", "-", tmp_path.name.lower()).strip("-")
    path.write_text(
        f'[image]\nuri = "{shelf.host}/{repository}:1.0"\n'
        '[hosting]\nmode = "realtime"\n[retention]\nkeep_data = false\n'
    )
    return path


def repository_of(stage: Path) -> str:
    found = re.search(r'uri = "[^/]+/([^:]+):', stage.read_text())
    assert found is not None
    return found[1]


def push(stage: Path, image: str, *more: str) -> int:
    return command.main(["push", "--stage", str(stage), "--image", image, *more])


def test_an_image_is_pushed_as_one_docker_manifest_and_named_by_its_digest(
    shelf: Shelf, stage: Path, images: Callable[[str], str], engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(stage, images("linux/amd64"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    name = repository_of(stage)
    media_type, content = shelf.get(name, "1.0")
    assert media_type == DOCKER_MANIFEST
    assert json.loads(content)["mediaType"] == DOCKER_MANIFEST
    pinned = f"{shelf.host}/{name}@{digest_of(content)}"
    assert said == {
        "address": f"{shelf.host}/{name}:1.0",
        "digest": digest_of(content),
        "media_type": DOCKER_MANIFEST,
        "pinned": pinned,
        "platform": "linux/amd64",
        "stage_file": f'uri = "{pinned}"',
    }
    with pytest.raises(DockerFailed):
        engine.run("image", "inspect", said["address"])
    engine.run("pull", pinned)
    engine.run("image", "rm", pinned)


def test_the_command_says_the_digest_and_how_to_pin_it(shelf: Shelf, stage: Path, images: Callable[[str], str]) -> None:
    """As a user starts it, at the root of the checkout."""
    words = ["image", "push", "--stage", str(stage), "--image", images("linux/amd64"), "--tag", "2.0"]
    done = subprocess.run(
        [sys.executable, "-m", "infra", *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    name = repository_of(stage)
    digest = digest_of(shelf.get(name, "2.0")[1])
    assert done.stdout == (
        f"{shelf.host}/{name}:2.0 is pushed for linux/amd64: {DOCKER_MANIFEST}\n{digest}\n"
        "To pin it, write into the stage file, in place of what [image] has:\n\n"
        f'[image]\nuri = "{shelf.host}/{name}@{digest}"\n'
    )


def test_a_tag_that_is_there_is_not_pushed_again(
    shelf: Shelf, stage: Path, images: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(stage, images("linux/amd64")) == 0
    before = shelf.get(repository_of(stage), "1.0")
    assert push(stage, images("linux/amd64")) == 1
    assert f"/{repository_of(stage)}:1.0 is there already, {digest_of(before[1])}; give" in capsys.readouterr().err
    assert shelf.get(repository_of(stage), "1.0") == before


def test_an_image_for_another_processor_is_not_pushed(
    shelf: Shelf, stage: Path, images: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(stage, images("linux/arm64")) == 1
    assert "is for linux/arm64, and the stage's instances are linux/amd64; build it with" in capsys.readouterr().err
    assert shelf.ask("GET", f"{repository_of(stage)}/manifests/1.0")[0] == 404


def test_what_docker_pushes_by_default_is_known_for_what_it_is(
    shelf: Shelf, stage: Path, images: Callable[[str], str], engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plain build and a plain push: with containerd's store it may be OCI, and is refused; else it is fit."""
    name, folder = repository_of(stage), stage.parent / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /file\n")
    address = f"{shelf.host}/{name}:1.0"
    engine.run("build", "--tag", address, str(folder), environment={"DOCKER_BUILDKIT": "1"})
    try:
        engine.run("push", address)
    finally:
        engine.run("image", "rm", address)
    media_type, _ = shelf.get(name, "1.0")
    if "io.containerd.snapshotter" not in engine.run("info", "--format", "{{json .DriverStatus}}"):
        assert media_type == DOCKER_MANIFEST
    assert push(stage, images("linux/amd64")) == 1
    assert ("which SageMaker refuses" in capsys.readouterr().err) is (media_type != DOCKER_MANIFEST)


def test_an_index_that_is_there_is_named_as_one(
    shelf: Shelf, stage: Path, images: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(stage, images("linux/amd64")) == 0
    content = shelf.as_oci(repository_of(stage), "1.0")
    assert push(stage, images("linux/amd64")) == 1
    said = capsys.readouterr().err
    assert f"is there already, {digest_of(content)}, an OCI index ({OCI_INDEX}), which SageMaker refuses" in said
    assert push(stage, images("linux/amd64"), "--tag", "1.0-manifest") == 1
    assert f"an OCI manifest ({OCI_MANIFEST}), which SageMaker refuses" in capsys.readouterr().err


def test_a_docker_that_pushes_an_index_is_found_out(
    shelf: Shelf,
    stage: Path,
    images: Callable[[str], str],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The docker of this machine, whose push leaves what one with containerd's store leaves."""
    name = repository_of(stage)
    program = (
        f"import subprocess, sys\n"
        f"status = subprocess.call([{engine.client!r}, *sys.argv[1:]])\n"
        f"if sys.argv[1] == 'push':\n"
        f"    from tests.container.test_image_push import Shelf\n"
        f"    Shelf(host={shelf.host!r}).as_oci({name!r}, '1.0')\n"
        f"sys.exit(status)\n"
    )
    client = stage.parent / "docker"
    client.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -c {shlex.quote(program)} "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    assert push(stage, images("linux/amd64")) == 1
    assert (
        f"is in the registry as an OCI index ({OCI_INDEX}), which SageMaker refuses; build it by 'docker build "
        "--provenance=false --sbom=false --output type=image,oci-mediatypes=false', and push it under another tag"
    ) in capsys.readouterr().err


def test_a_registry_that_is_not_up_is_named(
    stage: Path, images: Callable[[str], str], engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    stage.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", stage.read_text()))
    assert push(stage, images("linux/amd64")) == 1
    assert f"the registry 127.0.0.1:{port} does not answer: " in capsys.readouterr().err
