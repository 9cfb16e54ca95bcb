"""`[hosting]`: one word, `mode`, chooses the kind of endpoint; the other keys are those of that mode."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tidegate.infra.configuration.capacity import IS_POOLS, InstancePool, Reservation
from tidegate.infra.configuration.image import ImageReference
from tidegate.infra.configuration.monitor import Monitor
from tidegate.infra.configuration.rollout import ComponentRollout, Rollout
from tidegate.infra.configuration.scaling import AsyncScaling, ComponentScaling, MultiModelScaling, Scaling
from tidegate.infra.configuration.value import (
    LISTED,
    Archive,
    Email,
    InstanceType,
    OwnPrefix,
    Value,
    like,
    number,
    whole,
)

# Source: API reference, ProductionVariant.VariantName.
VariantName = Annotated[
    str, like(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", "not a variant's name; use letters, digits and single hyphens")
]
# One L4 GPU with 24 GB; the smallest of the current families that both endpoints and transform jobs accept
# (g7 and g7e are not in the API's list for transform jobs).
DEFAULT_INSTANCE_TYPE = "ml.g6.xlarge"
DEFAULT_MULTI_MODEL_INSTANCE_TYPE = "ml.m7i.xlarge"


class Instances(Value):
    """What every mode with instances decides. Ranges: API reference, ProductionVariant."""

    instance_type: InstanceType = DEFAULT_INSTANCE_TYPE
    """Any GPU or CPU type of SageMaker's own list, [Graviton](hosting.md#graviton) too; the default has one L4 GPU."""
    inference_ami: str | None = None
    """The host's driver, for GPU types; else the one that fits our image."""
    model_download_timeout_s: Annotated[int, whole(60, 3600)] | None = None
    """60 to 3600, to fetch and unpack the model; else derived from `size_gib`."""
    startup_timeout_s: Annotated[int, whole(60, 3600)] | None = None
    """60 to 3600, until the first ping is answered with 200; else derived from `size_gib`."""
    volume_gb: Annotated[int, whole(1, 512)] | None = None
    """1 to 512, for CPU types without disks of their own; else [derived from `size_gib`](hosting.md#volumes)."""
    network_isolation: bool = False
    """On: the container has no network, so `code/requirements.txt` cannot be installed at start."""
    provision_timeout_s: Annotated[int, whole(300, 3600)] | None = None
    """300 to 3600: how long SageMaker looks for instances; else its own limit."""
    # On, instances come from there and from nowhere else, so that none serves when it has ended.
    capacity_reservation: Reservation | None = None
    """The ARN of a training plan for endpoints, which [holds the instances](hosting.md#a-reservation)."""

    @property
    def types(self) -> tuple[str, ...]:
        """The instance types that are tried, in this order."""
        return (self.instance_type,)


class PooledInstances(Instances):
    """Of modes whose instances may be of several types. Source: SageMaker guide, instance pools."""

    instance_pools: Annotated[tuple[InstancePool, ...], LISTED, AfterValidator(IS_POOLS)] = ()
    """Tables `[[hosting.instance_pools]]`, two to five, in place of `instance_type`: [several
    types](hosting.md#several-types), the first one first.
    """

    @property
    def types(self) -> tuple[str, ...]:
        """The instance types that are tried, in this order."""
        return tuple(pool.instance_type for pool in self.instance_pools) or (self.instance_type,)


class Variant(Value):
    """One of several models behind one endpoint. What it does not say is as in `[hosting]`, `[model]` and `[image]`."""

    name: VariantName
    """Never changes: a roll-out compares by it."""
    weight: Annotated[float, number(0, 1_000_000)]
    """Its share of the requests is its weight over the sum of all."""
    archive: Archive | None = None
    """Else as in `[model]`."""
    instance_type: InstanceType | None = None
    """Else as in `[hosting]`."""
    instance_count: Annotated[int, whole(1, 1000)] | None = None
    """Else as in `[hosting]`."""


class Shadow(Value):
    """A variant that gets a copy of the requests and whose answers nobody sees."""

    name: VariantName = "shadow"
    """Of the variant."""
    percent: Annotated[int, whole(1, 100)] = 100
    """Of the requests are copied to it."""
    archive: Archive | None = None
    """Else as in `[model]`."""
    image_uri: ImageReference | None = None
    """Else as in `[image]`."""
    instance_type: InstanceType | None = None
    """Else as in `[hosting]`."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """How many there are."""


class Capture(Value):
    """Requests and answers, kept in the stage's bucket as JSON lines."""

    percent: Annotated[int, whole(1, 100)]
    """Of requests and answers."""
    what: Literal["input", "output", "input_and_output"] = "input_and_output"
    """Or `input`, `output`."""
    prefix: OwnPrefix = "capture/"
    """In the stage's bucket."""


class Adapter(Value):
    """An adapter of the model that `[model]` names: a component without resources of its own, which clients name."""

    name: Annotated[
        str, like(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,34}", "not a name; use at most 35 letters, digits and single hyphens")
    ]
    """At most 35 letters, digits and hyphens; clients send `PREFIX-STAGE-NAME`."""
    archive: Archive
    """`s3://bucket/path/adapter.tar.gz` with what `save_pretrained` wrote."""


class RealtimeHosting(PooledInstances):
    """Instances that are always on and answer `invoke_endpoint`."""

    mode: Literal["realtime"]
    """Instances that are always on."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """How many there are, or with scaling: at first."""
    scaling: Scaling | None = None
    """When instances or copies come and go; table below."""
    rollout: Rollout | None = None
    """How traffic moves to a new version; table below."""
    variants: Annotated[tuple[Variant, ...], LISTED] = ()
    """Tables `[[hosting.variants]]`, at most 10; none: one variant called `primary`."""
    shadow: Shadow | None = None
    """A variant that gets a copy of the requests and whose answers nobody sees; table below."""
    capture: Capture | None = None
    """Requests and answers, kept as JSON lines; table below."""
    monitor: Monitor | None = None
    """[Captures against a baseline](hosting.md#captures-against-a-baseline), by the clock; table below."""
    bidirectional: bool = False
    """Clients open [streams in both directions](hosting.md#streams-in-both-directions)."""


class AsyncHosting(PooledInstances):
    """Requests wait in a queue, bodies come from S3 and answers go there; may scale to no instance at all."""

    mode: Literal["async"]
    """Requests wait in a queue."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """How many there are, or with scaling: at first."""
    max_concurrent_invocations_per_instance: Annotated[int, whole(1, 1000)] | None = None
    """Else SageMaker chooses."""
    output_prefix: OwnPrefix = "async/output/"
    """In the stage's bucket."""
    failure_prefix: OwnPrefix = "async/failure/"
    """In the stage's bucket."""
    notify: bool = False
    """One topic for answers, one for failures."""
    email: Email | None = None
    """Subscribed to both."""
    scaling: AsyncScaling | None = None
    """When instances or copies come and go; table below."""
    rollout: Rollout | None = None
    """How traffic moves to a new version; table below."""


class ServerlessHosting(Value):
    """No instance to choose, paid by the request, CPU only. Limits: SageMaker guide, serverless endpoints."""

    mode: Literal["serverless"]
    """No instance to choose."""
    memory_mib: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 3072
    """1024 to 6144 in steps of 1024; CPU grows with it. New accounts are often given no more than the default (not
    verified).
    """
    max_concurrency: Annotated[int, whole(1, 200)] = 10
    """1 to 200."""
    provisioned_concurrency: Annotated[int, whole(1, 200)] | None = None
    """Kept warm; else the first request after a pause waits for a cold start."""


class Copies(Value):
    """What one copy of the model takes of an instance."""

    gpus: Annotated[int, whole(0, 16)] = 1
    """Of one copy; 0 on CPU types."""
    cpu_cores: Annotated[float, number(0.25, 512)] | None = None
    """Of one copy."""
    min_memory_mib: Annotated[int, whole(128, 32 * 1024 * 1024)]
    """Reserved."""
    max_memory_mib: Annotated[int, whole(128, 32 * 1024 * 1024)] | None = None
    """A copy that grows over it is ended."""
    count: Annotated[int, whole(1, 1000)] = 1
    """Where there is no scaling."""


class ComponentHosting(PooledInstances):
    """An inference component: copies of the model share instances, and both may go down to none."""

    mode: Literal["component"]
    """Copies share instances."""
    copies: Copies
    """What one copy takes of an instance; table below."""
    min_instances: Annotated[int, whole(0, 1000)] = 1
    """0 with `scaling.min_copies = 0`."""
    max_instances: Annotated[int, whole(1, 1000)] = 2
    """More than the copies fill: an update starts new copies beside the old ones."""
    data_cache: bool | None = None
    """On: instances [keep model and image](hosting.md#copies-that-start-faster) for further copies; else as SageMaker
    has it.
    """
    scaling: ComponentScaling | None = None
    """When instances or copies come and go; table below."""
    rollout: ComponentRollout | None = None
    """How traffic moves to a new version; table below."""
    adapters: Annotated[tuple[Adapter, ...], LISTED] = ()
    """Tables `[[hosting.adapters]]`: [fine-tuned variants](hosting.md#adapters) of the model, each a component that
    clients name.
    """


class MultiModelHosting(Instances):
    """One endpoint for the archives below a prefix; each is loaded when it is first asked for."""

    mode: Literal["multi_model"]
    """Many archives behind one endpoint."""
    instance_type: InstanceType = DEFAULT_MULTI_MODEL_INSTANCE_TYPE
    """Any CPU type, or a g4dn or g5 type with one GPU: SageMaker takes no other there."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """How many there are, or with scaling: at first."""
    cache_models: bool = True
    """Off: a model is unloaded and deleted after each answer."""
    scaling: MultiModelScaling | None = None
    """When instances or copies come and go; table below."""
    rollout: Rollout | None = None
    """How traffic moves to a new version; table below."""


Hosting = Annotated[
    RealtimeHosting | AsyncHosting | ServerlessHosting | ComponentHosting | MultiModelHosting,
    Field(discriminator="mode"),
]
