"""Inference components: models with copies of their own behind one endpoint, which itself runs nothing.

A copy of a component is a server. Starting, updating, scaling and stopping them are those of an endpoint with one
variant, whose instances are the copies, so another :class:`Endpoints` does them; without copies there is none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar

from tidegate.local_cloud.sagemaker.adapter_components import IDENTIFIER, AdapterComponent, AdapterComponents
from tidegate.local_cloud.sagemaker.container_answers import PRIMARY
from tidegate.local_cloud.sagemaker.creation_rules import check_archive
from tidegate.local_cloud.sagemaker.endpoints import Endpoints
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_error, validation_exception
from tidegate.local_cloud.sagemaker.fleet import Plan, VariantPlan
from tidegate.local_cloud.sagemaker.leases import Lease
from tidegate.local_cloud.sagemaker.state import Identity, Json, Model, Tags, now, page

FindModel = Callable[[str], Model]


class NoCapacity(ServiceError):
    """The component has no copy; the runtime's ValidationError."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationError", message)


@dataclass(slots=True, kw_only=True)
class Component:
    """One component's plain state; what runs is in the room of its name in :class:`Endpoints`, if it has copies.

    ``specification`` counts while it has none: what runs may be an older one, where an update failed.
    """

    name: str
    arn: str
    endpoint: str
    variant: str
    specification: Json
    copies: int
    created: datetime
    modified: datetime
    deleting: bool = False


@dataclass(slots=True, kw_only=True)
class InferenceComponents:
    """All components of this SageMaker. ``servers`` runs them and belongs to this class alone."""

    KEPT: ClassVar[tuple[str, ...]] = ("_components",)

    identity: Identity
    tags: Tags
    servers: Endpoints
    endpoints: Endpoints
    find_model: FindModel
    adapters: AdapterComponents
    _components: dict[str, Component] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, request: Json) -> Json:
        name, endpoint = request["InferenceComponentName"], request["EndpointName"]
        if "BaseInferenceComponentName" in request.get("Specification", {}):
            return self._create_adapter(request)
        variants = self.endpoints.component_variants(endpoint)
        variant = request.get("VariantName") or (variants[0] if variants else "")
        if variant not in variants:
            raise validation_exception(
                f"Endpoint {endpoint} has no variant {variant} for inference components; such a variant names no model."
            )
        if "Specification" not in request or "RuntimeConfig" not in request:
            raise validation_exception(f"Inference component {name} needs Specification and RuntimeConfig.")
        arn = self.identity.arn("inference-component", name)
        with self._lock:
            if self._present(name) is not None or self.adapters.find(name) is not None:
                raise validation_exception(f'Cannot create already existing inference component "{arn}".')
            moment = now()
            component = Component(
                name=name,
                arn=arn,
                endpoint=endpoint,
                variant=variant,
                specification=request["Specification"],
                copies=request["RuntimeConfig"]["CopyCount"],
                created=moment,
                modified=moment,
            )
            plan = self._plan(component, component.specification, component.copies)
            if component.copies:
                self.servers.create(name, plan)
            self._components[name] = component
        self.tags.add(arn, request.get("Tags", []))
        return {"InferenceComponentArn": arn}

    def update(self, request: Json) -> Json:
        """UpdateInferenceComponent; a new specification starts beside the old one, which serves until then."""
        with self._lock:
            if (adapter := self.adapters.find(request["InferenceComponentName"])) is not None:
                return self._update_adapter(adapter, request)
            component = self._find(request["InferenceComponentName"])
            self._demand_rest(component)
            before = self._specification(component)
            wanted = request.get("Specification", before)
            copies = request.get("RuntimeConfig", {}).get("CopyCount", component.copies)
            plan = self._plan(component, wanted, copies, request.get("DeploymentConfig"))
            if copies and component.copies and wanted != before:
                self.servers.update(component.name, plan)
            elif copies and component.copies and copies != component.copies:
                self._resize(component, copies)
            self._settle_copies(component, copies, wanted)
            return {"InferenceComponentArn": component.arn}

    def update_copies(self, request: Json) -> Json:
        """UpdateInferenceComponentRuntimeConfig."""
        with self._lock:
            component = self._find(request["InferenceComponentName"])
            self._demand_rest(component)
            copies = request["DesiredRuntimeConfig"]["CopyCount"]
            if copies and component.copies and copies != component.copies:
                self._resize(component, copies)
            self._settle_copies(component, copies, self._specification(component))
            return {"InferenceComponentArn": component.arn}

    def describe(self, request: Json) -> Json:
        with self._lock:
            if (adapter := self.adapters.find(request["InferenceComponentName"])) is not None:
                reason = {"FailureReason": adapter.failure_reason} if adapter.failure_reason else {}
                return {**self._adapter_summary(adapter), "Specification": adapter.specification, **reason}
            component = self._find(request["InferenceComponentName"])
            server = self.servers.find(component.name) or {}
            given = self._specification(component)
            specification = {name: value for name, value in given.items() if name != "Container"}
            container = given.get("Container")
            if container is not None:
                image = container["Image"]
                deployed = {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": component.created}
                kept = {name: value for name, value in container.items() if name != "Image"}
                specification["Container"] = {**kept, "DeployedImage": deployed}
            running = sum(each["CurrentInstanceCount"] for each in server.get("ProductionVariants", ()))
            told: Json = {
                member: server[member] for member in ("FailureReason", "LastDeploymentConfig") if member in server
            }
            return {
                **self._summary(component, server),
                "Specification": specification,
                "RuntimeConfig": {"DesiredCopyCount": component.copies, "CurrentCopyCount": running},
                **told,
            }

    def listing(self, request: Json) -> Json:
        with self._lock:
            summaries = [
                self._summary(component, self.servers.find(component.name) or {})
                for component in self._all()
                if request.get("EndpointNameEquals", component.endpoint) == component.endpoint
                and request.get("VariantNameEquals", component.variant) == component.variant
            ]
            summaries += [
                found
                for found in map(self._adapter_summary, self.adapters.all())
                if request.get("EndpointNameEquals", found["EndpointName"]) == found["EndpointName"]
                and request.get("VariantNameEquals", found["VariantName"]) == found["VariantName"]
            ]
        items, token = page(
            summaries, request, name_key="InferenceComponentName", status_key="InferenceComponentStatus"
        )
        return {"InferenceComponents": items} | ({"NextToken": token} if token else {})

    def delete(self, request: Json) -> Json:
        """Its server ends in the background; it is gone when that is."""
        with self._lock:
            if (adapter := self.adapters.find(request["InferenceComponentName"])) is not None:
                _demand_settled(adapter)
                self.adapters.delete(adapter, servers=self.servers, running=self._runs(adapter.base))
                self.tags.forget(adapter.arn)
                return {}
            component = self._find(request["InferenceComponentName"])
            self._demand_rest(component)
            if theirs := self.adapters.of_base(component.name):
                names = ", ".join(adapter.name for adapter in theirs)
                raise validation_exception(f"Inference component {component.name} is the base of {names}.")
            server = self.servers.find(component.name)
            if server is not None and server["EndpointStatus"] != "Deleting":  # as it is after a change to no copies
                self.servers.delete(component.name)
            component.deleting = True
            self.tags.forget(component.arn)
        return {}

    @contextmanager
    def lease(self, endpoint: str, name: str, *, belongs_to: str | None = None) -> Iterator[Lease]:
        """Holds a copy of the component for one request, of an adapter one of its base.

        Raises the runtime's ValidationError when there is none.
        """
        headers: dict[str, str] = {}
        with self._lock:
            if (adapter := self.adapters.find(name)) is not None and adapter.endpoint == endpoint:
                if adapter.status not in {"InService", "Updating"}:
                    said = f"Inference component {name} is not InService: its status is {adapter.status}."
                    raise validation_error(said)
                headers, name = {IDENTIFIER: name}, adapter.base
            component = self._present(name)
            if component is None or component.endpoint != endpoint:
                raise validation_error(f"Inference component {name} of endpoint {endpoint} not found.")
            copies = component.copies
        if not copies:
            raise NoCapacity(
                "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress"
                " (if configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig"
                " API."
            )
        with self.servers.lease(name, target_variant=None, belongs_to=belongs_to) as lease:
            yield replace(lease, headers=headers)

    def of_endpoint(self, endpoint: str) -> list[str]:
        with self._lock:
            adapters = [adapter.name for adapter in self.adapters.all() if adapter.endpoint == endpoint]
            return [*adapters, *(component.name for component in self._all() if component.endpoint == endpoint)]

    def arns(self) -> set[str]:
        with self._lock:
            return {component.arn for component in self._all()} | {adapter.arn for adapter in self.adapters.all()}

    def _create_adapter(self, request: Json) -> Json:
        """A component that changes what its base answers, and has no copies of its own."""
        name, base_name = request["InferenceComponentName"], request["Specification"]["BaseInferenceComponentName"]
        arn = self.identity.arn("inference-component", name)
        with self._lock:
            if self._present(name) is not None or self.adapters.find(name) is not None:
                raise validation_exception(f'Cannot create already existing inference component "{arn}".')
            base = self._find(base_name)
            if base.endpoint != request["EndpointName"]:
                raise validation_exception(f"Inference component {base_name} is of endpoint {base.endpoint}.")
            self._demand_rest(base)
            self.adapters.create(
                request,
                servers=self.servers,
                running=self._runs(base_name),
                role_arn=self.endpoints.role_of(base.endpoint),
            )
        self.tags.add(arn, request.get("Tags", []))
        return {"InferenceComponentArn": arn}

    def _update_adapter(self, adapter: AdapterComponent, request: Json) -> Json:
        _demand_settled(adapter)
        wanted = request.get("Specification", adapter.specification)
        self.adapters.update(adapter, wanted, servers=self.servers, running=self._runs(adapter.base))
        return {"InferenceComponentArn": adapter.arn}

    def _adapter_summary(self, adapter: AdapterComponent) -> Json:
        base = self._components[adapter.base]
        return {
            "InferenceComponentName": adapter.name,
            "InferenceComponentArn": adapter.arn,
            "EndpointName": adapter.endpoint,
            "EndpointArn": self.identity.arn("endpoint", adapter.endpoint),
            "VariantName": base.variant,
            "InferenceComponentStatus": adapter.status,
            "CreationTime": adapter.created,
            "LastModifiedTime": adapter.modified,
        }

    def _runs(self, name: str) -> bool:
        """Whether a component has a copy that an adapter could be brought to."""
        return self._components[name].copies > 0

    def _find(self, name: str) -> Component:
        component = self._present(name)
        if component is None:
            arn = self.identity.arn("inference-component", name)
            raise validation_exception(f'Could not find inference component "{arn}".')
        return component

    def _present(self, name: str) -> Component | None:
        """One that is being deleted is there until its server is not."""
        component = self._components.get(name)
        if component is not None and component.deleting and self.servers.find(name) is None:
            del self._components[name]
            return None
        return component

    def _all(self) -> list[Component]:
        found = [self._present(name) for name in list(self._components)]
        return [component for component in found if component is not None]

    def _demand_rest(self, component: Component) -> None:
        """Raises a ValidationException while the component is being changed."""
        server = self.servers.find(component.name)
        if component.copies and server is not None and _status(server) in ("Creating", "Updating", "Deleting"):
            raise validation_exception(f'Cannot update in-progress inference component "{component.arn}".')

    def _specification(self, component: Component) -> Json:
        plan = self.servers.plan(component.name) if component.copies else None
        return plan.specification or component.specification if plan is not None else component.specification

    def _settle_copies(self, component: Component, copies: int, specification: Json) -> None:
        if copies and not component.copies:
            if self.servers.find(component.name) is not None:
                raise validation_exception(f"The last copy of inference component {component.name} is still ending.")
            self.servers.create(component.name, self._plan(component, specification, copies))
        elif component.copies and not copies:
            self.servers.delete(component.name)
        component.copies, component.specification, component.modified = copies, specification, now()

    def _resize(self, component: Component, copies: int) -> None:
        wish = {"VariantName": component.variant, "DesiredInstanceCount": copies}
        self.servers.update_weights(component.name, [wish])

    def _plan(
        self, component: Component, specification: Json, copies: int, deployment_config: Json | None = None
    ) -> Plan:
        if "ModelName" in specification:
            model = self.find_model(specification["ModelName"])
            if model.several:
                raise validation_exception(
                    f"Inference component {component.name} names model {model.name}, which has several containers."
                )
        else:
            given = specification.get("Container", {})
            role = self.endpoints.role_of(component.endpoint)
            if "Image" not in given:
                raise validation_exception(f"Inference component {component.name} names neither a model nor an image.")
            container = {"Image": given["Image"], "Environment": given.get("Environment", {})}
            if "ArtifactUrl" in given:
                check_archive("ArtifactUrl", given["ArtifactUrl"])
                container["ModelDataUrl"] = given["ArtifactUrl"]
            model = Model(
                name=component.name,
                arn=component.arn,
                created=component.created,
                request={} if role is None else {"ExecutionRoleArn": role},
                containers={PRIMARY: container},
            )
        startup = specification.get("StartupParameters", {})
        # A copy that is idle is asked before one that works.
        routing = {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
        request = {
            "VariantName": component.variant,
            "InitialInstanceCount": copies,
            "RoutingConfig": routing,
            **startup,
        }
        variants = [VariantPlan(request=request, model=model)]
        return Plan(
            config_name=component.name,
            variants=variants,
            deployment_config=deployment_config,
            specification=specification,
        )

    def _summary(self, component: Component, server: Json) -> Json:
        return {
            "InferenceComponentName": component.name,
            "InferenceComponentArn": component.arn,
            "EndpointName": component.endpoint,
            "EndpointArn": self.identity.arn("endpoint", component.endpoint),
            "VariantName": component.variant,
            "InferenceComponentStatus": _status(server),
            "CreationTime": component.created,
            "LastModifiedTime": max(component.modified, server.get("LastModifiedTime", component.modified)),
        }


def _status(server: Json) -> str:
    """The status of a component; InferenceComponentStatus has no word for a roll-back, nor for one that failed."""
    status: str = server.get("EndpointStatus", "InService")
    return {"RollingBack": "Updating", "UpdateRollbackFailed": "Failed"}.get(status, status)


def _demand_settled(adapter: AdapterComponent) -> None:
    """Raises a ValidationException while the adapter is being brought to its base."""
    if adapter.status in {"Creating", "Updating"}:
        raise validation_exception(f'Cannot update in-progress inference component "{adapter.arn}".')
