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
    """Any GPU or CPU type of SageMaker, including [Graviton](hosting.md#graviton); the default has one L4 GPU."""
    inference_ami: str | None = None
    """The host image, which contains the driver, for GPU types. The default fits Tidegate's image."""
    model_download_timeout_s: Annotated[int, whole(60, 3600)] | None = None
    """60 to 3600, to download and unpack the model. The default is derived from `size_gib`."""
    startup_timeout_s: Annotated[int, whole(60, 3600)] | None = None
    """60 to 3600, until the first ping is answered with 200. The default is derived from `size_gib`."""
    volume_gb: Annotated[int, whole(1, 512)] | None = None
    """1 to 512, for CPU types without local disks. The default is [derived from `size_gib`](hosting.md#volumes)."""
    network_isolation: bool = False
    """On: the container has no network, so `code/requirements.txt` can only be installed from wheels in the archive."""
    provision_timeout_s: Annotated[int, whole(300, 3600)] | None = None
    """300 to 3600: how long SageMaker tries to provision instances. The default is SageMaker's own limit."""
    # On, instances come from there and from nowhere else, so that none serves when it has ended.
    capacity_reservation: Reservation | None = None
    """The ARN of a training plan for endpoints, which [reserves the instances](hosting.md#a-reservation)."""

    @property
    def types(self) -> tuple[str, ...]:
        """The instance types that are tried, in this order."""
        return (self.instance_type,)


class PooledInstances(Instances):
    """Of modes whose instances may be of several types. Source: SageMaker guide, instance pools."""

    instance_pools: Annotated[tuple[InstancePool, ...], LISTED, AfterValidator(IS_POOLS)] = ()
    """Tables `[[hosting.instance_pools]]`, two to five, instead of `instance_type`:
    [several types](hosting.md#several-types) in order of preference.
    """

    @property
    def types(self) -> tuple[str, ...]:
        """The instance types that are tried, in this order."""
        return tuple(pool.instance_type for pool in self.instance_pools) or (self.instance_type,)


class Variant(Value):
    """One of several models behind one endpoint. What it does not say is as in `[hosting]`, `[model]` and `[image]`."""

    name: VariantName
    """Must not change: a rollout compares variants by name."""
    weight: Annotated[float, number(0, 1_000_000)]
    """The variant's share of the requests is its weight divided by the sum of all weights."""
    archive: Archive | None = None
    """The default is the model of `[model]`."""
    instance_type: InstanceType | None = None
    """The default is that of `[hosting]`."""
    instance_count: Annotated[int, whole(1, 1000)] | None = None
    """The default is that of `[hosting]`."""


class Shadow(Value):
    """A variant that gets a copy of the requests and whose answers nobody sees."""

    name: VariantName = "shadow"
    """The name of the variant."""
    percent: Annotated[int, whole(1, 100)] = 100
    """The percentage of requests that are copied to it."""
    archive: Archive | None = None
    """The default is the model of `[model]`."""
    image_uri: ImageReference | None = None
    """The default is the image of `[image]`."""
    instance_type: InstanceType | None = None
    """The default is that of `[hosting]`."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """The number of instances."""


class Capture(Value):
    """Requests and answers, kept in the stage's bucket as JSON lines."""

    percent: Annotated[int, whole(1, 100)]
    """The percentage of requests that are captured."""
    what: Literal["input", "output", "input_and_output"] = "input_and_output"
    """`input_and_output`, `input` or `output`."""
    prefix: OwnPrefix = "capture/"
    """Where captures are stored in the stage's bucket."""


class Adapter(Value):
    """An adapter of the model that `[model]` names: a component without resources of its own, which clients name."""

    name: Annotated[
        str, like(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,34}", "not a name; use at most 35 letters, digits and single hyphens")
    ]
    """At most 35 letters, digits and hyphens. Clients send `PREFIX-STAGE-NAME`."""
    archive: Archive
    """`s3://bucket/path/adapter.tar.gz` with the files that `save_pretrained` wrote."""


class RealtimeHosting(PooledInstances):
    """Instances that are always on and answer `invoke_endpoint`."""

    mode: Literal["realtime"]
    """Instances that always run."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """The number of instances; with scaling, the initial number."""
    scaling: Scaling | None = None
    """Automatic scaling of instances or copies; table below."""
    rollout: Rollout | None = None
    """How traffic shifts to a new version; table below."""
    variants: Annotated[tuple[Variant, ...], LISTED] = ()
    """Tables `[[hosting.variants]]`, at most 10. Without them, there is one variant called `primary`."""
    shadow: Shadow | None = None
    """A variant that receives a copy of the requests and whose responses are discarded; table below."""
    capture: Capture | None = None
    """Stores requests and responses as JSON Lines; table below."""
    monitor: Monitor | None = None
    """Compares [captures with a baseline](hosting.md#captures-against-a-baseline) on a schedule; table below."""
    bidirectional: bool = False
    """Allows [streams in both directions](hosting.md#streams-in-both-directions)."""


class AsyncHosting(PooledInstances):
    """Requests wait in a queue, bodies come from S3 and answers go there; may scale to no instance at all."""

    mode: Literal["async"]
    """Requests wait in a queue."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """The number of instances; with scaling, the initial number."""
    max_concurrent_invocations_per_instance: Annotated[int, whole(1, 1000)] | None = None
    """Without it, SageMaker chooses the value."""
    output_prefix: OwnPrefix = "async/output/"
    """Where responses are stored in the stage's bucket."""
    failure_prefix: OwnPrefix = "async/failure/"
    """Where errors are stored in the stage's bucket."""
    notify: bool = False
    """Creates one topic for responses and one for errors."""
    email: Email | None = None
    """An address that is subscribed to both topics."""
    scaling: AsyncScaling | None = None
    """Automatic scaling of instances or copies; table below."""
    rollout: Rollout | None = None
    """How traffic shifts to a new version; table below."""


class ServerlessHosting(Value):
    """No instance to choose, paid by the request, CPU only. Limits: SageMaker guide, serverless endpoints."""

    mode: Literal["serverless"]
    """No instances to choose."""
    memory_mib: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 3072
    """1024 to 6144 in steps of 1024; CPU grows with memory. New accounts often have a limit of the default (not
    verified).
    """
    max_concurrency: Annotated[int, whole(1, 200)] = 10
    """1 to 200."""
    provisioned_concurrency: Annotated[int, whole(1, 200)] | None = None
    """Capacity that is kept warm. Without it, the first request after a pause waits for a cold start."""


class Copies(Value):
    """What one copy of the model takes of an instance."""

    gpus: Annotated[int, whole(0, 16)] = 1
    """GPUs of one copy; 0 on CPU types."""
    cpu_cores: Annotated[float, number(0.25, 512)] | None = None
    """CPU cores of one copy."""
    min_memory_mib: Annotated[int, whole(128, 32 * 1024 * 1024)]
    """Memory reserved for one copy."""
    max_memory_mib: Annotated[int, whole(128, 32 * 1024 * 1024)] | None = None
    """A copy that exceeds it is stopped."""
    count: Annotated[int, whole(1, 1000)] = 1
    """The number of copies without scaling."""


class ComponentHosting(PooledInstances):
    """An inference component: copies of the model share instances, and both may go down to none."""

    mode: Literal["component"]
    """Copies share instances."""
    copies: Copies
    """The resources of one copy; table below."""
    min_instances: Annotated[int, whole(0, 1000)] = 1
    """0 is possible with `scaling.min_copies = 0`."""
    max_instances: Annotated[int, whole(1, 1000)] = 2
    """Allow more than the copies need: an update starts new copies beside the old ones."""
    data_cache: bool | None = None
    """On: instances [keep model and image](hosting.md#copies-that-start-faster) for further copies. Without it,
    SageMaker decides.
    """
    scaling: ComponentScaling | None = None
    """Automatic scaling of instances or copies; table below."""
    rollout: ComponentRollout | None = None
    """How traffic shifts to a new version; table below."""
    adapters: Annotated[tuple[Adapter, ...], LISTED] = ()
    """Tables `[[hosting.adapters]]`: [fine-tuned variants](hosting.md#adapters) of the model, each a component that
    clients select by name.
    """


class MultiModelHosting(Instances):
    """One endpoint for the archives below a prefix; each is loaded when it is first asked for."""

    mode: Literal["multi_model"]
    """Many archives behind one endpoint."""
    instance_type: InstanceType = DEFAULT_MULTI_MODEL_INSTANCE_TYPE
    """Any CPU type, or a g4dn or g5 type with one GPU; SageMaker accepts no others in this mode."""
    instance_count: Annotated[int, whole(1, 1000)] = 1
    """The number of instances; with scaling, the initial number."""
    cache_models: bool = True
    """Off: a model is unloaded and deleted after each response."""
    scaling: MultiModelScaling | None = None
    """Automatic scaling of instances or copies; table below."""
    rollout: Rollout | None = None
    """How traffic shifts to a new version; table below."""


Hosting = Annotated[
    RealtimeHosting | AsyncHosting | ServerlessHosting | ComponentHosting | MultiModelHosting,
    Field(discriminator="mode"),
]
