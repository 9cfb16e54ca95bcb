"""The servers that run an endpoint: the instances of each production variant, started together or not at all."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tidegate.local_cloud.sagemaker.archive import ModelDataError, fetch_model_data
from tidegate.local_cloud.sagemaker.container import (
    DEFAULT_STARTUP_TIMEOUT_S,
    ContainerFailed,
    ContainerRunner,
    ContainerSpec,
)
from tidegate.local_cloud.sagemaker.container_client import ContainerClient
from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.instances import Instance, Instances
from tidegate.local_cloud.sagemaker.multi_model import ModelCache
from tidegate.local_cloud.sagemaker.pipeline import Chain
from tidegate.local_cloud.sagemaker.replica import Replica
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles, refused_image, role_of
from tidegate.local_cloud.sagemaker.state import Json, Model

ADAPTERS = "adapters"  # in what plays /opt/ml
SERVERLESS_STARTUP_TIMEOUT_S = 180.0  # "Serverless Inference": download and a good /ping within 3 minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantPlan:
    """What one production variant is to run."""

    request: Json
    model: Model

    @property
    def name(self) -> str:
        return str(self.request["VariantName"])

    @property
    def weight(self) -> float:
        return float(self.request.get("InitialVariantWeight", 1.0))

    @property
    def serverless(self) -> Json | None:
        """ServerlessConfig: here the same process, with the limits of serverless endpoints."""
        config: Json | None = self.request.get("ServerlessConfig")
        return config

    @property
    def instance_count(self) -> int:
        """InitialInstanceCount; a serverless one has none, and runs as one process."""
        return int(self.request.get("InitialInstanceCount", 1))

    @property
    def routing_strategy(self) -> str | None:
        """How requests are spread over the instances."""
        strategy: str | None = self.request.get("RoutingConfig", {}).get("RoutingStrategy")
        return strategy

    @property
    def startup_timeout_s(self) -> float:
        if self.serverless is not None:
            return SERVERLESS_STARTUP_TIMEOUT_S
        return float(self.request.get("ContainerStartupHealthCheckTimeoutInSeconds", DEFAULT_STARTUP_TIMEOUT_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an endpoint is to run: an endpoint configuration with the models that it names, as they were at the call.

    ``component_variants`` are those that name no model: inference components come to them, and they run nothing.
    ``specification`` is that of the inference component which is to run, ``role_arn`` what the configuration passes.
    """

    config_name: str
    variants: Sequence[VariantPlan]
    component_variants: Sequence[Json] = ()
    deployment_config: Json | None = None
    async_config: Json | None = None
    specification: Json | None = None
    shadow: VariantPlan | None = None
    capture_config: Json | None = None
    role_arn: str | None = None

    @property
    def all_variants(self) -> list[VariantPlan]:
        """What runs servers: the variants, and the shadow, which gets copies of their requests."""
        return [*self.variants, *([] if self.shadow is None else [self.shadow])]

    @property
    def requests(self) -> list[Json]:
        """Every variant as it was given, but the shadow."""
        return [*(variant.request for variant in self.variants), *self.component_variants]


def check_change(before: Plan, after: Plan) -> None:
    """Refuse what SageMaker makes of no endpoint by an update.

    Sources: "Update a serverless endpoint" in the developer guide; sagemaker-python-sdk#3124 for what it says of async.
    """
    if before.async_config and not after.async_config:
        raise validation_exception("The AsyncInferenceConfig parameter cannot be removed from this endpoint.")
    had_instances = not any(variant.serverless for variant in before.variants)
    if had_instances and any(variant.serverless for variant in after.variants):
        raise validation_exception("An endpoint with instances cannot be updated to a serverless one.")


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The running variants of one plan, with its shadow, and the private directory in which they live."""

    plan: Plan
    directory: Path
    variants: Mapping[str, Instances]

    def stop(self) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(self.variants))) as pool:
            list(pool.map(Instances.stop, self.variants.values()))
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass(slots=True, kw_only=True)
class FleetStarter:
    """Starts fleets. ``environment`` is what every container gets beside its model's own (unless it is isolated).

    ``ready`` is called with the name of the endpoint, or component, for each container that has become healthy; such
    containers have a directory for adapters. Of each variant ``most_instances`` run at most.
    """

    runner: ContainerRunner
    roles: Roles
    log_directory: Path
    environment: Mapping[str, str]
    most_instances: int
    ready: Callable[[str, ContainerClient, Path], None] | None = None
    _starting: set[Replica] = field(default_factory=set)
    _closing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, endpoint_name: str, plan: Plan, directory: Path, counts: Mapping[str, int]) -> Fleet:
        """Returns when every instance of every variant is healthy; ``counts`` says how many each has.

        Raises ModelDataError or ContainerFailed; then nothing is left.
        """
        variants = {
            variant.name: Instances(
                partial(self._start_instance, endpoint_name, variant, directory / variant.name),
                variant=variant.name,
                endpoint=endpoint_name,
                strategy=variant.routing_strategy,
                at_most=self.most_instances,
                log=self.log_directory / endpoint_name / f"{variant.name}.log",
            )
            for variant in plan.all_variants
        }
        fleet = Fleet(plan=plan, directory=directory, variants=variants)
        with ThreadPoolExecutor(max_workers=max(1, len(variants))) as pool:
            starts = [pool.submit(group.resize, counts[name]) for name, group in variants.items()]
        failure = next((start.exception() for start in starts if start.exception() is not None), None)
        if failure is not None:
            fleet.stop()
            raise failure
        return fleet

    def _start_instance(self, endpoint_name: str, variant: VariantPlan, home: Path, number: int) -> Instance:
        """All containers of one instance, started together or not at all."""
        model, directory = variant.model, home / str(number)
        # The first instance's log has the variant's name.
        called = variant.name if number == 1 else f"{variant.name}.instance-{number}"
        with ThreadPoolExecutor(max_workers=len(model.containers)) as pool:
            starts = {
                hostname: pool.submit(
                    self._start_container,
                    endpoint_name,
                    variant,
                    container,
                    # One container has the instance's directory to itself.
                    directory=directory / hostname if model.several else directory,
                    called=f"{called}.{hostname}" if model.several else called,
                )
                for hostname, container in model.containers.items()
            }
        failure = next((start.exception() for start in starts.values() if start.exception() is not None), None)
        if failure is not None:
            for start in starts.values():
                if start.exception() is None:
                    start.result().stop(0.0)
            shutil.rmtree(directory, ignore_errors=True)
            raise failure
        return Instance(
            number=number,
            chain=Chain(replicas={name: start.result() for name, start in starts.items()}, direct=model.direct),
            models=self._model_cache(variant, directory) if model.multi_model else None,
            directory=directory,
        )

    def _start_container(
        self, endpoint_name: str, variant: VariantPlan, container: Json, *, directory: Path, called: str
    ) -> Replica:
        base_dir = _base_dir(directory)
        log = self.log_directory / endpoint_name / f"{called}.log"
        role = role_of(variant.model)
        environment = self._environment(variant, container)
        if variant.model.multi_model:
            (base_dir / "models").mkdir(parents=True, exist_ok=True)
        else:
            try:
                fetch_model_data(partial(self.roles.client, "s3", role), container, base_dir / "model")
            except ModelDataError as error:
                raise ModelDataError(f"{error} (production variant {called})") from error
        replica = Replica(
            name=f"endpoint {endpoint_name}, variant {called}",
            runner=self.runner,
            spec=ContainerSpec(
                image=container["Image"],
                base_dir=base_dir,
                environment={
                    **environment,
                    **self._for_adapters(base_dir),
                    **container.get("Environment", {}),
                    **({"SAGEMAKER_MULTI_MODEL": "true"} if variant.model.multi_model else {}),
                },
                log=log,
            ),
            startup_timeout_s=variant.startup_timeout_s,
            ready=None if self.ready is None else partial(self.ready, endpoint_name),
        )
        with self._lock:
            if self._closing:
                raise ContainerFailed("the local cloud is shutting down")
            self._starting.add(replica)
        try:
            replica.start()
        except ContainerFailed as failure:
            raise ContainerFailed(f"{failure} (production variant {called}; log: {log})") from failure
        finally:
            with self._lock:
                self._starting.discard(replica)
        return replica

    def _environment(self, variant: VariantPlan, container: Json) -> Mapping[str, str]:
        """What the platform gives the container, with the credentials of its role.

        Raises ContainerFailed for a role that cannot be taken on, or that may not have the image.
        """
        role = role_of(variant.model)
        try:
            own = self.roles.environment(role)
            refused = refused_image(self.roles, role, container["Image"])
        except RoleNotAssumed as error:
            raise ContainerFailed(str(error)) from error
        if refused is not None:
            # The service's own sentence: https://github.com/aws/amazon-sagemaker-examples/issues/275
            raise ContainerFailed(
                f"Please make sure all images included in the model for the production variant {variant.name} exist,"
                f" and that the execution role used to create the model has permissions to access them. ({refused})"
            )
        return {} if variant.model.isolated else {**self.environment, **own}

    def _for_adapters(self, base_dir: Path) -> dict[str, str]:
        if self.ready is None:
            return {}
        (base_dir / ADAPTERS).mkdir(parents=True, exist_ok=True)
        return {"TIDEGATE_ADAPTERS_DIR": self.runner.path_inside(base_dir, base_dir / ADAPTERS)}

    def _model_cache(self, variant: VariantPlan, directory: Path) -> ModelCache:
        container = variant.model.container
        models = _base_dir(directory) / "models"
        return ModelCache(
            s3=partial(self.roles.client, "s3", role_of(variant.model)),
            prefix=container["ModelDataUrl"],
            directory=models,
            seen_as=self.runner.path_inside(_base_dir(directory), models),
            keep=container.get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled") == "Enabled",
        )

    def close(self) -> None:
        """Cancels what is starting; nothing starts any more."""
        with self._lock:
            self._closing = True
            starting = list(self._starting)
        for replica in starting:
            replica.stop(0.0)


def _base_dir(directory: Path) -> Path:
    """What plays ``/opt/ml`` in an instance's private directory."""
    return directory / "opt" / "ml"
