"""The variables of the container: settings of the server by their names, and the stage's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.inference import settings
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.model import ModelRepository
from tidegate.infra.models.body_limit import max_body_bytes

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# SageMaker mounts the model, probes port 8080 and marks transform jobs by itself.
_SET_BY_THE_PLATFORM = ("base_dir", "host", "port", "batch_transform", "multi_model")

# How long a request may take that says nothing: API reference, InvokeEndpointAsync, InvocationTimeoutSeconds.
_ASYNC_TIMEOUT_S = 900


def container_environment(stage: Stage) -> dict[str, str]:
    """The container's environment, by variable: what the stage says, and the limits that suit its mode.

    At most 100 variables, names and values of at most 1024 characters, 32 KiB in all; else a `ConfigurationError`.
    Source: API reference, ContainerDefinition.Environment.
    """
    if misplaced := said(stage, *_SET_BY_THE_PLATFORM):
        raise ConfigurationError(f"{misplaced[0]} is set by SageMaker itself; remove it")
    if ends := said(stage, "idle_exit_s"):
        raise ConfigurationError(
            f"{ends[0]} would end the container of an endpoint, which SageMaker starts again and bills meanwhile; "
            "remove it"
        )
    _refuse_a_repository_without_rights(stage)
    suited: dict[str, object] = {"max_body_bytes": max_body_bytes(stage)}
    if stage.hosting.mode == "async":
        suited["timeout_s"] = _ASYNC_TIMEOUT_S
    own = {name: value for name, value in suited.items() if not settings.variables_of(name) & stage.environment.keys()}
    if isinstance(stage.model, ModelRepository):
        own["model_repository"] = stage.model.repository.rstrip("/")
    with _as_the_server_reads("[server]"):
        variables = settings.environment(**{**own, **stage.server})
    for name, value in stage.environment.items():
        if not _VARIABLE.fullmatch(name):
            raise ConfigurationError(
                f"environment has {name!r}, not the name of a variable; use letters, digits and underscores"
            )
        if name in settings.variables_of(*stage.server):
            raise ConfigurationError(f"environment.{name} is already set by [server]; keep one of the two")
        if len(name) > 1024 or len(value) > 1024:
            raise ConfigurationError(
                f"environment.{name} is longer than the 1024 characters that SageMaker takes; put it into the archive"
            )
    variables |= stage.environment
    with _as_the_server_reads("[environment]" if stage.environment else "[server]"):
        settings.read(variables)
    if len(variables) > 100 or sum(len(name) + len(value) for name, value in variables.items()) > 32 * 1024:
        raise ConfigurationError(
            f"environment and server have {len(variables)} variables; SageMaker takes 100 and 32 KiB in all: put them "
            "into the archive"
        )
    return variables


def codeartifact_arn(stage: Stage) -> str | None:
    """The repository that the container installs an archive's requirements from; None for pip's usual index."""
    return settings.read(container_environment(stage)).codeartifact_arn


def said(stage: Stage, *names: str) -> list[str]:
    """Where the stage says one of these settings."""
    return [
        *(f"server.{key}" for key in stage.server if key in names),
        *(f"environment.{name}" for name in stage.environment if name in settings.variables_of(*names)),
    ]


def _refuse_a_repository_without_rights(stage: Stage) -> None:
    """A bucket that only the container knows is one that its role may not read. A folder may come with the archive."""
    named = {"server.model_repository": stage.server.get("model_repository")}
    named |= {f"environment.{name}": stage.environment.get(name) for name in settings.variables_of("model_repository")}
    for key, value in named.items():
        if value is not None and (str(value).startswith("s3://") or isinstance(stage.model, ModelRepository)):
            raise ConfigurationError(
                f"{key}={value!r} is said to the container and not to its role; write model.repository, and leave it "
                "out here"
            )


@contextmanager
def _as_the_server_reads(table: str) -> Iterator[None]:
    """What would end the container at its start is said of the table that it stands in."""
    try:
        yield
    except settings.DeploymentError as error:
        raise ConfigurationError(f"{table}: {str(error).removesuffix('.')}") from None
