"""Inference components: models with copies of their own behind one endpoint, which itself runs nothing.

A component here is one server whatever its number of copies is, and none at zero copies. Starting, updating and
stopping it are those of an endpoint with one variant, so another :class:`Endpoints` does them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from local_cloud.sagemaker.endpoints import Endpoints, Lease
from local_cloud.sagemaker.errors import validation_error, validation_exception
from local_cloud.sagemaker.fleet import Plan, VariantPlan
from local_cloud.sagemaker.state import Identity, Json, Model, Tags, now, page

FindModel = Callable[[str], Model]


@dataclass(slots=True, kw_only=True)
class Component:
    """One component's plain state; what runs is in the room of its name in :class:`Endpoints`, if it has copies."""

    name: str
    arn: str
    endpoint: str
    variant: str
    specification: Json
    copies: int
    created: datetime
    modified: datetime


@dataclass(slots=True, kw_only=True)
class InferenceComponents:
    """All components of this SageMaker. ``servers`` runs them and belongs to this class alone."""

    identity: Identity
    tags: Tags
    servers: Endpoints
    endpoints: Endpoints
    find_model: FindModel
    _components: dict[str, Component] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, request: Json) -> Json:
        name, endpoint = request["InferenceComponentName"], request["EndpointName"]
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
            if name in self._components:
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
            plan = self._plan(component)
            self._components[name] = component
            if component.copies:
                self.servers.create(name, plan)
        self.tags.add(arn, request.get("Tags", []))
        return {"InferenceComponentArn": arn}

    def update(self, request: Json) -> Json:
        """UpdateInferenceComponent; a new specification starts beside the old one, which serves until then."""
        with self._lock:
            component = self._find(request["InferenceComponentName"])
            before = component.specification
            component.specification = request.get("Specification", before)
            try:
                plan = self._plan(component)
                copies = request.get("RuntimeConfig", {}).get("CopyCount", component.copies)
                if copies and component.copies and component.specification != before:
                    self.servers.update(component.name, plan)
            except BaseException:
                component.specification = before
                raise
            self._settle_copies(component, copies)
            return {"InferenceComponentArn": component.arn}

    def update_copies(self, request: Json) -> Json:
        """UpdateInferenceComponentRuntimeConfig."""
        with self._lock:
            component = self._find(request["InferenceComponentName"])
            self._settle_copies(component, request["DesiredRuntimeConfig"]["CopyCount"])
            return {"InferenceComponentArn": component.arn}

    def describe(self, request: Json) -> Json:
        with self._lock:
            component = self._find(request["InferenceComponentName"])
            server = self.servers.describe(component.name) if self.servers.exists(component.name) else {}
            specification = {name: value for name, value in component.specification.items() if name != "Container"}
            container = component.specification.get("Container")
            if container is not None:
                image = container["Image"]
                deployed = {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": component.created}
                kept = {name: value for name, value in container.items() if name != "Image"}
                specification["Container"] = {**kept, "DeployedImage": deployed}
            running = component.copies if server.get("EndpointStatus", "InService") in ("InService", "Updating") else 0
            reason = {"FailureReason": server["FailureReason"]} if "FailureReason" in server else {}
            return {
                **self._summary(component, server),
                "Specification": specification,
                "RuntimeConfig": {"DesiredCopyCount": component.copies, "CurrentCopyCount": running},
                **reason,
            }

    def listing(self, request: Json) -> Json:
        with self._lock:
            summaries = [
                self._summary(component, self.servers.describe(name) if self.servers.exists(name) else {})
                for name, component in self._components.items()
                if request.get("EndpointNameEquals", component.endpoint) == component.endpoint
                and request.get("VariantNameEquals", component.variant) == component.variant
            ]
        items, token = page(
            summaries, request, name_key="InferenceComponentName", status_key="InferenceComponentStatus"
        )
        return {"InferenceComponents": items} | ({"NextToken": token} if token else {})

    def delete(self, request: Json) -> Json:
        """Gone at once for those who ask; its server ends in the background."""
        with self._lock:
            component = self._find(request["InferenceComponentName"])
            if self.servers.exists(component.name):
                self.servers.delete(component.name)
            del self._components[component.name]
            self.tags.forget(component.arn)
        return {}

    @contextmanager
    def lease(self, endpoint: str, name: str) -> Iterator[Lease]:
        """Holds the component's server for one request. Raises the runtime's ValidationError when there is none."""
        with self._lock:
            component = self._components.get(name)
            if component is None or component.endpoint != endpoint:
                raise validation_error(f"Inference component {name} of endpoint {endpoint} not found.")
            copies = component.copies
        if not copies:
            raise validation_error(
                "Inference Component has no capacity to process this request. ApplicationAutoScaling may be in-progress"
                " (if configured) or try to increase the capacity by invoking UpdateInferenceComponentRuntimeConfig"
                " API."
            )
        with self.servers.lease(name, target_variant=None) as lease:
            yield lease

    def of_endpoint(self, endpoint: str) -> list[str]:
        with self._lock:
            return [component.name for component in self._components.values() if component.endpoint == endpoint]

    def arns(self) -> set[str]:
        with self._lock:
            return {component.arn for component in self._components.values()}

    def _find(self, name: str) -> Component:
        if name not in self._components:
            arn = self.identity.arn("inference-component", name)
            raise validation_exception(f'Could not find inference component "{arn}".')
        return self._components[name]

    def _settle_copies(self, component: Component, copies: int) -> None:
        if copies and not component.copies:
            if self.servers.exists(component.name):
                raise validation_exception(f"The last copy of inference component {component.name} is still ending.")
            self.servers.create(component.name, self._plan(component))
        elif component.copies and not copies:
            self.servers.delete(component.name)
        component.copies, component.modified = copies, now()

    def _plan(self, component: Component) -> Plan:
        specification = component.specification
        if "ModelName" in specification:
            model = self.find_model(specification["ModelName"])
        else:
            given = specification.get("Container", {})
            if "Image" not in given:
                raise validation_exception(f"Inference component {component.name} names neither a model nor an image.")
            container = {"Image": given["Image"], "Environment": given.get("Environment", {})}
            if "ArtifactUrl" in given:
                container["ModelDataUrl"] = given["ArtifactUrl"]
            model = Model(
                name=component.name, arn=component.arn, created=component.created, request={}, container=container
            )
        request = {"VariantName": component.variant, **specification.get("StartupParameters", {})}
        return Plan(config_name=component.name, variants=[VariantPlan(request=request, model=model)])

    def _summary(self, component: Component, server: Json) -> Json:
        return {
            "InferenceComponentName": component.name,
            "InferenceComponentArn": component.arn,
            "EndpointName": component.endpoint,
            "EndpointArn": self.identity.arn("endpoint", component.endpoint),
            "VariantName": component.variant,
            "InferenceComponentStatus": server.get("EndpointStatus", "InService"),
            "CreationTime": component.created,
            "LastModifiedTime": max(component.modified, server.get("LastModifiedTime", component.modified)),
        }
