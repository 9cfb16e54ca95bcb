"""The instance types that a stage runs on, with the keys that name them, and the image that fits them all."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import Hosting, Instances, PooledInstances, RealtimeHosting
from tidegate.infra.hosting import instance_types

# As docker writes them. Amazon EC2 calls the first x86_64.
AMD64, ARM64 = "linux/amd64", "linux/arm64"


def of_stage(stage: Stage) -> dict[str, str]:
    """The types by their keys. Transform jobs run the model, and so the image, of the endpoint."""
    found = dict(of_hosting(stage.hosting))
    if stage.batch is not None:
        found["batch.instance_type"] = stage.batch.instance_type
    return found


def of_hosting(hosting: Hosting) -> Iterator[tuple[str, str]]:
    """Those of the endpoint. `hosting.instance_type` is none of them where each variant has a type of its own."""
    if not isinstance(hosting, Instances):
        return
    own: dict[str, str | None] = {"hosting.instance_type": None}
    if isinstance(hosting, RealtimeHosting):
        for number, variant in enumerate(hosting.variants, start=1):
            own[f"hosting.variants[{number}].instance_type"] = variant.instance_type
        if hosting.variants:
            del own["hosting.instance_type"]
        if hosting.shadow is not None:
            own["hosting.shadow.instance_type"] = hosting.shadow.instance_type
    if None in own.values():
        if isinstance(hosting, PooledInstances) and hosting.instance_pools:
            for number, pool in enumerate(hosting.instance_pools, start=1):
                yield f"hosting.instance_pools[{number}].instance_type", pool.instance_type
        else:
            yield "hosting.instance_type", hosting.instance_type
    for key, instance_type in own.items():
        if instance_type is not None:
            yield key, instance_type


def platform_of(instance_type: str) -> str:
    """For which machine an image must be built to run on the type."""
    return ARM64 if instance_types.is_arm(instance_type) else AMD64


def platform(stage: Stage) -> str:
    """For which machine the image must be built; amd64 where the stage has no instances."""
    return next(map(platform_of, of_stage(stage).values()), AMD64)


def accelerator(stage: Stage) -> str:
    """Which of our two images the instances run: `gpu` or `cpu`."""
    return "gpu" if any(map(instance_types.has_gpu, of_stage(stage).values())) else "cpu"
