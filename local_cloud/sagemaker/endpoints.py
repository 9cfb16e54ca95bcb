"""Endpoints that really run: Creating → InService or Failed, updates that switch over only when the new one answers.

State changes of one endpoint are serial, because each is only accepted in a resting status (:func:`refusal`) and puts
the endpoint into a moving one (Creating, Updating, Deleting) until its worker thread is done. The lock guards the plain
state; everything slow happens outside it.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from tidegate.local_cloud.sagemaker import deployment_rules
from tidegate.local_cloud.sagemaker.archive import ModelDataError
from tidegate.local_cloud.sagemaker.container import ContainerFailed
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer
from tidegate.local_cloud.sagemaker.deployments import Deployments, RollbackFailed, SentBack
from tidegate.local_cloud.sagemaker.endpoint_state import Endpoint, adopt, counts_of, described, refusal, summary
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_error, validation_exception
from tidegate.local_cloud.sagemaker.fleet import Fleet, FleetStarter, Plan, check_change
from tidegate.local_cloud.sagemaker.instances import Instance, Instances
from tidegate.local_cloud.sagemaker.kept_rooms import CUT_OFF
from tidegate.local_cloud.sagemaker.leases import Lease, leased
from tidegate.local_cloud.sagemaker.pipeline import Client
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, role_of
from tidegate.local_cloud.sagemaker.state import Identity, Json, now

logger = logging.getLogger(__name__)

_FAILURE_REASON_CHARS = 1024  # DescribeEndpoint: FailureReason
INVOKABLE = frozenset({"InService", "Updating", "RollingBack", "UpdateRollbackFailed"})


@dataclass(slots=True, kw_only=True)
class Endpoints:
    """All endpoints of this SageMaker.

    Names are the same in capitals and small letters, except in requests to endpoints (CreateEndpoint, EndpointName).
    """

    KEPT: ClassVar[tuple[str, ...]] = ("_endpoints",)

    starter: FleetStarter
    identity: Identity
    directory: Path
    kind: str = "endpoint"  # the path segment of their ARNs
    before_gone: Callable[[str], None] = lambda _name: None
    """Is called with the name of an endpoint whose containers have ended, before it is no longer there."""
    deployments: Deployments = field(init=False)
    _endpoints: dict[str, Endpoint] = field(default_factory=dict)  # by the name in small letters
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _workers: list[threading.Thread] = field(default_factory=list)
    _closing: bool = False

    def __post_init__(self) -> None:
        self.deployments = Deployments(starter=self.starter, lock=self._lock)

    def create(self, name: str, plan: Plan) -> str:
        """Starts an endpoint and returns its ARN; its status tells how that went."""
        arn = self.identity.arn(self.kind, name)
        if plan.deployment_config is not None:
            deployment_rules.check_deployment_config(plan.deployment_config, plan.requests)
        with self._lock:
            if name.lower() in self._endpoints:
                raise validation_exception(f'Cannot create already existing {self._label} "{arn}".')
            moment = now()
            endpoint = Endpoint(
                name=name,
                arn=arn,
                created=moment,
                modified=moment,
                status="Creating",
                plan=plan,
                weights={},
                instance_counts={},
                current_counts={},
                last_deployment_config=plan.deployment_config,
            )
            adopt(endpoint, plan)
            self._endpoints[name.lower()] = endpoint
            self._begin(endpoint, self._bring_up, plan)
        return arn

    def update(self, name: str, plan: Plan, *, kept: Set[str] = frozenset(), again: bool = False) -> str:
        """Starts ``plan`` beside what runs, moves the traffic as its deployment config says, then stops the old one.

        ``kept`` names what stays as it is: DesiredWeight, DesiredInstanceCount, DataCaptureConfig.
        ``again``: with the deployment config of the last time, where the plan has none.
        """
        with self._lock:
            endpoint = self._find(name)
            self._demand(endpoint, "update")
            if "DataCaptureConfig" in kept:
                plan = replace(plan, capture_config=endpoint.plan.capture_config)
            if plan.deployment_config is None and again:
                plan = replace(plan, deployment_config=endpoint.last_deployment_config)
            if endpoint.fleet is not None:
                check_change(endpoint.fleet.plan, plan)
            if plan.deployment_config is not None:
                self._check_deployment(endpoint, plan, plan.deployment_config, kept)
                endpoint.last_deployment_config = plan.deployment_config
            endpoint.status, endpoint.failure_reason, endpoint.modified = "Updating", None, now()
            self._begin(endpoint, self._bring_up, plan, kept)
            return endpoint.arn

    @staticmethod
    def _check_deployment(endpoint: Endpoint, plan: Plan, config: Json, kept: Set[str]) -> None:
        deployment_rules.check_deployment_config(config, plan.requests)
        if "RollingUpdatePolicy" in config and plan.shadow is not None:
            raise validation_exception("RollingUpdatePolicy excludes an endpoint with a shadow variant.")
        after = [each["VariantName"] for each in plan.requests]
        deployment_rules.check_names([each["VariantName"] for each in endpoint.plan.requests], after)
        counts = counts_of(endpoint, plan, kept)
        deployment_rules.check_sizes(config, {each.name: counts[each.name] for each in plan.variants})
        if endpoint.status == "UpdateRollbackFailed" and not deployment_rules.moves_at_once(config):
            raise validation_exception(
                f'Endpoint "{endpoint.arn}" serves two configurations: an update of it moves all traffic at once.'
            )

    def update_weights(self, name: str, desired: Sequence[Json]) -> str:
        """Takes new weights for the named variants, and starts or stops instances until they have the counts asked for.

        A variant that takes inference components has only a count, which is described.
        """
        with self._lock:
            endpoint = self._find(name)
            self._demand(endpoint, "update")
            if endpoint.new_fleet is not None:
                raise validation_exception(
                    f'Endpoint "{endpoint.arn}" serves two configurations: update it to one of them first.'
                )
            if len({wish["VariantName"] for wish in desired}) < len(desired):
                raise validation_exception("DesiredWeightsAndCapacities names a variant twice.")
            for wish in desired:
                self._check_wish(endpoint, wish)
            before = dict(endpoint.weights), dict(endpoint.instance_counts)
            for wish in desired:
                variant = wish["VariantName"]
                if variant in endpoint.weights:
                    endpoint.weights[variant] = float(wish.get("DesiredWeight", endpoint.weights[variant]))
                counts = endpoint.instance_counts
                counts[variant] = int(wish.get("DesiredInstanceCount", counts[variant]))
            endpoint.status, endpoint.failure_reason, endpoint.modified = "Updating", None, now()
            self._begin(endpoint, self._resize, *before)
            return endpoint.arn

    @staticmethod
    def _check_wish(endpoint: Endpoint, wish: Json) -> None:
        variant = wish["VariantName"]
        if variant not in endpoint.instance_counts:
            raise validation_exception(f'Could not find variant "{variant}" for endpoint "{endpoint.arn}".')
        planned = next((each for each in endpoint.plan.all_variants if each.name == variant), None)
        if planned is None or "DesiredInstanceCount" not in wish:
            return
        if planned.serverless is not None:
            raise validation_exception(f"Variant {variant} is serverless, which excludes DesiredInstanceCount.")
        if wish["DesiredInstanceCount"] == 0 and endpoint.plan.async_config is None:
            raise validation_exception(
                f"DesiredInstanceCount of variant {variant} is 0, which only an asynchronous endpoint takes."
            )

    def delete(self, name: str) -> None:
        """Takes the endpoint out of traffic and stops it; it is gone when its containers are."""
        with self._lock:
            endpoint = self._find(name)
            self._demand(endpoint, "delete")
            endpoint.status, endpoint.modified = "Deleting", now()
            self._begin(endpoint, self._take_down, endpoint.worker)

    def arn(self, name: str) -> str:
        with self._lock:
            return self._find(name).arn

    def describe(self, name: str) -> Json:
        """The members of DescribeEndpoint."""
        with self._lock:
            return described(self._find(name))

    def summaries(self) -> list[Json]:
        """The members of ListEndpoints' summaries."""
        with self._lock:
            return [summary(endpoint) for endpoint in self._endpoints.values()]

    @contextmanager
    def lease(
        self,
        name: str,
        *,
        target_variant: str | None,
        hostname: str | None = None,
        belongs_to: str | None = None,
    ) -> Iterator[Lease]:
        """Picks a variant by weight (or the one asked for) and an instance of it, and holds that for one request.

        ``hostname`` names the container that is to answer, which a model with Mode Direct needs and no other takes;
        ``belongs_to`` names what is to stay at one instance (:mod:`.instances`).

        Raises the runtime's ValidationError when there is none to pick, and NoInstance while a dead one is replaced.
        """
        with ExitStack() as stack:
            with self._lock:
                endpoint, fleet = self._invokable(name)
                lease = leased(
                    stack, endpoint, fleet, target_variant=target_variant, hostname=hostname, belongs_to=belongs_to
                )
            yield lease

    @contextmanager
    def lease_all(self, name: str) -> Iterator[list[tuple[Client, Path]]]:
        """Every instance that takes requests, each with what plays ``/opt/ml`` there.

        Raises the runtime's ValidationError where the endpoint takes none.
        """
        with ExitStack() as stack:
            with self._lock:
                endpoint, _ = self._invokable(name)
                held = []
                for group in _groups(endpoint):
                    for instance in group.running:
                        with suppress(NoAnswer):  # one that is being replaced takes none
                            held.append(stack.enter_context(instance.chain.lease(None)))
            yield [(each.client, each.replica.base_dir) for each in held]

    def instance_count(self, name: str) -> int:
        """How many processes take the requests of an endpoint."""
        with self._lock:
            endpoint = self._called(name)
            groups = _groups(endpoint) if endpoint is not None else []
        return sum(len(group.running) for group in groups)

    def async_config(self, name: str) -> Json | None:
        """The AsyncInferenceConfig of an endpoint that takes only InvokeEndpointAsync; None for any other name."""
        with self._lock:
            endpoint = self._called(name)
            return endpoint.plan.async_config if endpoint is not None else None

    def role_of(self, name: str) -> str | None:
        """The role of what an endpoint runs: of its first model, else that of its configuration."""
        plan = self.plan(name)
        if plan is None:
            return None
        return role_of(plan.variants[0].model) if plan.variants else plan.role_arn

    def demand_invokable(self, name: str) -> None:
        """Raises the runtime's ValidationError for an endpoint that is not there or not in service."""
        with self._lock:
            self._invokable(name)

    def plan(self, name: str) -> Plan | None:
        """What an endpoint runs, or is starting where it runs nothing yet; None when there is none of that name."""
        with self._lock:
            endpoint = self._endpoints.get(name.lower())
            return endpoint.plan if endpoint is not None else None

    def find(self, name: str) -> Json | None:
        """The members of DescribeEndpoint; None when there is no endpoint of that name."""
        with self._lock:
            return described(self._endpoints[name.lower()]) if name.lower() in self._endpoints else None

    def component_variants(self, name: str) -> list[str]:
        """The variants of an endpoint to which inference components come."""
        with self._lock:
            return [variant["VariantName"] for variant in self._find(name).plan.component_variants]

    def takes_components(self, name: str) -> bool:
        """Whether requests to an endpoint must name an inference component."""
        with self._lock:
            endpoint = self._called(name)
            return endpoint is not None and bool(endpoint.plan.component_variants)

    def loaded_models(self, name: str) -> dict[str, list[str]]:
        """The opaque names of the models that each variant of a multi-model endpoint has loaded."""
        with self._lock:
            fleet = self._find(name).fleet
        return {
            variant: sorted({name for cache in caches for name in cache.loaded()})
            for variant, group in (fleet.variants.items() if fleet else ())
            if (caches := [instance.models for instance in group.running if instance.models is not None])
        }

    def restarts(self, name: str) -> dict[str, int]:
        """How often a container of each variant died in service and was replaced."""
        with self._lock:
            fleet = self._find(name).fleet
        return {variant: group.restarts for variant, group in fleet.variants.items()} if fleet else {}

    def exits(self) -> Json:
        """What died in service, by endpoint and variant: how often one was replaced, and the last exit."""
        with self._lock:
            fleets = {each.name: each.fleet for each in self._endpoints.values() if each.fleet is not None}
        found = {
            name: {
                variant: {"Restarts": group.restarts, "ExitCode": last.code, "ExitTime": last.moment.isoformat()}
                for variant, group in fleet.variants.items()
                if (last := group.last_exit) is not None
            }
            for name, fleet in fleets.items()
        }
        return {name: variants for name, variants in found.items() if variants}

    def processes(self, name: str) -> dict[str, int]:
        """How many instances of each variant run."""
        with self._lock:
            fleet = self._find(name).fleet
        return {variant: len(group.running) for variant, group in fleet.variants.items()} if fleet else {}

    def running(self) -> list[tuple[str, str, list[Instance]]]:
        """The instances that take requests, by endpoint and variant."""
        with self._lock:
            fleets = [(each.name, each.fleet) for each in self._endpoints.values() if each.fleet is not None]
        return [(name, variant, group.running) for name, fleet in fleets for variant, group in fleet.variants.items()]

    def resume(self) -> list[str]:
        """Starts again, after a restart, what was in service or coming into it, and goes on with deleting.

        An update that was cut off is given up: what served before it serves again.
        """
        lost = []
        with self._lock:
            for endpoint in list(self._endpoints.values()):
                if endpoint.status == "Deleting":
                    self._begin(endpoint, self._take_down, None)
                elif endpoint.status != "Failed":
                    is_mixed = endpoint.status == "UpdateRollbackFailed"  # two fleets, of which one plan is known
                    if is_mixed or (endpoint.pending is not None and endpoint.status != "Creating"):
                        endpoint.failure_reason = f"{CUT_OFF} The update was given up."
                        lost.append(f"{self._label} {endpoint.name} was being updated: what served before serves again")
                    endpoint.status, endpoint.pending, endpoint.new_fleet = "Creating", None, None
                    endpoint.shares, endpoint.current_counts = {}, {}
                    self._begin(endpoint, self._bring_up, endpoint.plan, {"DesiredWeight", "DesiredInstanceCount"})
        return lost

    def close(self) -> None:
        """Stops everything that runs or is starting; returns when nothing is left."""
        with self._lock:
            self._closing = True
            workers = list(self._workers)
        self.deployments.closing.set()
        self.starter.close()
        for worker in workers:
            worker.join()
        with self._lock:
            both = [fleet for endpoint in self._endpoints.values() for fleet in (endpoint.fleet, endpoint.new_fleet)]
            fleets = [fleet for fleet in both if fleet is not None]
        with ThreadPoolExecutor(max_workers=max(1, len(fleets))) as pool:
            list(pool.map(Fleet.stop, fleets))

    @property
    def _label(self) -> str:
        return self.kind.replace("-", " ")

    def _find(self, name: str) -> Endpoint:
        endpoint = self._endpoints.get(name.lower())
        if endpoint is None:
            raise validation_exception(f'Could not find {self._label} "{self.identity.arn(self.kind, name)}".')
        return endpoint

    def _called(self, name: str) -> Endpoint | None:
        """The endpoint that a request goes to: its name must match as it was given."""
        endpoint = self._endpoints.get(name.lower())
        return endpoint if endpoint is not None and endpoint.name == name else None

    def _invokable(self, name: str) -> tuple[Endpoint, Fleet]:
        endpoint = self._called(name)
        what = f"{self._label.capitalize()} {name} of account {self.identity.account}"
        if endpoint is None:
            raise validation_error(f"{what} not found.")
        if endpoint.status not in INVOKABLE or endpoint.fleet is None:
            raise validation_error(f"{what} is not InService: its status is {endpoint.status}.")
        return endpoint, endpoint.fleet

    def _demand(self, endpoint: Endpoint, change: str) -> None:
        reason = refusal(endpoint.status, change, self._label)
        if reason is not None:
            raise validation_exception(f'{reason} "{endpoint.arn}".')

    def _begin(self, endpoint: Endpoint, work: Any, *arguments: Any) -> None:
        if self._closing:
            raise ServiceError("ServiceUnavailable", "The local cloud is shutting down.", status=503)
        worker = threading.Thread(target=work, args=(endpoint, *arguments), name=f"endpoint {endpoint.name}")
        self._workers = [other for other in self._workers if other.is_alive()] + [worker]
        endpoint.worker = worker
        worker.start()

    def _bring_up(self, endpoint: Endpoint, plan: Plan, kept: Set[str] = frozenset()) -> None:
        """The worker of create and update."""
        with self._lock:
            endpoint.generation += 1
            directory = self.directory / endpoint.name / str(endpoint.generation)
            counts = counts_of(endpoint, plan, kept)

        def adopt_plan() -> None:
            adopt(endpoint, plan, kept)
            endpoint.instance_counts, endpoint.current_counts = dict(counts), dict(counts)
            endpoint.status, endpoint.modified = "InService", now()

        try:
            old = self.deployments.run(endpoint, plan, counts, directory=directory, adopt=adopt_plan)
        except (ModelDataError, ContainerFailed, RoleNotAssumed, SentBack, RollbackFailed) as failure:
            logger.warning("endpoint %s: %s", endpoint.name, failure)
            self._settle_failure(endpoint, str(failure))
            return
        except Exception as error:
            logger.exception("endpoint %s could not be started", endpoint.name)
            self._settle_failure(endpoint, _reason(error))
            return
        logger.info("endpoint %s is in service with %s", endpoint.name, plan.config_name)
        for fleet in old:
            fleet.stop()

    def _resize(self, endpoint: Endpoint, weights: dict[str, float], counts: dict[str, int]) -> None:
        """The worker of new counts. ``weights`` and ``counts`` are those before, which a failure brings back."""
        fleet = endpoint.fleet
        reason = self._resized(endpoint, fleet, endpoint.instance_counts) if fleet is not None else None
        if reason is not None and fleet is not None:
            logger.warning("endpoint %s: %s", endpoint.name, reason)
            with self._lock:
                endpoint.status, endpoint.weights, endpoint.instance_counts = "RollingBack", weights, counts
            self._resized(endpoint, fleet, counts)
        with self._lock:
            endpoint.status, endpoint.modified = "InService", now()
            endpoint.failure_reason = reason

    def _resized(self, endpoint: Endpoint, fleet: Fleet, counts: Mapping[str, int]) -> str | None:
        """Gives each variant its count; why that failed, where it did."""

        def resize(variant: str, group: Instances) -> None:
            group.resize(counts[variant])
            with self._lock:
                endpoint.current_counts[variant] = counts[variant]

        with ThreadPoolExecutor(max_workers=max(1, len(fleet.variants))) as pool:
            changes = [pool.submit(resize, variant, group) for variant, group in fleet.variants.items()]
        failure = next((change.exception() for change in changes if change.exception() is not None), None)
        return None if failure is None else _reason(failure)

    def _settle_failure(self, endpoint: Endpoint, reason: str) -> None:
        with self._lock:
            # A failed update leaves the old fleet serving, or both; a failed creation leaves nothing.
            mixed = "InService" if endpoint.new_fleet is None else "UpdateRollbackFailed"
            endpoint.status = "Failed" if endpoint.fleet is None else mixed
            endpoint.failure_reason = reason[:_FAILURE_REASON_CHARS]
            endpoint.modified = now()

    def _take_down(self, endpoint: Endpoint, predecessor: threading.Thread | None) -> None:
        """The worker of delete. ``predecessor``, the worker of the change before, may still stop an older fleet."""
        if predecessor is not None:
            predecessor.join()
        for fleet in (endpoint.fleet, endpoint.new_fleet):
            if fleet is not None:
                fleet.stop()
        self.before_gone(endpoint.name)
        shutil.rmtree(self.directory / endpoint.name, ignore_errors=True)
        with self._lock:
            del self._endpoints[endpoint.name.lower()]
        logger.info("endpoint %s is deleted", endpoint.name)


def _groups(endpoint: Endpoint) -> list[Instances]:
    """The instances of all variants, those of a fleet that is still getting its traffic too."""
    fleets = [fleet for fleet in (endpoint.fleet, endpoint.new_fleet) if fleet is not None]
    return [group for fleet in fleets for group in fleet.variants.values()]


def _reason(failure: BaseException) -> str:
    """What a FailureReason says of it."""
    said = str(failure)
    expected = isinstance(failure, ModelDataError | ContainerFailed | RoleNotAssumed | RollbackFailed)
    return (said if expected else f"{type(failure).__name__}: {said}")[:_FAILURE_REASON_CHARS]
