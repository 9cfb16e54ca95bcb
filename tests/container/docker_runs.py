"""Run the image as SageMaker does, with the docker command line.

container = docker.serve(model_dir)
container.wait_until_ready()
container.post(b"[1]")
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from container.engine import DockerFailed, Engine
from tests.contract.running import Reply, wait_until

START_S = 200.0
ASK = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
connection.request(sys.argv[2], sys.argv[3], sys.argv[4] or None, {"content-type": "application/json"})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container that was started; it may have ended."""

    engine: Engine
    id: str

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.engine.run("inspect", "--format", "{{json .State}}", self.id)))

    def logs(self) -> str:
        done = subprocess.run([self.engine.client, "logs", self.id], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def entries(self, message: str) -> list[dict[str, Any]]:
        """The log lines of the server that say `message`."""
        lines = [json.loads(line) for line in self.logs().splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"] == message]

    def execute(self, *words: str) -> str:
        return self.engine.run("exec", self.id, *words)

    def signal(self, name: str) -> None:
        self.engine.run("kill", "--signal", name, self.id)

    def wait(self) -> int:
        """The exit status, when it has ended."""
        return int(self.engine.run("wait", self.id, timeout_s=60))

    def remove(self) -> None:
        with contextlib.suppress(DockerFailed):
            self.engine.run("rm", "--force", "--volumes", self.id)

    # --- where its port is published
    def port(self) -> int:
        return int(self.engine.run("port", self.id, "8080/tcp").splitlines()[0].rpartition(":")[2])

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"content-type": content_type})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(status=answer.status, headers=headers, body=answer.read())

    def wait_until_ready(self) -> None:
        self._wait(lambda: self.request("GET", "/ping").status == 200)

    # --- where it is not
    def ask_inside(self, method: str, path: str, body: str = "", port: int = 8080) -> tuple[int, str]:
        """What the server answers to somebody in the container."""
        said = self.execute("python3", "-c", ASK, str(port), method, path, body)
        status, _, text = said.strip().partition(" ")
        return int(status), text

    def wait_until_ready_inside(self, port: int = 8080) -> None:
        def ready() -> bool:
            with contextlib.suppress(DockerFailed):
                return self.ask_inside("GET", "/ping", port=port)[0] == 200
            return False

        self._wait(ready)

    def _wait(self, ready: Any) -> None:
        def ready_or_ended() -> bool:
            return bool(ready()) or not self.state()["Running"]

        wait_until(ready_or_ended, f"container {self.id[:12]} answers /ping", START_S, self.logs)
        assert self.state()["Running"], self.logs()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training job that has ended: its /opt/ml on this machine, exit status and output."""

    base_dir: Path
    status: int
    output: str

    @property
    def failure(self) -> str | None:
        """What the platform would show as FailureReason."""
        path = self.base_dir / "output/failure"
        return path.read_text() if path.is_file() else None

    @property
    def facts(self) -> dict[str, Any]:
        """What the script learned about itself."""
        return dict(json.loads((self.base_dir / "output/data/facts.json").read_text()))


@dataclass(slots=True, kw_only=True)
class Docker:
    """Starts containers of one image, and removes those that are left."""

    engine: Engine
    image: str
    _mark: str = field(default_factory=lambda: f"tidegate-test={uuid.uuid4()}")

    def start(self, *command: str, options: Sequence[str] = ()) -> Container:
        """`docker run --detach OPTIONS IMAGE COMMAND`."""
        started = self.engine.run("run", "--detach", "--label", self._mark, *options, self.image, *command)
        return Container(engine=self.engine, id=started.strip())

    @contextlib.contextmanager
    def running(self, *command: str, options: Sequence[str] = ()) -> Iterator[Container]:
        """A container that is removed at the end of the block."""
        container = self.start(*command, options=options)
        try:
            yield container
        finally:
            container.remove()

    def serving(
        self, model_dir: Path, *options: str, environment: Mapping[str, str] | None = None
    ) -> contextlib.AbstractContextManager[Container]:
        """`serve` with a read-only /opt/ml/model, its port published where it has a network."""
        words = ["--volume", f"{model_dir}:/opt/ml/model:ro", *options]
        if "--network" not in options:
            words += ["--publish", "127.0.0.1::8080"]
        for name, value in (environment or {}).items():
            words += ["--env", f"{name}={value}"]
        return self.running("serve", options=words)

    def start_training(self, base_dir: Path, *options: str) -> Container:
        """`train` with an /opt/ml of its own, as the user of the test, who owns the files."""
        user = [] if "--user" in options else ["--user", f"{os.getuid()}:{os.getgid()}"]
        return self.start("train", options=["--volume", f"{base_dir}:/opt/ml", *user, *options])

    def train(self, base_dir: Path, *options: str) -> Job:
        container = self.start_training(base_dir, *options)
        try:
            return Job(base_dir=base_dir, status=container.wait(), output=container.logs())
        finally:
            container.remove()

    def run(self, *command: str, options: Sequence[str] = ()) -> str:
        """What a command in a container without a network prints."""
        return self.engine.run(
            "run", "--rm", "--label", self._mark, "--network", "none", *options, self.image, *command
        )

    def remove_all(self) -> None:
        left = self.engine.run("ps", "--all", "--quiet", "--filter", f"label={self._mark}").split()
        for container in left:
            with contextlib.suppress(DockerFailed):  # one that ended by itself is being removed already
                self.engine.run("rm", "--force", "--volumes", container)


def job_directory(source: Path, base_dir: Path, **hyperparameters: Any) -> Path:
    """An /opt/ml as the platform prepares it: code, the three configuration files, one channel of data."""
    shutil.copytree(source, base_dir / "code", ignore=shutil.ignore_patterns("__pycache__"))
    config = base_dir / "input/config"
    config.mkdir(parents=True)
    files: dict[str, Any] = {
        # The SDK writes each value as JSON, and the platform keeps them as strings.
        "hyperparameters": {name: json.dumps(value) for name, value in hyperparameters.items()},
        "resourceconfig": {
            "current_host": "algo-1",
            "hosts": ["algo-1"],
            "network_interface_name": "eth0",
            "current_instance_type": "ml.c5.xlarge",
            "current_group_name": "homogeneousCluster",
            "instance_groups": [
                {"instance_group_name": "homogeneousCluster", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]}
            ],
        },
        "inputdataconfig": {"training": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}},
    }
    for name, content in files.items():
        (config / f"{name}.json").write_text(json.dumps(content))
    (base_dir / "input/data/training").mkdir(parents=True)
    return base_dir
