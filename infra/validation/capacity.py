"""Instance pools and capacity reservations: what SageMaker, or one image on all instances, would not put up with."""

from __future__ import annotations

from collections.abc import Callable

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.capacity import TRAINING_PLAN
from tidegate.infra.configuration.hosting import (
    ComponentHosting,
    Instances,
    MultiModelHosting,
    PooledInstances,
    RealtimeHosting,
)
from tidegate.infra.hosting import instance_types, machines
from tidegate.infra.validation.sentences import counted, wrong


def check(stage: Stage) -> None:
    """Refuse pools that cannot stand in for one another, and a reservation that cannot hold the instances."""
    hosting = stage.hosting
    if isinstance(hosting, PooledInstances) and hosting.instance_pools:
        _check_pools(hosting)
    if isinstance(hosting, Instances) and hosting.capacity_reservation is not None:
        _check_reservation(stage, hosting, hosting.capacity_reservation)


def _check_pools(hosting: PooledInstances) -> None:
    if "instance_type" in hosting.model_fields_set:
        why = "one type, and [[hosting.instance_pools]] name several; remove it, or remove them"
        raise wrong("hosting.instance_type", hosting.instance_type, why)
    types = hosting.types
    for number, instance_type in enumerate(types, start=1):
        key = f"hosting.instance_pools[{number}].instance_type"
        if instance_type in types[: number - 1]:
            raise wrong(key, instance_type, "named twice; remove one of the two")
        for kind, other, why in _KINDS:
            if kind(instance_type) != kind(types[0]):
                what = other if kind(types[0]) else why
                raise wrong(key, instance_type, f"{what} beside {types[0]}; choose types of one kind")
        gpus, of_first = instance_types.gpu_count(instance_type), instance_types.gpu_count(types[0])
        # SageMaker's metrics of variants count 100 for each GPU, and only those of components are normalized.
        if gpus != of_first and not isinstance(hosting, ComponentHosting):
            why = f"with {counted(gpus, 'GPU')} beside {types[0]} with {of_first}, and alarms measure both alike"
            raise wrong(key, instance_type, f"{why}; choose types with as many")


# The host image, the volume and its key belong to the variant and not to an instance.
_KINDS: tuple[tuple[Callable[[str], bool], str, str], ...] = (
    (instance_types.has_gpu, "without a GPU", "with a GPU"),
    (instance_types.has_local_storage, "without disks of its own", "with disks of its own"),
)


def _check_reservation(stage: Stage, hosting: Instances, arn: str) -> None:
    key = "hosting.capacity_reservation"
    if isinstance(hosting, PooledInstances) and hosting.instance_pools:
        # Source: SageMaker guide, training plans for inference endpoints: the type must be that of the plan.
        raise ConfigurationError(
            f"{key} holds instances of one type, and [[hosting.instance_pools]] name several; remove one of the two"
        )
    # Source: the same, "exactly one plan per inference endpoint".
    if isinstance(hosting, RealtimeHosting) and (len(hosting.variants) > 1 or hosting.shadow is not None):
        other = "[[hosting.variants]]" if len(hosting.variants) > 1 else "[hosting.shadow]"
        raise ConfigurationError(
            f"{key} is for endpoints of one variant, and {other} makes more; remove one of the two"
        )
    _, _, _, region, account, _ = arn.split(":", 5)
    for own, there in (("region", region), ("account", account)):
        wanted = getattr(stage, own)
        if wanted is not None and wanted != there:
            raise wrong(key, arn, f"of {own} {there}, and the stage's is {wanted}; name one there")
    # Of other kinds of reservation AWS does not say what they hold.
    if arn.split(":")[5].startswith(f"{TRAINING_PLAN}/"):
        held = instance_types.planned_types()
        if isinstance(hosting, MultiModelHosting):
            why = f"one that holds {', '.join(held)}, and multi-model endpoints take none of them; remove it"
            raise wrong(key, arn, why)
        for place, instance_type in machines.of_hosting(stage.hosting):
            if instance_type not in held:
                why = f"a type that no training plan holds, and {key} names one"
                raise wrong(place, instance_type, f"{why}; choose one of {', '.join(held)}, or remove {key}")
