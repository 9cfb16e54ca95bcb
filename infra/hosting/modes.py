"""`[hosting] mode`: what each of the five words makes of its table."""

from __future__ import annotations

from tidegate.infra.configuration.hosting import (
    AsyncHosting,
    ComponentHosting,
    Hosting,
    Instances,
    MultiModelHosting,
    RealtimeHosting,
    ServerlessHosting,
)
from tidegate.infra.configuration.scaling import (
    AsyncScaling,
    ComponentScaling,
    MultiModelScaling,
    Scaling,
    bounds,
    fewest,
    may_wake,
)
from tidegate.infra.hosting import instance_types, timeouts
from tidegate.infra.hosting.plan import (
    ONLY_VARIANT,
    ComponentPlan,
    EndpointPlan,
    InstancesPlan,
    ScalingPlan,
    StartTimeouts,
    VariantPlan,
    Wake,
)
from tidegate.infra.hosting.volumes import volume_gb
from tidegate.infra.stage.names import ASYNC_INPUT_PREFIX

# Requests in work at once, every 10 s. It says how full an instance is whatever a request takes, on GPUs as on CPUs;
# invocations per minute would need another target for every model.
_CONCURRENT_REQUESTS = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
_CONCURRENT_REQUESTS_PER_COPY = "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
# What the guide knows for multi-model endpoints, whose metrics come once a minute.
_INVOCATIONS_PER_INSTANCE = "SageMakerVariantInvocationsPerInstance"


def plan(hosting: Hosting, *, size_gib: float | None = None) -> EndpointPlan:
    """The endpoint that a table asks for; `size_gib` is the model's size, unpacked, where it is known."""
    match hosting:
        case RealtimeHosting():
            return _realtime(hosting, size_gib)
        case AsyncHosting():
            return _asynchronous(hosting, size_gib)
        case ServerlessHosting():
            return _serverless(hosting)
        case ComponentHosting():
            return _component(hosting, size_gib)
        case MultiModelHosting():
            return _multi_model(hosting, size_gib)


def _realtime(hosting: RealtimeHosting, size_gib: float | None) -> EndpointPlan:
    """Instances that are always on and answer `invoke_endpoint`: one variant or several, perhaps a shadow.

    What a variant does not say is as in `[hosting]`. The shadow's part of the requests is the ratio of its weight to
    the production variant's. Source: SageMaker guide, shadow variants; API reference,
    CreateEndpointConfig.ShadowProductionVariants.
    """
    scaling = _scaling(hosting.scaling, _starts(hosting, size_gib))

    def variant(
        name: str, *, instance_type: str | None, count: int | None, weight: float, scaling: ScalingPlan | None
    ) -> VariantPlan:
        fleet = _fleet(hosting, size_gib, instance_type=instance_type, count=count, scaling=scaling)
        return VariantPlan(name=name, instances=fleet, weight=weight, by_load=True, scaling=scaling)

    variants = tuple(
        variant(one.name, instance_type=one.instance_type, count=one.instance_count, weight=one.weight, scaling=scaling)
        for one in hosting.variants
    ) or (variant(ONLY_VARIANT, instance_type=None, count=None, weight=1.0, scaling=scaling),)
    shadow = hosting.shadow
    return EndpointPlan(
        variants=variants,
        shadow=None
        if shadow is None
        else variant(
            shadow.name,
            instance_type=shadow.instance_type,
            count=shadow.instance_count,
            weight=variants[0].weight * shadow.percent / 100,
            scaling=None,
        ),
        capture=hosting.capture,
        scraped=True,
        rollout=hosting.rollout,
        keeps_counts=scaling is not None,
        writes_below=() if hosting.capture is None else (hosting.capture.prefix,),
    )


def _asynchronous(hosting: AsyncHosting, size_gib: float | None) -> EndpointPlan:
    """Requests wait in a queue, bodies come from S3 and answers go there. Without an instance the first starts one."""
    scaling = _scaling(hosting.scaling, _starts(hosting, size_gib))
    # An instance fetches requests from the queue when it has room, so nothing is routed.
    fleet = _fleet(hosting, size_gib, scaling=scaling)
    return EndpointPlan(
        variants=(VariantPlan(name=ONLY_VARIANT, instances=fleet, scaling=scaling),),
        results=hosting,
        rollout=hosting.rollout,
        # Where the minimum is 0, if only at night, there may be no instance now, and an update that kept the count
        # would start none: the new version would replace the old one unseen. It starts with the stage file's count
        # instead, and scales in.
        keeps_counts=scaling is not None and scaling.fewest > 0,
        reads_below=(ASYNC_INPUT_PREFIX,),
        writes_below=(hosting.output_prefix, hosting.failure_prefix),
    )


def _serverless(hosting: ServerlessHosting) -> EndpointPlan:
    """No instance to choose, paid by the request, CPU only: one variant with memory and a limit of concurrency.

    It has no GPU, VPC, network isolation, data capture, shadow, further variant, start-up time-outs (the model must be
    there and answer /ping within 3 minutes) or roll-out of ours: SageMaker starts the new version beside the old one
    and moves all traffic. Source: SageMaker guide, serverless endpoints, feature exclusions; deployment guardrails.
    """
    return EndpointPlan(variants=(VariantPlan(name=ONLY_VARIANT, serverless=hosting),))


def _component(hosting: ComponentHosting, size_gib: float | None) -> EndpointPlan:
    """Instances without a model, and a component that puts copies of it there; both may go down to none.

    SageMaker adds instances where a copy finds no room and removes empty ones. A new model or image is an update of the
    component, copy by copy; the endpoint itself only changes with the instances. Without a copy a request fails, which
    starts the first one; a client that is to cope waits and asks again.
    """
    starts = _starts(hosting, size_gib)
    scaling = _scaling(hosting.scaling, starts)
    instance_type, *fallbacks = hosting.types
    fleet = InstancesPlan(
        instance_type=instance_type,
        fallbacks=tuple(fallbacks),
        # The API takes no 0; without a copy the instance goes again.
        first=max(1, hosting.min_instances),
        least=hosting.min_instances,
        most=hosting.max_instances,
        volume_gb=volume_gb(hosting, instance_type, size_gib),
        host_image=_host_image(hosting, instance_type),
        starts=starts,
        managed=True,
        provision_timeout_s=hosting.provision_timeout_s,
        reservation=hosting.capacity_reservation,
    )
    return EndpointPlan(
        variants=(VariantPlan(name=ONLY_VARIANT, instances=fleet, by_load=True),),
        component=ComponentPlan(
            copies=hosting.copies,
            count=max(hosting.copies.count, scaling.least if scaling else 1),
            scaling=scaling,
            data_cache=hosting.data_cache,
            starts=starts,
            rollout=hosting.rollout,
            network_isolation=hosting.network_isolation,
            adapters=hosting.adapters,
        ),
        scraped=True,
    )


def _multi_model(hosting: MultiModelHosting, size_gib: float | None) -> EndpointPlan:
    """The model is the prefix; `TargetModel` of a request names the archive. A new archive needs no deploy.

    SageMaker sends a request to an instance that has its model, so the routing is not ours to choose. Transform jobs
    cannot run such a model.
    """
    scaling = _scaling(hosting.scaling, _starts(hosting, size_gib))
    fleet = _fleet(hosting, size_gib, scaling=scaling)
    return EndpointPlan(
        variants=(VariantPlan(name=ONLY_VARIANT, instances=fleet, scaling=scaling),),
        scraped=True,
        rollout=hosting.rollout,
        keeps_counts=scaling is not None,
        runs_in_jobs=False,
    )


def _fleet(
    hosting: RealtimeHosting | AsyncHosting | MultiModelHosting,
    size_gib: float | None,
    *,
    instance_type: str | None = None,
    count: int | None = None,
    scaling: ScalingPlan | None,
) -> InstancesPlan:
    """At least one at first, whatever the scaling: a new version must start and answer before it replaces another."""
    first_choice, *fallbacks = (instance_type,) if instance_type else hosting.types
    count = count or hosting.instance_count
    return InstancesPlan(
        instance_type=first_choice,
        fallbacks=tuple(fallbacks),
        first=count,
        least=scaling.fewest if scaling else count,
        most=scaling.most if scaling else count,
        volume_gb=volume_gb(hosting, first_choice, size_gib),
        host_image=_host_image(hosting, first_choice),
        starts=_starts(hosting, size_gib),
        provision_timeout_s=hosting.provision_timeout_s,
        reservation=hosting.capacity_reservation,
    )


def _host_image(hosting: Instances, instance_type: str) -> str | None:
    """The one of the stage file, and else the one whose driver fits our image; CPU types have none to choose.

    A variant on a CPU type beside others on GPUs has none either.
    """
    if not instance_types.has_gpu(instance_type):
        return None
    return hosting.inference_ami or instance_types.default_ami(instance_type)


def _starts(hosting: Instances, size_gib: float | None) -> StartTimeouts:
    """What the stage file says, and else what fits the model's size."""
    return StartTimeouts(
        download_s=hosting.model_download_timeout_s or timeouts.model_download_timeout_s(size_gib),
        startup_s=hosting.startup_timeout_s or timeouts.startup_timeout_s(size_gib),
    )


def _scaling(
    scaling: Scaling | AsyncScaling | ComponentScaling | MultiModelScaling | None, starts: StartTimeouts
) -> ScalingPlan | None:
    """When instances or copies come and go, and what wakes the first where there may be none."""
    wake = None
    match scaling:
        case None:
            return None
        case Scaling():
            metric, target = _CONCURRENT_REQUESTS, scaling.concurrent_requests
        case MultiModelScaling():
            metric, target = _INVOCATIONS_PER_INSTANCE, scaling.invocations_per_minute
        case AsyncScaling():
            metric, target = "ApproximateBacklogSizePerInstance", scaling.backlog
            wake = Wake(metric="HasBacklogWithoutCapacity", statistic="Average", start_s=starts.total_s)
        case ComponentScaling():
            metric, target = _CONCURRENT_REQUESTS_PER_COPY, scaling.concurrent_requests
            wake = Wake(metric="NoCapacityInvocationFailures", statistic="Sum", start_s=starts.total_s)
    least, most = bounds(scaling)
    return ScalingPlan(
        least=least,
        most=most,
        out_cooldown_s=scaling.scale_out_cooldown_s,
        in_cooldown_s=scaling.scale_in_cooldown_s,
        metric=metric,
        target=target,
        of_endpoint=isinstance(scaling, AsyncScaling),
        wake=wake if may_wake(scaling) else None,
        schedule=tuple(scaling.schedule),
        fewest=fewest(scaling),
    )
