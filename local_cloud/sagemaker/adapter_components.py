"""Adapter inference components: they run nothing, and change what another component answers.

What the platform does between CreateInferenceComponent with a BaseInferenceComponentName and the container: the archive
is downloaded and unpacked, the container is told of it by ``POST /adapters``, and a request to the adapter goes to the
base with its name in a header. AWS has no public page for the container's side; the paths, members and the header are
those of its ``model-hosting-container-standards``. Where in the container the files lie is not known either: here in
``/opt/ml/adapters``, which TIDEGATE_ADAPTERS_DIR of the container's environment says.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

from tidegate.local_cloud.sagemaker.archive import ModelDataError, fetch_model_data
from tidegate.local_cloud.sagemaker.container import ContainerRunner
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer
from tidegate.local_cloud.sagemaker.container_client import ContainerClient
from tidegate.local_cloud.sagemaker.creation_rules import check_archive
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_exception
from tidegate.local_cloud.sagemaker.fleet import ADAPTERS
from tidegate.local_cloud.sagemaker.kept_rooms import CUT_OFF
from tidegate.local_cloud.sagemaker.roles import Roles
from tidegate.local_cloud.sagemaker.state import Identity, Json, now

logger = logging.getLogger(__name__)

IDENTIFIER = "X-Amzn-SageMaker-Adapter-Identifier"
_TIMEOUT_S = 300.0
_SHOWN_CHARS = 1000


class _Refused(Exception):
    """The adapter cannot be had, or its base does not take it; the text is a failure reason."""


@dataclass(slots=True, kw_only=True)
class AdapterComponent:
    """One adapter's plain state."""

    name: str
    arn: str
    endpoint: str
    base: str
    specification: Json
    created: datetime
    modified: datetime
    role_arn: str | None = None
    status: str = "Creating"
    failure_reason: str | None = None

    @property
    def summary(self) -> Json:
        """As :class:`.inference_components.Component` has it from its server."""
        return {
            "EndpointStatus": self.status,
            "LastModifiedTime": self.modified,
            **({"FailureReason": self.failure_reason} if self.failure_reason else {}),
        }


@dataclass(slots=True, kw_only=True)
class AdapterComponents:
    """All adapters of this SageMaker, by name, each brought to whatever container runs its base."""

    KEPT: ClassVar[tuple[str, ...]] = ("_adapters",)

    roles: Roles
    runner: ContainerRunner
    identity: Identity
    _adapters: dict[str, AdapterComponent] = field(default_factory=dict)
    _workers: list[threading.Thread] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, request: Json, *, servers: Endpoints, running: bool, role_arn: str | None) -> None:
        """Begins to bring an adapter to its base; ``running``: whether that has a copy. ``role_arn`` reads it."""
        specification = request["Specification"]
        name, moment = request["InferenceComponentName"], now()
        _check(name, specification)
        adapter = AdapterComponent(
            name=name,
            arn=self.identity.arn("inference-component", name),
            endpoint=request["EndpointName"],
            base=specification["BaseInferenceComponentName"],
            specification=specification,
            created=moment,
            modified=moment,
            role_arn=role_arn,
        )
        with self._lock:
            self._adapters[name] = adapter
        self._begin(adapter, servers, running=running)

    def update(self, adapter: AdapterComponent, specification: Json, *, servers: Endpoints, running: bool) -> None:
        """Another archive in the place of the one that is there."""
        _check(adapter.name, specification)
        if specification.get("BaseInferenceComponentName", adapter.base) != adapter.base:
            raise validation_exception(f"The base of inference component {adapter.name} cannot be changed.")
        with self._lock:
            adapter.specification, adapter.status, adapter.failure_reason = specification, "Updating", None
            adapter.modified = now()
        self._begin(adapter, servers, running=running)

    def delete(self, adapter: AdapterComponent, *, servers: Endpoints, running: bool) -> None:
        """Takes it from the base; it takes no request any more when this returns."""
        with self._lock:
            self._adapters.pop(adapter.name, None)
        if running:
            try:
                self._with_base(adapter, servers, lambda client, _: _unregister(client, adapter.name))
            except _Refused as error:  # its base is gone, or going
                logger.info("adapter %s: %s", adapter.name, error)

    def find(self, name: str) -> AdapterComponent | None:
        """The adapter of that name."""
        with self._lock:
            return self._adapters.get(name)

    def all(self) -> list[AdapterComponent]:
        """Every adapter."""
        with self._lock:
            return list(self._adapters.values())

    def of_base(self, base: str) -> list[AdapterComponent]:
        """The adapters of one component."""
        return [adapter for adapter in self.all() if adapter.base == base]

    def ready(self, base: str, client: ContainerClient, base_dir: Path) -> None:
        """Brings the adapters of ``base`` to a container that has just become healthy, before it takes requests."""
        for adapter in self.of_base(base):
            try:
                self._bring(adapter, client, base_dir)
            except _Refused as error:
                logger.warning("adapter %s of %s: %s", adapter.name, base, error)

    def resume(self) -> list[str]:
        """After a restart a base is made ready with its adapters; one that was just being brought has failed."""
        lost = []
        for adapter in self.all():
            if adapter.status in ("Creating", "Updating"):
                adapter.status, adapter.failure_reason, adapter.modified = "Failed", CUT_OFF, now()
                lost.append(
                    f"inference component {adapter.name} was being brought to {adapter.base}, and is Failed now"
                )
        return lost

    def close(self) -> None:
        """Waits for what is being brought; the bases end by themselves."""
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.join()

    def _begin(self, adapter: AdapterComponent, servers: Endpoints, *, running: bool) -> None:
        worker = threading.Thread(
            target=self._settle, args=(adapter, servers, running), name=f"adapter {adapter.name}", daemon=True
        )
        with self._lock:
            self._workers = [other for other in self._workers if other.is_alive()] + [worker]
        worker.start()

    def _settle(self, adapter: AdapterComponent, servers: Endpoints, running: bool) -> None:
        """Registers the adapter where its base runs. Without a copy it is only kept, for the first one."""
        reason = None
        try:
            if running:
                self._with_base(adapter, servers, lambda client, directory: self._bring(adapter, client, directory))
        except _Refused as error:
            reason = str(error)
        with self._lock:
            adapter.status = "InService" if reason is None else "Failed"
            adapter.failure_reason, adapter.modified = reason, now()

    @staticmethod
    def _with_base(adapter: AdapterComponent, servers: Endpoints, act: Callable[[ContainerClient, Path], None]) -> None:
        try:
            # A copy that is being replaced is made ready with all adapters.
            with servers.lease_all(adapter.base) as copies:
                for client, base_dir in copies:
                    if isinstance(client, ContainerClient):  # a component has one container
                        act(client, base_dir)
        except ServiceError as error:
            raise _Refused(error.message) from error

    def _bring(self, adapter: AdapterComponent, client: ContainerClient, base_dir: Path) -> None:
        directory = base_dir / ADAPTERS / adapter.name
        _unregister(client, adapter.name)
        shutil.rmtree(directory, ignore_errors=True)
        try:
            s3 = partial(self.roles.client, "s3", adapter.role_arn)
            fetch_model_data(s3, {"ModelDataUrl": adapter.specification["Container"]["ArtifactUrl"]}, directory)
        except ModelDataError as error:
            raise _Refused(str(error)) from error
        wanted = {
            "name": adapter.name,
            "src": self.runner.path_inside(base_dir, directory),
            "preload": True,
            "pin": False,
        }
        headers = {"Content-Type": "application/json"}
        body = json.dumps(wanted).encode()
        try:
            answer = client.call("POST", "/adapters", headers=headers, body=body, timeout_s=_TIMEOUT_S)
        except NoAnswer as error:
            raise _Refused(f"The base gave no answer to the registration of the adapter: {error}") from error
        if answer.status >= 300:
            said = answer.body.decode(errors="replace")[:_SHOWN_CHARS]
            raise _Refused(f"The base answered the registration of the adapter with {answer.status}: {said}")


def _check(name: str, specification: Json) -> None:
    """API reference, InferenceComponentSpecification: an adapter has an artifact, and nothing that would run it."""
    if "ArtifactUrl" not in specification.get("Container", {}):
        raise validation_exception(f"Inference component {name} is an adapter and needs Container.ArtifactUrl.")
    check_archive("ArtifactUrl", specification["Container"]["ArtifactUrl"])
    for member in ("ModelName", "ComputeResourceRequirements", "StartupParameters"):
        if member in specification:
            raise validation_exception(f"Inference component {name} is an adapter, which excludes {member}.")
    if "Image" in specification["Container"]:
        raise validation_exception(f"Inference component {name} is an adapter, which excludes Container.Image.")


def _unregister(client: ContainerClient, name: str) -> None:
    """Takes an adapter away where it is; a container that does not know it says so."""
    try:
        client.call("DELETE", f"/adapters/{name}", headers={}, timeout_s=_TIMEOUT_S)
    except NoAnswer as error:
        logger.info("adapter %s: %s", name, error)
