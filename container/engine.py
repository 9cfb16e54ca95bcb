"""The docker client of this machine that can build our image, and the ways we call it.

The Dockerfile needs BuildKit. A client before 23 drives it by itself when it is told to; a later one only with the
buildx plugin, which distributions package apart, so a machine may have a client that runs images and cannot build them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class DockerUnavailable(Exception):
    """There is no docker here that can build; the text is one sentence that says why."""


class DockerFailed(Exception):
    """A docker command failed; the text names it and holds what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A docker client with a daemon behind it. `build_command` begins a build with BuildKit."""

    client: str
    build_command: tuple[str, ...]

    def run(
        self,
        *words: str,
        timeout_s: float = 120,
        environment: Mapping[str, str] | None = None,
        standard_input: str | None = None,
    ) -> str:
        """What `docker WORDS…` prints. Raises `DockerFailed`."""
        return _run([self.client, *words], timeout_s, environment, standard_input)

    def build(self, *words: str, timeout_s: float = 3600) -> str:
        """What a build says. Raises `DockerFailed` with the end of it."""
        return _run([*self.build_command, *words], timeout_s, {"DOCKER_BUILDKIT": "1"})


def find() -> Engine:
    """The first client on PATH that can build and reaches a daemon; DOCKER names another one.

    Raises `DockerUnavailable` with the reason that the last candidate gave.
    """
    reason = "no docker client is on PATH"
    for client in _candidates():
        try:
            return _engine(client)
        except DockerUnavailable as why:
            reason = str(why)
    raise DockerUnavailable(f"{reason}.")


def _candidates() -> Iterator[str]:
    chosen = os.environ.get("DOCKER")
    if chosen:
        yield chosen
        return
    for directory in os.get_exec_path():
        found = shutil.which("docker", path=directory)
        if found:
            yield found


def _engine(client: str) -> Engine:
    try:
        storage = _run([client, "info", "--format", "{{json .DriverStatus}}"], 30)
    except DockerFailed as error:
        raise DockerUnavailable(f"{client} reaches no docker daemon ({_last_line(str(error))})") from None
    version = _run([client, "version", "--format", "{{.Client.Version}}"], 30).strip()
    major = int(version.split(".")[0])
    if major >= 23:
        try:
            _run([client, "buildx", "version"], 30)
        except DockerFailed:
            raise DockerUnavailable(f"{client} {version} cannot build: it has no buildx plugin") from None
    words = build_words(client_major=major, containerd_store="io.containerd.snapshotter" in storage)
    return Engine(client=client, build_command=(client, *words))


def build_words(*, client_major: int, containerd_store: bool) -> tuple[str, ...]:
    """The words of a docker client that build an image with BuildKit, so that it is pushed as one Docker manifest.

    A daemon with the store of its own always pushes that. One with containerd's store, the default of new installations
    since Docker 29, pushes the very manifest that the build made, which by itself may be an OCI index with a
    provenance, and SageMaker refuses those. `docker build`, unlike `docker buildx build`, always takes the builder of
    the daemon. Sources: docs.docker.com, containerd image store; image and registry exporters; builders.
    """
    if client_major < 23:
        return ("build",)
    if containerd_store:
        return ("build", "--provenance=false", "--sbom=false", "--output=type=image,oci-mediatypes=false")
    return ("buildx", "build", "--load")


def _run(
    words: Sequence[str],
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    standard_input: str | None = None,
) -> str:
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **(environment or {})},
            input=standard_input,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise DockerFailed(f"{words[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise DockerFailed(f"'{' '.join(words[:3])}' did not end within {timeout_s:g} s") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-4000:]
        raise DockerFailed(f"'{' '.join(words[:3])}' failed with status {done.returncode}: {said}")
    return done.stdout


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].rstrip(".") if text.strip() else "no message"


def local_base(engine: Engine) -> str | None:
    """The base image that container/base/make-base left on this machine, if any."""
    try:
        engine.run("image", "inspect", LOCAL_BASE)
    except DockerFailed:
        return None
    return LOCAL_BASE


LOCAL_BASE = "tidegate-base:bookworm"
ROOT = Path(__file__).resolve().parents[1]
