"""Deployment guardrails as pure rules: which DeploymentConfig is refused, and the steps that one asks for.

Sources: DeploymentConfig, TrafficRoutingConfig, RollingUpdatePolicy, InferenceComponentRollingUpdatePolicy in the API
reference; "Blue/green deployments", "Rolling deployments" and "Exclusions" of deployment guardrails in the developer
guide (https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails.html).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.state import Json

DEFAULT_TIMEOUT_S = 28_800  # the largest MaximumExecutionTimeoutInSeconds; the default is not documented
_PERCENT = "CAPACITY_PERCENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The new fleet has this share of each variant's traffic after the step, which then bakes for ``bake_s``."""

    shares: Mapping[str, Fraction]
    bake_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """A rolling update: at most ``size`` instances at a time, ``rollback_size`` on the way back (None: all at once)."""

    size: int
    rollback_size: int | None
    bake_s: float


def check_deployment_config(config: Json, variants: Sequence[Json]) -> None:
    """Raises a ValidationException for a DeploymentConfig that contradicts itself, or that the variants exclude."""
    if "RollingUpdatePolicy" in config:
        if "BlueGreenUpdatePolicy" in config:
            raise validation_exception("A DeploymentConfig takes either BlueGreenUpdatePolicy or RollingUpdatePolicy.")
        if len(variants) > 1:
            raise validation_exception("RollingUpdatePolicy excludes an endpoint with several variants.")
        if any("ServerlessConfig" in variant for variant in variants):
            raise validation_exception("RollingUpdatePolicy excludes a serverless endpoint.")
        rolling = config["RollingUpdatePolicy"]
        _check_percent("MaximumBatchSize", rolling["MaximumBatchSize"], 5, 50)
        if "RollbackMaximumBatchSize" in rolling:
            _check_percent("RollbackMaximumBatchSize", rolling["RollbackMaximumBatchSize"], 1, 100)
    if "BlueGreenUpdatePolicy" in config:
        _check_routing(config["BlueGreenUpdatePolicy"])


def _check_routing(policy: Json) -> None:
    routing = policy["TrafficRoutingConfiguration"]
    kind = routing["Type"]
    members = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
    for of_kind, member in members.items():
        if (member in routing) != (kind == of_kind):
            says = "needs" if kind == of_kind else "takes no"
            raise validation_exception(f"TrafficRoutingConfiguration of Type {kind} {says} {member}.")
    if kind == "CANARY":
        _check_percent("CanarySize", routing["CanarySize"], 1, 50)
    if kind == "LINEAR":
        _check_percent("LinearStepSize", routing["LinearStepSize"], 10, 50)


def check_sizes(config: Json, counts: Mapping[str, int]) -> None:
    """Raises a ValidationException for sizes in instances, or a time-out, that do not fit the variants' ``counts``."""
    for member, size, least, most in _sizes(config):
        if _is_percent(size):
            continue
        for variant, count in counts.items():
            value = size["Value"]
            # Of a single one no batch is smaller; whether AWS then takes a batch of one is not verified.
            if member == "MaximumBatchSize" and value == count == 1:
                continue
            if not least * count <= 100 * value <= most * count:
                said = f"{least} to {most} percent" if least > 1 else f"at most {most} percent"
                raise validation_exception(
                    f"{member} is {value}; it must be {said} of the {count} that variant {variant} has."
                )
    most = max(counts.values(), default=1)
    rolling = batches(config, most)
    waits_s = sum(step.bake_s for step in shifts(config, counts))
    if rolling is not None:
        waits_s = math.ceil(most / rolling.size) * rolling.bake_s
    if timeout_s(config) <= waits_s:
        raise validation_exception(
            f"MaximumExecutionTimeoutInSeconds is {timeout_s(config):g}; it must be larger than all waits together,"
            f" which are {waits_s:g} seconds."
        )


def check_names(before: Sequence[str], after: Sequence[str]) -> None:
    """Raises a ValidationException where a DeploymentConfig meets variants of other names than those that serve."""
    if sorted(before) != sorted(after):
        raise validation_exception(
            "A DeploymentConfig needs variants of the same names in the old and the new configuration; they are"
            f" {', '.join(before)} and {', '.join(after)}."
        )


def shifts(config: Json, counts: Mapping[str, int]) -> list[Step]:
    """The steps of a blue/green update, which a config without a policy is too, all at once.

    What is documented of the last wait is that the old fleet is watched over and then goes; here that is
    TerminationWaitInSeconds.
    """
    policy = config.get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {})
    last = Step(shares=dict.fromkeys(counts, Fraction(1)), bake_s=float(policy.get("TerminationWaitInSeconds", 0)))
    size = routing.get("CanarySize") or routing.get("LinearStepSize")
    if size is None:
        return [last]
    parts = {variant: _part(size, count) for variant, count in counts.items()}
    steps = 2 if "CanarySize" in routing else max(math.ceil(1 / part) for part in parts.values())
    wait_s = float(routing["WaitIntervalInSeconds"])
    before = [
        Step(shares={variant: min(part * number, Fraction(1)) for variant, part in parts.items()}, bake_s=wait_s)
        for number in range(1, steps)
    ]
    return [*before, last]


def batches(config: Json, count: int) -> Batches | None:
    """How a rolling update of ``count`` instances goes; None for a config that asks for none."""
    rolling = config.get("RollingUpdatePolicy")
    if rolling is None:
        return None
    back = rolling.get("RollbackMaximumBatchSize")
    whole = back is None or (_is_percent(back) and back["Value"] == 100)
    return Batches(
        size=_instances(rolling["MaximumBatchSize"], count),
        rollback_size=None if whole or back is None else _instances(back, count),
        bake_s=float(rolling["WaitIntervalInSeconds"]),
    )


def moves_at_once(config: Json) -> bool:
    """Whether all traffic moves in one step."""
    routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    return "RollingUpdatePolicy" not in config and routing.get("Type", "ALL_AT_ONCE") == "ALL_AT_ONCE"


def timeout_s(config: Json) -> float:
    """How long a deployment may take in all."""
    policy = config.get("RollingUpdatePolicy") or config.get("BlueGreenUpdatePolicy") or {}
    return float(policy.get("MaximumExecutionTimeoutInSeconds", DEFAULT_TIMEOUT_S))


def alarm_names(config: Json) -> list[str]:
    """The alarms of which one in ALARM sends the new fleet back."""
    return [alarm["AlarmName"] for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", [])]


def _sizes(config: Json) -> list[tuple[str, Json, int, int]]:
    """The members that are a size, with the least and the most percent of the instances that one may be."""
    routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    rolling = config.get("RollingUpdatePolicy", {})
    known = (
        ("CanarySize", routing, 0, 50),
        ("LinearStepSize", routing, 10, 50),
        ("MaximumBatchSize", rolling, 5, 50),
        ("RollbackMaximumBatchSize", rolling, 0, 100),
    )
    return [(member, where[member], least, most) for member, where, least, most in known if member in where]


def _check_percent(member: str, size: Json, least: int, most: int) -> None:
    if _is_percent(size) and not least <= size["Value"] <= most:
        raise validation_exception(f"{member} is {size['Value']} percent; it must be {least} to {most}.")


def _is_percent(size: Json) -> bool:
    return bool(size["Type"] == _PERCENT)


def _part(size: Json, count: int) -> Fraction:
    """The share of the traffic that a part of a fleet of ``count`` gets."""
    return Fraction(size["Value"], 100 if _is_percent(size) else count)


def _instances(size: Json, count: int) -> int:
    """At most so many at a time, and one at least."""
    return max(1, count * size["Value"] // 100) if _is_percent(size) else int(size["Value"])
