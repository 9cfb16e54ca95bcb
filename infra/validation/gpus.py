"""The GPUs that the server gives to each of its workers, against those that its containers see."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.inference.settings import Settings
from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import ComponentHosting, ServerlessHosting
from tidegate.infra.hosting import instance_types, machines
from tidegate.infra.models.container_environment import said
from tidegate.infra.validation.sentences import larger, wrong


def check(stage: Stage, server: Settings) -> None:
    """Refuse what would end a container of the stage at its start."""
    each = server.gpus_per_worker
    if each == 1:
        return
    key = said(stage, "gpus_per_worker")[0]
    for there, where, more in _containers(stage):
        if each > there:
            raise wrong(key, each, f"more than the {there} of {where}; {more}")
        if there % each:
            fitting = ", ".join(str(number) for number in range(1, there + 1) if there % number == 0)
            raise wrong(key, each, f"no divisor of the {there} of {where}, so some would not be used; write {fitting}")
        if server.workers is not None and server.workers * each > there:
            workers = said(stage, "workers")[0]
            raise wrong(
                workers,
                server.workers,
                f"too many for the {there} GPUs of {where}, of which each worker has {each}; write {there // each} or "
                "less",
            )


def _containers(stage: Stage) -> Iterator[tuple[int, str, str]]:
    """How many GPUs a container sees, what says so, and the way out where they are too few."""
    hosting = stage.hosting
    types = machines.of_stage(stage)
    match hosting:
        case ServerlessHosting():
            yield 0, "a serverless endpoint", "remove it, or choose another mode"
        case ComponentHosting():
            yield hosting.copies.gpus, "hosting.copies.gpus", "lower it, or raise that"
            types = {key: name for key, name in types.items() if key == "batch.instance_type"}
    for key, instance_type in types.items():
        way_out = "choose a larger batch.instance_type" if key == "batch.instance_type" else larger(hosting)
        yield instance_types.gpu_count(instance_type), instance_type, f"lower it, or {way_out}"
