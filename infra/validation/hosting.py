"""Keys of `[hosting]` that SageMaker refuses together. Sources are named beside each rule."""

from __future__ import annotations

import math

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.hosting import (
    AsyncHosting,
    ComponentHosting,
    MultiModelHosting,
    RealtimeHosting,
    ServerlessHosting,
)
from tidegate.infra.configuration.rollout import AllAtOnce, Canary, ComponentRollout, Linear, Rolling, Rollout
from tidegate.infra.configuration.scaling import fewest
from tidegate.infra.hosting import timeouts
from tidegate.infra.stage.names import (
    ASYNC_INPUT_PREFIX,
    BATCH_INPUT_PREFIX,
    BATCH_MANIFESTS_PREFIX,
    BATCH_OUTPUT_PREFIX,
    MODELS_PREFIX,
)
from tidegate.infra.validation import scaling as scaling_rules
from tidegate.infra.validation.sentences import counted, wrong

# Source: API reference, CreateEndpointConfig.ProductionVariants.
MOST_VARIANTS = 10
_TAKEN = (MODELS_PREFIX, BATCH_INPUT_PREFIX, BATCH_OUTPUT_PREFIX, BATCH_MANIFESTS_PREFIX, ASYNC_INPUT_PREFIX)


def check(stage: Stage) -> None:
    """The rules of the stage's mode."""
    if not isinstance(stage.hosting, ServerlessHosting) and stage.hosting.rollout is not None:
        _check_rollout(stage.hosting.rollout)
    if isinstance(stage.hosting, RealtimeHosting | AsyncHosting | MultiModelHosting):
        _check_rolling(stage.hosting)
    match stage.hosting:
        case RealtimeHosting() as hosting:
            _check_scaling(hosting)
            _check_prefixes(
                {
                    key: table.prefix
                    for key, table in (
                        ("hosting.capture.prefix", hosting.capture),
                        ("hosting.monitor.prefix", hosting.monitor),
                    )
                    if table is not None
                }
            )
            _check_variants(hosting)
            _check_shadow(hosting)
        case AsyncHosting() as hosting:
            _check_scaling(hosting)
            _check_prefixes(
                {"hosting.output_prefix": hosting.output_prefix, "hosting.failure_prefix": hosting.failure_prefix}
            )
            if hosting.email is not None and not hosting.notify:
                raise wrong("hosting.email", hosting.email, "told nothing while notify is off; write notify = true")
        case ServerlessHosting() as hosting:
            _check_serverless(stage, hosting)
        case ComponentHosting() as hosting:
            _check_component(hosting)
        case MultiModelHosting() as hosting:
            _check_scaling(hosting)


def _check_prefixes(prefixes: dict[str, str]) -> None:
    """What is written below these is deleted after some days, so nothing else may lie there, nor be read from there."""
    taken = dict.fromkeys(_TAKEN, "what it holds would be deleted with old results")
    for key, prefix in prefixes.items():
        for other, why in taken.items():
            if prefix.startswith(other) or other.startswith(prefix):
                raise wrong(key, prefix, f"in the way of {other}, and {why}; choose another, such as 'results/'")
        taken[prefix] = "nobody could tell the two apart"


def _check_rollout(rollout: Rollout | ComponentRollout) -> None:
    """Alarms send a version back while SageMaker waits, and not afterwards."""
    match rollout:
        case AllAtOnce(bake_s=bake_s):
            key, given_s, watched_s = "bake_s", bake_s, bake_s
        case Canary(wait_s=wait_s, bake_s=bake_s):
            key, given_s, watched_s = "bake_s", bake_s, wait_s + bake_s
        case Linear(wait_s=wait_s, bake_s=bake_s):
            key, given_s, watched_s = "bake_s", bake_s, 100 // rollout.percent * wait_s + bake_s
        case ComponentRollout(wait_s=wait_s) | Rolling(wait_s=wait_s):
            # There may be one copy, and so one batch; of instances the first batch would stay when the next one goes.
            key, given_s, watched_s = "wait_s", wait_s, wait_s
    needed_s = timeouts.ALARM_PERIOD_S * timeouts.ALARM_PERIODS
    if rollout.rollback is not None and watched_s < needed_s:
        raise wrong(
            f"hosting.rollout.{key}",
            given_s,
            f"too short for the alarms of the roll-out, which take {needed_s} s to go off; write {needed_s} or more, "
            "or rollback = false",
        )


def _check_rolling(hosting: RealtimeHosting | AsyncHosting | MultiModelHosting) -> None:
    """Batches of at most half the instances of the only variant. Sources: SageMaker guide, deployment guardrails,
    exclusions; API reference, RollingUpdatePolicy.
    """
    rollout = hosting.rollout
    if not isinstance(rollout, Rolling):
        return
    if isinstance(hosting, RealtimeHosting) and (len(hosting.variants) > 1 or hosting.shadow is not None):
        other = "[[hosting.variants]]" if len(hosting.variants) > 1 else "[hosting.shadow]"
        why = f"for endpoints of one variant, and {other} makes more; write 'linear', or remove that"
        raise wrong("hosting.rollout.strategy", "rolling", why)
    scaling = hosting.scaling
    fleet = hosting.instance_count if scaling is None else fewest(scaling)
    if fleet < 2:
        key = "hosting.instance_count" if scaling is None else "hosting.scaling.min_instances"
        if scaling is not None and scaling.min_instances > fleet:
            key = "hosting.scaling.schedule.min_instances"
        why = f"in batches of at most half the instances, and there may be only {fleet}"
        raise wrong("hosting.rollout.strategy", "rolling", f"{why}; write {key} = 2 or more, or 'all_at_once'")
    if rollout.percent * fleet < 100:
        why = f"less than one of {counted(fleet, 'instance')}; write {math.ceil(100 / fleet)} or more"
        raise wrong("hosting.rollout.percent", rollout.percent, why)


def _check_scaling(hosting: RealtimeHosting | AsyncHosting | MultiModelHosting) -> None:
    scaling = hosting.scaling
    if scaling is None:
        return
    scaling_rules.check(scaling)
    counts = {"hosting.instance_count": hosting.instance_count}
    if isinstance(hosting, RealtimeHosting):
        for number, variant in enumerate(hosting.variants, start=1):
            counts[f"hosting.variants[{number}].instance_count"] = variant.instance_count or hosting.instance_count
    for key, count in counts.items():
        if not scaling.min_instances <= count <= scaling.max_instances:
            raise wrong(
                key,
                count,
                f"what it starts with, and scaling keeps {scaling.min_instances} to {scaling.max_instances}; write a "
                "number in between",
            )


def _check_variants(hosting: RealtimeHosting) -> None:
    variants = hosting.variants
    if len(variants) > MOST_VARIANTS:
        raise ConfigurationError(
            f"hosting.variants has {len(variants)} tables, and an endpoint takes {MOST_VARIANTS}; remove some, or "
            f"use mode "
            "= 'multi_model'"
        )
    names = [variant.name for variant in variants]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise wrong("hosting.variants.name", twice, "given twice; give each variant a name of its own")
    if variants and not sum(variant.weight for variant in variants):
        raise ConfigurationError(
            "hosting.variants all have weight 0, so none gets a request; give one of them a weight"
        )


def _check_shadow(hosting: RealtimeHosting) -> None:
    shadow = hosting.shadow
    if shadow is None:
        return
    # Source: API reference, CreateEndpointConfig.ShadowProductionVariants.
    if len(hosting.variants) > 1:
        raise ConfigurationError(
            f"hosting.shadow needs exactly one production variant, and hosting.variants has {len(hosting.variants)}; "
            "keep one of them, or remove [hosting.shadow]"
        )
    if shadow.name in {variant.name for variant in hosting.variants} | {"primary"}:
        raise wrong("hosting.shadow.name", shadow.name, "the production variant's; choose another, such as 'shadow'")


def _check_serverless(stage: Stage, hosting: ServerlessHosting) -> None:
    # Source: SageMaker guide, serverless endpoints, feature exclusions.
    if stage.network is not None:
        raise ConfigurationError(
            "[network] does not go with hosting.mode='serverless', which runs in no VPC; remove it, or choose mode "
            "'realtime' or 'async'"
        )
    provisioned = hosting.provisioned_concurrency
    if provisioned is not None and provisioned > hosting.max_concurrency:
        raise wrong(
            "hosting.provisioned_concurrency",
            provisioned,
            f"more than max_concurrency = {hosting.max_concurrency}; raise that, or lower it",
        )


def _check_component(hosting: ComponentHosting) -> None:
    copies, scaling = hosting.copies, hosting.scaling
    if copies.max_memory_mib is not None and copies.max_memory_mib < copies.min_memory_mib:
        raise wrong(
            "hosting.copies.max_memory_mib",
            copies.max_memory_mib,
            f"less than min_memory_mib = {copies.min_memory_mib}; raise it, or leave it out",
        )
    if hosting.min_instances > hosting.max_instances:
        raise wrong(
            "hosting.min_instances",
            hosting.min_instances,
            f"more than max_instances = {hosting.max_instances}; exchange the two",
        )
    if scaling is not None:
        scaling_rules.check(scaling)
    if scaling is not None and copies.count > scaling.max_copies:
        raise wrong(
            "hosting.copies.count",
            copies.count,
            f"what it starts with, and scaling keeps at most {scaling.max_copies}; lower it, or leave it out",
        )
    # SageMaker releases an instance only when no copy is on it.
    if hosting.min_instances == 0 and (scaling is None or fewest(scaling) > 0):
        raise wrong(
            "hosting.min_instances",
            0,
            "never reached while a copy is kept; write [hosting.scaling] with min_copies = 0, or min_instances = 1",
        )
    names = [adapter.name for adapter in hosting.adapters]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise wrong("hosting.adapters.name", twice, "given twice; give each adapter a name of its own")
