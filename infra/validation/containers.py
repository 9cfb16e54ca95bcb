"""`[[model.containers]]`: a pipeline that SageMaker takes, with the stage's own container in it."""

from __future__ import annotations

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.model import Container, Piped
from tidegate.infra.models.container_environment import container_environment
from tidegate.infra.validation.registries import check_registry
from tidegate.infra.validation.sentences import counted, wrong

# Source: SageMaker guide, inference pipelines: 2 to 15 containers.
FEWEST, MOST = 2, 15
_ENVIRONMENT_BYTES = 32 * 1024

# Sources: SageMaker guide, "Serverless endpoints", feature exclusions; "Multi-model endpoints"; API reference,
# InferenceComponentSpecification; "Inference pipelines", which names real-time endpoints and transform jobs.
_WHY_NOT = {
    "serverless": "which SageMaker excludes",
    "multi_model": "whose one container holds all models",
    "component": "whose copies are one container each",
    "async": "for which AWS describes none",
}


def check(stage: Stage) -> None:
    """Raise `ConfigurationError` for the first key of `[model]` that does not go with a pipeline."""
    model = stage.model
    if not isinstance(model, Piped):
        return
    containers, mode = model.containers, stage.hosting.mode
    if not containers:
        if model.invocation != "serial":
            why = "of a pipeline, and there is none; write [[model.containers]], or remove it"
            raise wrong("model.invocation", model.invocation, why)
        return
    if mode in _WHY_NOT:
        raise ConfigurationError(
            f"model.containers does not go with hosting.mode={mode!r}, {_WHY_NOT[mode]}; write mode = 'realtime', or "
            "keep one container"
        )
    if not FEWEST <= len(containers) <= MOST:
        raise ConfigurationError(
            f"model.containers has {counted(len(containers), 'table')}, and a pipeline {FEWEST} to {MOST}; the "
            "stage's own container is one of them"
        )
    names = [container.name for container in containers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise wrong("model.containers.name", twice, "given twice; give each container a name of its own")
    _check_own(containers)
    _check_environments(stage, containers)
    for number, container in enumerate(containers, start=1):
        if container.image_uri is not None:
            check_registry(stage, f"model.containers[{number}].image_uri", container.image_uri)
    if model.invocation == "direct" and stage.batch is not None:
        raise wrong(
            "model.invocation",
            "direct",
            "answered by the container that a request names, and a transform job names none; write 'serial', or remove "
            "[batch]",
        )


def _check_own(containers: tuple[Container, ...]) -> None:
    own = [f"model.containers[{number}]" for number, each in enumerate(containers, start=1) if each.is_own]
    if not own:
        raise ConfigurationError(
            "model.containers has none that is the stage's own; add one with a name alone, where [image] and [model] "
            "are to stand in the pipeline"
        )
    if len(own) > 1:
        raise ConfigurationError(
            f"{' and '.join(own)} name neither image_uri nor archive, so each is the stage's own container; write what "
            "the others run"
        )


def _check_environments(stage: Stage, containers: tuple[Container, ...]) -> None:
    """At most 100 variables each, and 32 KiB in all. Source: API reference, ContainerDefinition.Environment."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in container_environment(stage).items())
    for number, container in enumerate(containers, start=1):
        key = f"model.containers[{number}].environment"
        if container.is_own and container.environment:
            raise ConfigurationError(f"{key} is of the stage's own container; write it into [environment]")
        if len(container.environment) > 100:
            raise ConfigurationError(f"{key} has {len(container.environment)} variables; SageMaker takes 100")
        size += sum(len(name.encode()) + len(value.encode()) for name, value in container.environment.items())
    if size > _ENVIRONMENT_BYTES:
        raise ConfigurationError(
            f"the variables of all model.containers have {size} bytes, and SageMaker takes 32 KiB; put them into the "
            "archives"
        )
