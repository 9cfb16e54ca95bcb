"""Instance types: those that exist, that can run our image, and that the other keys go with."""

from __future__ import annotations

import math
from collections.abc import Collection

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import (
    AsyncHosting,
    ComponentHosting,
    Instances,
    MultiModelHosting,
    RealtimeHosting,
    ServerlessHosting,
)
from tidegate.infra.configuration.image import BuiltImage
from tidegate.infra.hosting import instance_types, machines, volumes
from tidegate.infra.validation.sentences import larger, wrong


def check_types(stage: Stage) -> None:
    """Every instance type of the stage."""
    for key, instance_type in machines.of_hosting(stage.hosting):
        _check(key, instance_type, instance_types.endpoint_types(), "SageMaker endpoints")
    if stage.batch is not None:
        _check("batch.instance_type", stage.batch.instance_type, instance_types.transform_types(), "transform jobs")
    _check_one_platform(stage)
    _check_accelerator(stage)
    if not isinstance(stage.hosting, ServerlessHosting):
        _check_ami(stage.hosting)
        _check_volume(stage, stage.hosting)
    if isinstance(stage.hosting, MultiModelHosting):
        _check_multi_model(stage.hosting.instance_type)
    if isinstance(stage.hosting, ComponentHosting):
        _check_gpus(stage.hosting)


def _check(key: str, instance_type: str, known: Collection[str], what: str) -> None:
    if instance_type not in known:
        near = instance_types.suggestions(instance_type, known)
        hint = f"did you mean {' or '.join(near)}?" if near else "one that exists is ml.m5.2xlarge"
        raise wrong(key, instance_type, f"not an instance type of {what}; {hint}")
    if instance_types.has_foreign_accelerator(instance_type):
        raise wrong(
            key,
            instance_type,
            "without a build of our image, whose torch does not know its chips; choose a GPU or CPU type",
        )
    if instance_types.is_arm(instance_type) and instance_types.has_gpu(instance_type):
        raise wrong(
            key, instance_type, "a GPU beside an ARM processor, and the GPU image is amd64; choose ml.g6.xlarge"
        )
    if instance_types.is_too_old_for_cuda(instance_type):
        raise wrong(key, instance_type, "a GPU that CUDA 13 no longer runs on; choose one like ml.g6.xlarge")


def _check_one_platform(stage: Stage) -> None:
    """One image runs everywhere, and is built for one kind of processor."""
    types = machines.of_stage(stage)
    if isinstance(stage.hosting, RealtimeHosting) and (shadow := stage.hosting.shadow) and shadow.image_uri is not None:
        types.pop("hosting.shadow.instance_type", None)
    if not types:
        return
    first, of_first = next(iter(types.items()))
    wanted = machines.platform_of(of_first)
    for key, instance_type in types.items():
        there = machines.platform_of(instance_type)
        if there == wanted:
            continue
        way_out = "choose types of one kind"
        if key == "batch.instance_type":
            # SageMaker's list of types for transform jobs has no ARM in it.
            way_out = f"transform jobs have no ARM types, so choose another {first}, or remove [batch]"
        raise wrong(
            key, instance_type, f"{there}, and {first} = {of_first} is {wanted}, with one image for both; {way_out}"
        )


def _check_accelerator(stage: Stage) -> None:
    """Our image for GPUs is built for amd64 alone."""
    image, key = stage.image, "image.build_args.ACCELERATOR"
    if not isinstance(image, BuiltImage) or image.build_args.get("ACCELERATOR") != "gpu":
        return
    if machines.platform(stage) == machines.ARM64:
        first, instance_type = next(iter(machines.of_stage(stage).items()))
        why = f"for {machines.AMD64}, and {first} = {instance_type} is {machines.ARM64}"
        raise wrong(key, "gpu", f"{why}; write 'cpu', or choose a GPU type")


def _check_multi_model(instance_type: str) -> None:
    if instance_types.has_gpu(instance_type) and not instance_types.has_gpu_for_multi_model(instance_type):
        raise wrong(
            "hosting.instance_type",
            instance_type,
            "a GPU type that multi-model endpoints do not take; choose one of g4dn or g5 with one GPU, or a CPU type",
        )


def _check_ami(hosting: RealtimeHosting | AsyncHosting | ComponentHosting | MultiModelHosting) -> None:
    ami = hosting.inference_ami
    if ami is None:
        return
    if ami not in instance_types.amis():
        known = ", ".join(instance_types.amis())
        raise wrong("hosting.inference_ami", ami, f"not a host image of SageMaker; there are: {known}")
    types = [instance_type for _, instance_type in machines.of_hosting(hosting)]
    if not any(map(instance_types.has_gpu, types)):
        raise wrong("hosting.inference_ami", ami, f"for GPU types, and this is {types[0]}; remove it")
    if isinstance(hosting, RealtimeHosting) and hosting.bidirectional and ami not in instance_types.BIDIRECTIONAL_AMIS:
        newest = " or ".join(map(repr, instance_types.BIDIRECTIONAL_AMIS))
        why = f"a host image that streams in both directions may not get through; write {newest}, or leave it out"
        raise wrong("hosting.inference_ami", ami, why)


def _check_volume(stage: Stage, hosting: Instances) -> None:
    types = [instance_type for _, instance_type in machines.of_hosting(stage.hosting)]
    without_disks = [name for name in types if not instance_types.has_local_storage(name)]
    if hosting.volume_gb is not None:
        if not without_disks:
            why = f"for CPU types without disks of their own, and {types[0]} has some; remove it"
            raise wrong("hosting.volume_gb", hosting.volume_gb, why)
        return
    size_gib = stage.model.size_gib
    if without_disks and size_gib is not None and volumes.derived_gb(size_gib) > volumes.LARGEST_GB:
        why = (
            f"too much for the volume of {without_disks[0]}, which holds it packed and unpacked in {volumes.LARGEST_GB}"
        )
        raise wrong("model.size_gib", size_gib, f"{why} GB; choose a type with disks, such as ml.m5d.24xlarge")


def _check_gpus(hosting: ComponentHosting) -> None:
    # Any of the types may be all that there is.
    smallest = min(hosting.types, key=instance_types.gpu_count)
    there, wanted = instance_types.gpu_count(smallest), hosting.copies.gpus
    if wanted > there:
        raise wrong(
            "hosting.copies.gpus",
            wanted,
            f"more than the {there} of {smallest}; lower it, or {larger(hosting)}",
        )
    if wanted:
        _check_room(hosting, smallest, there // wanted)


def _check_room(hosting: ComponentHosting, instance_type: str, on_one: int) -> None:
    """Room for the copies, and for those that an update starts beside them before it ends any.

    `on_one` is how many copies an instance of the type has GPUs for. Whether SageMaker rounds a batch up or down, it
    does not say.
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
            f"{instance_type} have GPUs for {fit}; write max_instances = {math.ceil((most + batch) / on_one)}, "
            f"or {larger(hosting)}",
        )
