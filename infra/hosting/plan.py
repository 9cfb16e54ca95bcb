"""What an endpoint is, whatever its mode, as plain values: it is synthesised, watched, paid for and examined by these.

`modes.plan` makes them of the table `[hosting]`; `endpoint.Endpoint` makes resources of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tidegate.infra.configuration.hosting import Adapter, AsyncHosting, Capture, Copies, ServerlessHosting
from tidegate.infra.configuration.rollout import ComponentRollout, Rollout
from tidegate.infra.configuration.scaling import Action
from tidegate.infra.hosting import instance_types

# Roll-outs compare the old and the new configuration by the variant's name, so it never changes.
ONLY_VARIANT = "primary"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimeouts:
    """How long an instance may take to fetch the model, and then to answer its first ping with 200."""

    download_s: int
    startup_s: int

    @property
    def total_s(self) -> int:
        """The longest that a start may take once there is an instance."""
        return self.download_s + self.startup_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """One more as soon as `metric` says that something waits and there is nothing to do it.

    It rests for `start_s`, the longest that a start may take; otherwise it would add one every minute.
    """

    metric: str
    statistic: Literal["Average", "Sum"]
    start_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPlan:
    """Between `least` and `most` instances or copies, so that `metric` stays at `target`.

    Target tracking goes both ways, but not up from zero, where a metric per instance has no value; `wake` does that.
    """

    least: int
    most: int
    out_cooldown_s: int
    in_cooldown_s: int
    metric: str
    target: float
    # Whether the metric is one of the endpoint as a whole, and none of Application Auto Scaling's own.
    of_endpoint: bool = False
    wake: Wake | None = None
    # Other bounds from a moment on, and the lowest minimum of all.
    schedule: tuple[Action, ...] = ()
    fewest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancesPlan:
    """The instances of a variant, where it has some."""

    instance_type: str
    # Taken in this order where there is no more of it. All types have the same number of GPUs, but for a component.
    fallbacks: tuple[str, ...] = ()
    # When the endpoint is made.
    first: int
    # At any time.
    least: int
    most: int
    # None leaves it to SageMaker.
    volume_gb: int | None
    host_image: str | None
    starts: StartTimeouts
    # Whether SageMaker itself adds and removes them, as the copies of a component need.
    managed: bool = False
    # How long SageMaker looks for them. None leaves it to SageMaker.
    provision_timeout_s: int | None = None
    # What holds them ready, and from where alone they come; an ARN.
    reservation: str | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """Every type that may be there, the first choice first."""
        return (self.instance_type, *self.fallbacks)

    @property
    def gpus(self) -> int:
        """Of one instance. Raises `LookupError` for a family of GPUs that we do not know."""
        return instance_types.gpu_count(self.instance_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantPlan:
    """One variant. `weight` over the sum of all is its share of the requests."""

    name: str
    # None for a serverless variant.
    instances: InstancesPlan | None = None
    serverless: ServerlessHosting | None = None
    weight: float = 1.0
    # Whether a request goes to the instance with the fewest, and not to one by chance.
    by_load: bool = False
    scaling: ScalingPlan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentPlan:
    """The inference component that has the model. `count` is the number of its copies when it is made."""

    copies: Copies
    count: int
    # Whether instances keep model and image. None leaves it to SageMaker.
    data_cache: bool | None
    starts: StartTimeouts
    scaling: ScalingPlan | None
    rollout: ComponentRollout | None
    network_isolation: bool
    # Components that change what this one answers.
    adapters: tuple[Adapter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlan:
    """One endpoint."""

    variants: tuple[VariantPlan, ...]
    # Gets a copy of the requests to the only variant, and nobody sees its answers.
    shadow: VariantPlan | None = None
    # Has the model in place of the variants.
    component: ComponentPlan | None = None
    capture: Capture | None = None
    # Where answers go that nobody waits for.
    results: AsyncHosting | None = None
    # Whether the platform reads the server's own series from /metrics.
    scraped: bool = False
    rollout: Rollout | None = None
    # Whether an update starts as many instances as there are then. Without it, it would fall back to the first count,
    # in the middle of the day's load.
    keeps_counts: bool = False
    # Whether a transform job can run the model.
    runs_in_jobs: bool = True
    # Below the stage's own bucket.
    reads_below: tuple[str, ...] = ()
    writes_below: tuple[str, ...] = ()

    @property
    def all_variants(self) -> tuple[VariantPlan, ...]:
        """With the shadow, which is the last."""
        return self.variants if self.shadow is None else (*self.variants, self.shadow)

    @property
    def fleets(self) -> tuple[InstancesPlan, ...]:
        """The instances of all variants that have some."""
        return tuple(variant.instances for variant in self.all_variants if variant.instances is not None)
