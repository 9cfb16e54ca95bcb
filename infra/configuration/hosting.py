"""`[hosting]`: one word, `mode`, chooses the kind of endpoint; the other keys are those of that mode."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tidegate.infra.configuration.capacity import IS_POOLS, InstancePool, Reservation
from tidegate.infra.configuration.image import ImageReference
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
    # The host's NVIDIA driver. None lets `instance_types.default_ami` choose the one that fits our image's CUDA.
    inference_ami: str | None = None
    # How long a new instance may take to fetch and unpack the model, and to answer its first ping with 200.
    # None: derived from the model's size.
    model_download_timeout_s: Annotated[int, whole(60, 3600)] | None = None
    startup_timeout_s: Annotated[int, whole(60, 3600)] | None = None
    # Of CPU types without disks of their own. None: derived from the model's size.
    volume_gb: Annotated[int, whole(1, 512)] | None = None
    # On, a container has no network at all, so an archive's code/requirements.txt cannot be installed at start.
    network_isolation: bool = False
    # How long SageMaker looks for instances before it gives up. None: its own limit.
    provision_timeout_s: Annotated[int, whole(300, 3600)] | None = None
    # On, instances come from there and from nowhere else, so that none serves when it has ended.
    capacity_reservation: Reservation | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The instance types that are tried, in this order."""
        return (self.instance_type,)


class PooledInstances(Instances):
    """Of modes whose instances may be of several types. Source: SageMaker guide, instance pools."""

    # Instead of `instance_type`: the first is tried first, the next where that is short.
    instance_pools: Annotated[tuple[InstancePool, ...], LISTED, AfterValidator(IS_POOLS)] = ()

    @property
    def types(self) -> tuple[str, ...]:
        """The instance types that are tried, in this order."""
        return tuple(pool.instance_type for pool in self.instance_pools) or (self.instance_type,)


class Variant(Value):
    """One of several models behind one endpoint. What it does not say is as in `[hosting]`, `[model]` and `[image]`."""

    name: VariantName
    # Its share of the traffic is its weight over the sum of all.
    weight: Annotated[float, number(0, 1_000_000)]
    archive: Archive | None = None
    instance_type: InstanceType | None = None
    instance_count: Annotated[int, whole(1, 1000)] | None = None


class Shadow(Value):
    """A variant that gets a copy of the requests and whose answers nobody sees."""

    name: VariantName = "shadow"
    # Of the requests to the production variant.
    percent: Annotated[int, whole(1, 100)] = 100
    archive: Archive | None = None
    image_uri: ImageReference | None = None
    instance_type: InstanceType | None = None
    instance_count: Annotated[int, whole(1, 1000)] = 1


class Capture(Value):
    """Requests and answers, kept in the stage's bucket as JSON lines."""

    percent: Annotated[int, whole(1, 100)]
    what: Literal["input", "output", "input_and_output"] = "input_and_output"
    prefix: OwnPrefix = "capture/"


class RealtimeHosting(PooledInstances):
    """Instances that are always on and answer `invoke_endpoint`."""

    mode: Literal["realtime"]
    instance_count: Annotated[int, whole(1, 1000)] = 1
    scaling: Scaling | None = None
    rollout: Rollout | None = None
    # All variants, where there is more than one; at most 10. Empty: one, that is called `primary`.
    variants: Annotated[tuple[Variant, ...], LISTED] = ()
    shadow: Shadow | None = None
    capture: Capture | None = None
    # Whether clients open streams in both directions, which need a host image that carries them.
    bidirectional: bool = False


class AsyncHosting(PooledInstances):
    """Requests wait in a queue, bodies come from S3 and answers go there; may scale to no instance at all."""

    mode: Literal["async"]
    instance_count: Annotated[int, whole(1, 1000)] = 1
    # None: SageMaker chooses.
    max_concurrent_invocations_per_instance: Annotated[int, whole(1, 1000)] | None = None
    output_prefix: OwnPrefix = "async/output/"
    failure_prefix: OwnPrefix = "async/failure/"
    # An SNS topic for successes and one for failures; the address is subscribed to both.
    notify: bool = False
    email: Email | None = None
    scaling: AsyncScaling | None = None
    rollout: Rollout | None = None


class ServerlessHosting(Value):
    """No instance to choose, paid by the request, CPU only. Limits: SageMaker guide, serverless endpoints."""

    mode: Literal["serverless"]
    memory_mib: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 3072
    max_concurrency: Annotated[int, whole(1, 200)] = 10
    # Kept warm; None: the first request after a pause waits for a cold start.
    provisioned_concurrency: Annotated[int, whole(1, 200)] | None = None


class Copies(Value):
    """What one copy of the model takes of an instance."""

    gpus: Annotated[int, whole(0, 16)] = 1
    cpu_cores: Annotated[float, number(0.25, 512)] | None = None
    # SageMaker reserves the minimum; a copy that grows over the maximum is ended.
    min_memory_mib: Annotated[int, whole(128, 32 * 1024 * 1024)]
    max_memory_mib: Annotated[int, whole(128, 32 * 1024 * 1024)] | None = None
    # Where there is no [hosting.scaling].
    count: Annotated[int, whole(1, 1000)] = 1


class ComponentHosting(PooledInstances):
    """An inference component: copies of the model share instances, and both may go down to none."""

    mode: Literal["component"]
    copies: Copies
    min_instances: Annotated[int, whole(0, 1000)] = 1
    # More than the copies fill, because a new version starts beside the old one.
    max_instances: Annotated[int, whole(1, 1000)] = 2
    # Whether instances keep the model's files and the image, for copies that start there later. None: as SageMaker has
    # it.
    data_cache: bool | None = None
    scaling: ComponentScaling | None = None
    rollout: ComponentRollout | None = None


class MultiModelHosting(Instances):
    """One endpoint for the archives below a prefix; each is loaded when it is first asked for."""

    mode: Literal["multi_model"]
    # Of GPU types SageMaker takes a few only, see validation; of CPU types all.
    instance_type: InstanceType = DEFAULT_MULTI_MODEL_INSTANCE_TYPE
    instance_count: Annotated[int, whole(1, 1000)] = 1
    # Off, a model is unloaded and deleted after each answer.
    cache_models: bool = True
    scaling: MultiModelScaling | None = None
    rollout: Rollout | None = None


Hosting = Annotated[
    RealtimeHosting | AsyncHosting | ServerlessHosting | ComponentHosting | MultiModelHosting,
    Field(discriminator="mode"),
]
