"""A model's container as a container: its image, run by the docker command line as the platform runs it.

``docker run`` stays in the foreground as a child of ours: it hands signals and the exit code on, and the container's
output goes through it into the log. The container shares the machine's network, because the local cloud answers on the
loopback interface only; its port is free and told by ``SAGEMAKER_BIND_TO_PORT``.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tidegate.local_cloud.engine import EngineError, remove_container, run_docker
from tidegate.local_cloud.sagemaker.container import STOP_GRACE_S, Container, ContainerFailed, ContainerSpec, free_port
from tidegate.local_cloud.sagemaker.process_container import ProcessContainer

_BASE = "/opt/ml"


@dataclass(frozen=True, slots=True)
class DockerRunner:
    """Runs images. ``image`` is run in the place of whatever a model names; None runs what it names.

    ``registry`` has one file per running container, so that a later start can end what a killed supervisor left.
    """

    client: str
    registry: Path
    image: str | None = None

    def start(self, spec: ContainerSpec) -> Container:
        image = self.image or spec.image
        try:
            run_docker(self.client, "image", "inspect", image)
        except EngineError as error:
            raise ContainerFailed(
                f"the image {image} is not on this machine, and the local cloud pulls none: build it (cdk deploy builds"
                " a Docker asset), or tag one by this name"
            ) from error
        name = f"local-cloud-{secrets.token_hex(8)}"
        port = free_port()
        environment = {**spec.environment, "SAGEMAKER_BIND_TO_PORT": str(port), "TIDEGATE_HOST": "127.0.0.1"}
        command = [self.client, "run", "--rm", "--name", name, "--network", "host", *_mounts(spec.base_dir)]
        # Only names stand on the command line, which every user of the machine can read; the values are inherited.
        command += [word for variable in environment for word in ("--env", variable)]
        entry = self.registry / f"docker.{name}"
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text(self.client, encoding="utf-8")
        process = ProcessContainer(
            [*command, image, "serve"], {**docker_environment(), **environment}, spec, port, self.registry
        )
        return DockerContainer(process, client=self.client, name=name, entry=entry)

    def path_inside(self, base_dir: Path, path: Path) -> str:
        return f"{_BASE}/{path.relative_to(base_dir)}"


class DockerContainer:
    """A running container, seen through its ``docker run``."""

    def __init__(self, process: ProcessContainer, *, client: str, name: str, entry: Path) -> None:
        self._process = process
        self._client = client
        self._name = name
        self._entry = entry

    @property
    def port(self) -> int:
        return self._process.port

    def exit_code(self) -> int | None:
        return self._process.exit_code()

    def wait(self) -> int:
        return self._process.wait()

    def last_words(self) -> str:
        return self._process.last_words()

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        # docker run hands SIGTERM on and ends with the container; one that it outlived is ended by its name.
        self._process.stop(grace_s)
        remove_container(self._client, self._name)
        self._entry.unlink(missing_ok=True)


def _mounts(base_dir: Path) -> list[str]:
    """Model data is read-only to the container, as on the platform ("your-algorithms-inference-code")."""
    found = [name for name in ("model", "models", "adapters") if (base_dir / name).is_dir()]
    return [word for name in found for word in ("--volume", f"{base_dir / name}:{_BASE}/{name}:ro")]


def docker_environment() -> dict[str, str]:
    """What the docker command line itself needs."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "XDG_RUNTIME_DIR") or name.startswith("DOCKER_")
    }
