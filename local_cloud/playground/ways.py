"""In which ways an endpoint can be asked: by weight, by variant, by target model, by container, by component."""

from __future__ import annotations

from tidegate.local_cloud.sagemaker.endpoints import INVOKABLE, Endpoints
from tidegate.local_cloud.sagemaker.fleet import VariantPlan
from tidegate.local_cloud.sagemaker.inference_components import InferenceComponents

MOST = 200
"""Models of a multi-model endpoint that the page offers."""

Way = tuple[str, dict[str, str]]
"""What the page calls it, and what a request says: ``variant``, ``model``, ``hostname`` or ``component``."""


def ways_of(name: str, status: str, endpoints: Endpoints, components: InferenceComponents) -> tuple[list[Way], str]:
    """The ways of one endpoint, and where there is none, why."""
    plan = endpoints.plan(name)
    if plan is None:
        return [], "It serves nothing."
    if status not in INVOKABLE:
        return [], f"It is {status}."
    if plan.async_config is not None:  # it has one variant, and takes nothing that chooses another
        return [("asynchronous", {})], ""
    if endpoints.takes_components(name):
        ways: list[Way] = [(f"component {each}", {"component": each}) for each in components.of_endpoint(name)]
        return ways, "" if ways else "It has no inference component yet."
    ways = []
    for variant in plan.variants:
        # Of one variant nothing need be said; of several, the first choice is the endpoint's own, by weight.
        said = {} if len(plan.variants) == 1 else {"variant": variant.name}
        ways += [(label, {**said, **more}) for label, more in _of_variant(name, variant, endpoints)]
    if len(plan.variants) > 1 and all(set(chosen) == {"variant"} for _, chosen in ways):
        ways.insert(0, ("by weight", {}))
    return ways, "" if ways else "There is no model below its prefix in S3."


def _of_variant(name: str, variant: VariantPlan, endpoints: Endpoints) -> list[Way]:
    if variant.model.multi_model:
        found = [
            instance.models.offered(MOST)
            for endpoint, group, instances in endpoints.running()
            if (endpoint, group) == (name, variant.name)
            for instance in instances[:1]
            if instance.models is not None
        ]
        return [(f"{variant.name}: {target}", {"model": target}) for targets in found for target in targets]
    if variant.model.direct:
        return [(f"{variant.name}: {hostname}", {"hostname": hostname}) for hostname in variant.model.containers]
    return [(variant.name, {})]
