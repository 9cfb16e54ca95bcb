"""Instance types: those that exist, that can run our image, and that the other keys go with."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import ComponentHosting, Instances, MultiModelHosting, RealtimeHosting
from tidegate.infra.hosting import instance_types, volumes
from tidegate.infra.validation.sentences import wrong


def check_types(stage: Stage) -> None:
    """Every instance type of the stage."""
    for key, instance_type in _hosting_types(stage):
        _check(key, instance_type, instance_types.endpoint_types(), "SageMaker endpoints")
    if stage.batch is not None:
        _check("batch.instance_type", stage.batch.instance_type, instance_types.transform_types(), "transform jobs")
    if isinstance(stage.hosting, Instances):
        _check_ami(stage.hosting)
        _check_volume(stage, stage.hosting)
    if isinstance(stage.hosting, MultiModelHosting):
        _check_multi_model(stage.hosting.instance_type)
    if isinstance(stage.hosting, ComponentHosting):
        _check_gpus(stage.hosting)


def _hosting_types(stage: Stage) -> Iterator[tuple[str, str]]:
    hosting = stage.hosting
    if isinstance(hosting, Instances):
        yield "hosting.instance_type", hosting.instance_type
    if isinstance(hosting, RealtimeHosting):
        for number, variant in enumerate(hosting.variants, start=1):
            if variant.instance_type is not None:
                yield f"hosting.variants[{number}].instance_type", variant.instance_type
        if hosting.shadow is not None and hosting.shadow.instance_type is not None:
            yield "hosting.shadow.instance_type", hosting.shadow.instance_type


def _check(key: str, instance_type: str, known: Collection[str], what: str) -> None:
    if instance_type not in known:
        near = instance_types.suggestions(instance_type, known)
        hint = f"did you mean {' or '.join(near)}?" if near else "one that exists is ml.m5.2xlarge"
        raise wrong(key, instance_type, f"not an instance type of {what}; {hint}")
    if instance_types.has_foreign_accelerator(instance_type):
        raise wrong(key, instance_type, "without a build of our image; choose a GPU or CPU type")
    if instance_types.is_arm(instance_type):
        raise wrong(key, instance_type, "ARM, and the image is amd64; choose one like ml.m7i.large")
    if instance_types.is_too_old_for_cuda(instance_type):
        raise wrong(key, instance_type, "a GPU that CUDA 13 no longer runs on; choose one like ml.g6.xlarge")


def _check_multi_model(instance_type: str) -> None:
    if instance_types.has_gpu(instance_type) and not instance_types.has_gpu_for_multi_model(instance_type):
        raise wrong(
            "hosting.instance_type",
            instance_type,
            "a GPU type that multi-model endpoints do not take; choose one of g4dn or g5 with one GPU, or a CPU type",
        )


def _check_ami(hosting: Instances) -> None:
    ami = hosting.inference_ami
    if ami is None:
        return
    if ami not in instance_types.amis():
        known = ", ".join(instance_types.amis())
        raise wrong("hosting.inference_ami", ami, f"not a host image of SageMaker; there are: {known}")
    if not instance_types.has_gpu(hosting.instance_type):
        raise wrong("hosting.inference_ami", ami, f"for GPU types, and this is {hosting.instance_type}; remove it")


def _check_volume(stage: Stage, hosting: Instances) -> None:
    types = [instance_type for _, instance_type in _hosting_types(stage)]
    without_disks = [name for name in types if not instance_types.has_local_storage(name)]
    if hosting.volume_gb is not None:
        if not without_disks:
            why = f"for CPU types without disks of their own, and {hosting.instance_type} has some; remove it"
            raise wrong("hosting.volume_gb", hosting.volume_gb, why)
        return
    size_gib = stage.model.size_gib
    if without_disks and size_gib is not None and volumes.derived_gb(size_gib) > volumes.LARGEST_GB:
        why = (
            f"too much for the volume of {without_disks[0]}, which holds it packed and unpacked in {volumes.LARGEST_GB}"
        )
        raise wrong("model.size_gib", size_gib, f"{why} GB; choose a type with disks, such as ml.m5d.24xlarge")


def _check_gpus(hosting: ComponentHosting) -> None:
    there, wanted = instance_types.gpu_count(hosting.instance_type), hosting.copies.gpus
    if wanted > there:
        raise wrong(
            "hosting.copies.gpus",
            wanted,
            f"more than the {there} of {hosting.instance_type}; lower it, or choose a larger instance_type",
        )
    if wanted:
        _check_room(hosting, there // wanted)


def _check_room(hosting: ComponentHosting, on_one: int) -> None:
    """Room for the copies, and for those that an update starts beside them before it ends any.

    `on_one` is how many copies an instance has GPUs for. Whether SageMaker rounds a batch up or down, it does not say.
    Source: API reference, InferenceComponentRollingUpdatePolicy.
    """
    key, most = "hosting.copies.count", hosting.copies.count
    if hosting.scaling is not None:
        key, most = "hosting.scaling.max_copies", hosting.scaling.max_copies
    # Without a roll-out at least one.
    batch = 1 if hosting.rollout is None else math.ceil(most * hosting.rollout.percent / 100)
    if most + batch > (fit := on_one * hosting.max_instances):
        raise wrong(
            key,
            most,
            f"too many for an update, which starts {batch} beside them, and {hosting.max_instances} x "
            f"{hosting.instance_type} have GPUs for {fit}; write max_instances = {math.ceil((most + batch) / on_one)}, "
            "or choose a larger instance_type",
        )
