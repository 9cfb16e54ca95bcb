"""What the CDK command line calls in the place of ``docker``: builds are real, the registry is this machine.

``cdk deploy`` with a Docker asset logs in to the account's registry, builds, tags and pushes. Here nobody answers for
that registry: the image stays in this machine's docker under the registry's name, where the local cloud finds it when a
model names it, and the repository of the local ECR is told that it has the tag, so that the next deployment builds
nothing. ``tidegate cloud up --container`` exports ``CDK_DOCKER`` with a script that calls this module.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from tidegate.local_cloud.engine import EngineError, find_client, run_docker

_REPOSITORY_HOST = ".dkr.ecr."


def main(arguments: Sequence[str]) -> int:
    """Takes the arguments of ``docker``; returns its exit status."""
    try:
        client = find_client()
        match list(arguments):
            case ["login", *_]:
                sys.stdin.read()  # the password
                return 0
            case ["push", *_, name] if _REPOSITORY_HOST in name:
                _record(client, name)
                return 0
            case ["build", *words] if not _can_choose_its_output(client):
                arguments = ["build", *(word for word in words if not word.startswith("--output=type=image"))]
    except EngineError as error:
        sys.stderr.write(f"local_cloud: error: {error}\n")
        return 1
    return subprocess.run([client, *arguments], env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=False).returncode


def _can_choose_its_output(client: str) -> bool:
    """Whether a build may name an exporter; before version 23 there is only the daemon's own, which is meant."""
    version = run_docker(client, "version", "--format", "{{.Client.Version}}")
    return int(version.strip().partition(".")[0]) >= 23


def _record(client: str, name: str) -> None:
    """Tells the local ECR that the repository has the tag, with the image's own id as its configuration."""
    import boto3  # noqa: PLC0415 - most calls need none

    path, _, tag = name.partition("/")[2].rpartition(":")
    digest = run_docker(client, "image", "inspect", "--format", "{{.Id}}", name).strip()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 0, "digest": digest},
        "layers": [],
    }
    ecr = boto3.client("ecr")
    ecr.put_image(repositoryName=path, imageTag=tag, imageManifest=json.dumps(manifest))
    sys.stderr.write(f"the image stays on this machine as {name}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
