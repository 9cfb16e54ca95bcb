"""Who answers a request to an endpoint: the fleet, the variant and the instance, and what a request holds of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tidegate.local_cloud.sagemaker.container_answers import NotTaken
from tidegate.local_cloud.sagemaker.endpoint_state import Endpoint
from tidegate.local_cloud.sagemaker.errors import validation_error
from tidegate.local_cloud.sagemaker.fleet import Fleet, VariantPlan
from tidegate.local_cloud.sagemaker.instances import Instance, Instances, NoInstance, session
from tidegate.local_cloud.sagemaker.invocation_metrics import Observation
from tidegate.local_cloud.sagemaker.multi_model import ModelCache
from tidegate.local_cloud.sagemaker.pipeline import Client
from tidegate.local_cloud.sagemaker.routing import choose_variant, happens
from tidegate.local_cloud.sagemaker.state import Json

_NEW_SESSION = "x-amzn-sagemaker-new-session-id"
_Outcome = TypeVar("_Outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A chosen variant with the connections to its containers, held while a request is in flight."""

    variant: VariantPlan
    client: Client
    logs: Mapping[str, Path]
    """By the container's name."""
    models: ModelCache | None
    base_dir: Path
    """What plays ``/opt/ml`` of the container that answers."""
    ended: Callable[[float], bool]
    """Whether the container has ended since; waits for that as many seconds as it is told."""

    remember: Callable[[str], None]
    """Keeps what it names (:mod:`.instances`) at this instance."""

    move: Callable[[], Mapping[str, Any]]
    """Holds another instance in the place of this one; what a lease says of it."""

    instances: int = 1
    """How many the variant has."""
    config: str = ""
    """The endpoint configuration that they run."""
    observed: Observation = field(default_factory=Observation)
    """What becomes metrics of this request."""
    capture_config: Json | None = None
    shadow: Instances | None = None
    """What is to get a copy of this request."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """What SageMaker itself says to the container, beside the caller's headers."""

    def note(self, answered: Mapping[str, str]) -> None:
        """Reads in the headers of an answer whether the container has opened a session, which stays with it."""
        if _NEW_SESSION in answered:
            self.remember(session(answered[_NEW_SESSION].partition(";")[0].strip()))

    def elsewhere(self) -> Lease:
        """The same at an instance that the request was not at yet, because this one has not taken it.

        Raises :class:`.NoInstance` where no other is there. In both cases this lease holds nothing any more.
        """
        return replace(self, **self.move())

    def log_of(self, container: str) -> Path:
        """The file of that container's output, where there are several, and else the only one."""
        return self.logs.get(container) or next(iter(self.logs.values()))


def leased(
    stack: ExitStack,
    endpoint: Endpoint,
    fleet: Fleet,
    *,
    target_variant: str | None,
    hostname: str | None,
    belongs_to: str | None,
) -> Lease:
    """Picks a variant by weight (or the one asked for) and an instance of it, which is held as long as ``stack``.

    Nobody else changes the endpoint meanwhile. Raises the runtime's ValidationError when there is none to pick, and
    NoInstance while a dead one is replaced.
    """
    weights = {each.name: endpoint.weights[each.name] for each in endpoint.plan.variants}
    variant = target_variant or choose_variant(weights)
    fleet = _chosen_fleet(endpoint, fleet, variant, belongs_to)
    plan = next((each for each in fleet.plan.variants if each.name == variant), None)
    if plan is None:
        raise validation_error(f"Variant {variant} of endpoint {endpoint.name} not found.")
    _check_hostname(endpoint.name, plan, hostname)
    group = fleet.variants[variant]
    holding = stack.enter_context(ExitStack())
    tried: set[Instance] = set()

    def move() -> Mapping[str, Any]:
        holding.close()
        instance, held = holding.enter_context(group.lease(hostname, belongs_to=belongs_to, but=tried))
        tried.add(instance)
        return {
            "client": held.client,
            "logs": instance.chain.logs,
            "models": instance.models,
            "base_dir": held.replica.base_dir,
            "ended": held.ended,
            "remember": partial(group.remember, instance=instance),
        }

    return Lease(
        variant=plan,
        **move(),
        move=move,
        instances=len(group.running),
        config=fleet.plan.config_name,
        capture_config=fleet.plan.capture_config,
        shadow=_shadow(endpoint, fleet),
    )


def first_taken(lease: Lease, ask: Callable[[Lease], _Outcome]) -> tuple[Lease, _Outcome]:
    """Asks at the instance of ``lease`` and, while none has taken the request, at the others; who answered, and what.

    Raises what ``ask`` raises: at the end :class:`.NotTaken`, where no instance is left.
    """
    while True:
        try:
            return lease, ask(lease)
        except NotTaken as failure:
            try:
                lease = lease.elsewhere()
            except NoInstance:
                raise failure from None


def _chosen_fleet(endpoint: Endpoint, fleet: Fleet, variant: str, belongs_to: str | None) -> Fleet:
    """The fleet that takes a request: during a deployment the new one as often as its share says.

    A session stays in the fleet that opened it.
    """
    new = endpoint.new_fleet
    if new is None or variant not in new.variants or variant not in fleet.variants:
        return fleet
    if belongs_to is not None and fleet.variants[variant].has_session(belongs_to):
        return fleet
    if belongs_to is not None and new.variants[variant].has_session(belongs_to):
        return new
    return new if happens(endpoint.shares.get(variant, 0.0)) else fleet


def _shadow(endpoint: Endpoint, fleet: Fleet) -> Instances | None:
    """The shadow variant, where it is to get a copy of a request: as often as the ratio of the weights says."""
    shadow = fleet.plan.shadow
    if shadow is None:
        return None
    weights = {each.name: endpoint.weights.get(each.name, each.weight) for each in fleet.plan.all_variants}
    production = sum(weight for name, weight in weights.items() if name != shadow.name)
    return fleet.variants[shadow.name] if production and happens(weights[shadow.name] / production) else None


def _check_hostname(name: str, variant: VariantPlan, hostname: str | None) -> None:
    """What a request must say of the container ("Invoke a multi-container endpoint with direct invocation")."""
    if not variant.model.direct:
        if hostname is not None:
            raise validation_error(
                f"Endpoint {name} is not configured for direct invocation, so a request must not have"
                " TargetContainerHostname."
            )
        return
    if hostname is None:
        raise validation_error(
            f"Endpoint {name} is configured for direct invocation: a request needs TargetContainerHostname."
        )
    if hostname not in variant.model.containers:
        known = ", ".join(variant.model.containers)
        raise validation_error(f"Endpoint {name} has no container {hostname}; there are {known}.")
