"""The docker command line of this machine, for those who ask for containers instead of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress

_TIMEOUT_S = 60.0


class EngineError(Exception):
    """A docker command failed, or there is none to be had; the text says which and why."""


def run_docker(client: str, *words: str) -> str:
    """What ``docker WORDS…`` prints. Raises :class:`EngineError` with the last line that it said."""
    command = [client, *words]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except OSError as error:
        raise EngineError(f"{client} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"`docker {words[0]}` did not end within {_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise EngineError(f"`docker {words[0]}` failed: {said[-1]}")
    return done.stdout


def find_client() -> str:
    """The first docker client on PATH that reaches a daemon and can build; ``DOCKER`` names another one.

    The two are apart: a client of version 23 or later builds only with the buildx plugin, which distributions package
    by itself. Raises :class:`EngineError` with the reason of the last candidate.
    """
    reason = "there is no docker client on PATH"
    for client in _candidates():
        try:
            run_docker(client, "info", "--format", "{{.ServerVersion}}")
            version = run_docker(client, "version", "--format", "{{.Client.Version}}")
            if int(version.strip().partition(".")[0]) >= 23:
                run_docker(client, "buildx", "version")
        except EngineError as error:
            reason = f"{client}: {error}"
        else:
            return client
    raise EngineError(reason)


def remove_container(client: str, name: str) -> None:
    """Ends and removes a container; one that is gone is no error."""
    with suppress(EngineError):
        run_docker(client, "rm", "--force", name)


def _candidates() -> Iterator[str]:
    if chosen := os.environ.get("DOCKER"):
        yield chosen
        return
    for directory in os.get_exec_path():
        found = shutil.which("docker", path=directory)
        if found is not None:
            yield found
