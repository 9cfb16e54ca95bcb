"""The locks, the wheels and the search for docker; needs no docker."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from container import wheels_folder
from container.engine import ROOT, DockerUnavailable, find

LOCKS = [ROOT / "container/requirements.lock", ROOT / "container/requirements-aws.lock"]


def pins(lock: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+) \\\n    --hash=sha256:", lock.read_text(), flags=re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_a_version_and_hashes_and_no_address(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    assert len(lines) == len(pins(lock)) > 5
    assert not re.search(r"https?://|file:", lock.read_text())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_torch_and_its_cuda_packages_are_left_to_the_build(lock: Path) -> None:
    assert not [name for name in pins(lock) if re.match(r"torch$|nvidia|triton|cuda", name)]


def test_the_lock_holds_every_dependency_of_the_server_at_the_version_that_is_tested() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [line for extra in ("serve", "training", "repository", "otel") for line in extras[extra]]
    names = {re.split(r"[<>=\[; ]", requirement)[0].replace("_", "-") for requirement in wanted} - {"torch"}
    locked = pins(LOCKS[0])
    assert names <= set(locked)
    tested = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    tested = {name.replace("_", "-").lower(): version for name, version in tested.items()}
    assert {name: tested[name] for name in locked if name in tested} == {n: v for n, v in locked.items() if n in tested}


def test_the_two_locks_agree() -> None:
    first, second = (pins(lock) for lock in LOCKS)
    assert {name: first[name] for name in first if name in second} == {n: v for n, v in second.items() if n in first}


def test_wheels_that_are_there_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("Some.Package==1.2 \\\n    --hash=sha256:aa\n")
    fetched: list[str] = []

    def pip(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        fetched.append(words[-1])
        return subprocess.CompletedProcess(words, 0, "", "")

    def fetch(machine: str = "x86_64") -> None:
        wheels_folder.fetch_locked(tmp_path, lock, machine)
        wheels_folder.fetch_torch_for_cpu(tmp_path, "torch==2.13.0", None, machine)

    monkeypatch.setattr(subprocess, "run", pip)
    fetch()
    assert fetched == [str(lock), "torch==2.13.0+cpu"]
    (tmp_path / "some_package-1.2-py3-none-any.whl").touch()
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    fetch()
    assert len(fetched) == 2
    fetch("aarch64")
    assert fetched[2:] == ["torch==2.13.0+cpu"], "a wheel for another machine is none"


def test_a_cpu_build_comes_from_pytorch_s_own_index_where_pip_knows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default build of PyPI brings gigabytes of CUDA, and does not run without them."""
    asked: list[list[str]] = []

    def pip(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        found = "--index-url" in words
        return subprocess.CompletedProcess(
            words, 0 if found else 1, "", "" if found else "ERROR: No matching version\n"
        )

    monkeypatch.setattr(subprocess, "run", pip)
    wheels_folder.fetch_torch_for_cpu(tmp_path, "torch==2.13.0", None, "aarch64")
    assert all("manylinux_2_28_aarch64" in words for words in asked)
    assert [words[-1] for words in asked] == ["torch==2.13.0+cpu", "torch==2.13.0+cpu"]
    assert asked[1][-3:-1] == ["--index-url", wheels_folder.CPU_INDEX]


def test_a_wheel_that_cannot_be_fetched_is_told_in_pip_s_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(wheels_folder.WheelsMissing, match=r"No matching distribution found for torch==0\.0\.1"):
        wheels_folder.fetch_torch_with_cuda(tmp_path, "torch==0.0.1", None, "x86_64")


def test_a_machine_without_docker_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerUnavailable, match="no docker client is on PATH"):
        find()


def test_a_client_without_a_daemon_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon.' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    with pytest.raises(DockerUnavailable, match=r"reaches no docker daemon \(.*Cannot connect to the Docker daemon"):
        find()


def test_a_new_client_without_its_build_plugin_is_no_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text('#!/bin/sh\n[ "$1" = buildx ] && exit 1\necho 28.2.2\n')
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    with pytest.raises(DockerUnavailable, match="it has no buildx plugin"):
        find()


@pytest.mark.parametrize(
    ("storage", "version", "words"),
    [
        ('[["Backing Filesystem","extfs"]]', "20.10.24", ["build"]),
        ('[["Backing Filesystem","extfs"]]', "28.2.2", ["buildx", "build", "--load"]),
        (
            '[["driver-type","io.containerd.snapshotter.v1"]]',
            "29.0.1",
            ["build", "--provenance=false", "--sbom=false", "--output=type=image,oci-mediatypes=false"],
        ),
    ],
)
def test_what_is_built_is_pushed_as_one_docker_manifest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, storage: str, version: str, words: list[str]
) -> None:
    """With containerd's store the build decides what a push sends; SageMaker takes no OCI manifest and no index."""
    client = tmp_path / "docker"
    client.write_text(
        f'#!/bin/sh\ncase "$1" in info) echo \'{storage}\';; version) echo {version};; build*) echo "$@";; esac\n'
    )
    client.chmod(0o755)
    monkeypatch.setenv("DOCKER", str(client))
    assert find().build("--tag", "mine:1", ".").split() == [*words, "--tag", "mine:1", "."]


def test_every_build_argument_is_documented() -> None:
    arguments = set(re.findall(r"^ARG (\w+)", (ROOT / "container/Dockerfile").read_text(), flags=re.MULTILINE))
    page = (ROOT / "docs/image.md").read_text()
    assert arguments
    assert not [name for name in arguments if f"`{name}`" not in page]
