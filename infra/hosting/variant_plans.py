"""The variants of an endpoint as plain values; what is synthesised, watched and paid for them is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.infra.configuration.hosting import AsyncHosting, Instances, MultiModelHosting, RealtimeHosting
from tidegate.infra.hosting import instance_types, timeouts

# Roll-outs compare the old and the new configuration by the variant's name, so it never changes.
ONLY_VARIANT = "primary"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantPlan:
    """One variant, as everything about it needs to know it. `weight` over the sum of all is its share."""

    name: str
    instance_type: str
    instance_count: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimeouts:
    """How long an instance may take to fetch the model, and then to answer its first ping with 200."""

    download_s: int
    startup_s: int

    @classmethod
    def of(cls, hosting: Instances, size_gib: float | None) -> StartTimeouts:
        """What the stage file says, and else what fits the model's size."""
        return cls(
            download_s=hosting.model_download_timeout_s or timeouts.model_download_timeout_s(size_gib),
            startup_s=hosting.startup_timeout_s or timeouts.startup_timeout_s(size_gib),
        )

    @property
    def total_s(self) -> int:
        """The longest that a start may take once there is an instance."""
        return self.download_s + self.startup_s


def plans(hosting: RealtimeHosting) -> tuple[VariantPlan, ...]:
    """The variants of the stage file; what one does not say is as in `[hosting]`."""
    if not hosting.variants:
        return (only_plan(hosting.instance_type, hosting.instance_count),)
    return tuple(
        VariantPlan(
            name=variant.name,
            instance_type=variant.instance_type or hosting.instance_type,
            instance_count=variant.instance_count or hosting.instance_count,
            weight=variant.weight,
        )
        for variant in hosting.variants
    )


def only_plan(instance_type: str, instance_count: int) -> VariantPlan:
    """The one variant of a mode that has no more."""
    return VariantPlan(name=ONLY_VARIANT, instance_type=instance_type, instance_count=instance_count)


def smallest_fleet(hosting: RealtimeHosting | AsyncHosting | MultiModelHosting) -> int:
    """The number of instances of the smallest variant when an update begins, at the least.

    An update keeps the count of the moment, which may be as low as the minimum. An asynchronous endpoint that may have
    none starts the stage file's count, because one that kept it would put a new version in place unseen.
    """
    if hosting.scaling is not None and hosting.scaling.min_instances > 0:
        return hosting.scaling.min_instances
    if isinstance(hosting, RealtimeHosting):
        return min(variant.instance_count for variant in plans(hosting))
    return hosting.instance_count


def host_image(hosting: Instances, instance_type: str) -> str | None:
    """The one of the stage file, and else the one whose driver fits our image; CPU types have none to choose.

    A variant on a CPU type beside others on GPUs has none either.
    """
    if not instance_types.has_gpu(instance_type):
        return None
    return hosting.inference_ami or instance_types.default_ami(instance_type)
