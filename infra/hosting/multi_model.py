"""`mode = "multi_model"`: the archives below a prefix behind one endpoint, each loaded when it is first asked for."""

from __future__ import annotations

from constructs import Construct

from tidegate.infra.configuration.hosting import MultiModelHosting
from tidegate.infra.hosting.autoscaling import INVOCATIONS_PER_INSTANCE
from tidegate.infra.hosting.deployment import Deployment
from tidegate.infra.hosting.endpoint import SCRAPED, Endpoint
from tidegate.infra.hosting.variant_plans import StartTimeouts, only_plan, smallest_fleet
from tidegate.infra.hosting.variants import production_variant


class MultiModelEndpoint(Endpoint):
    """The model is the prefix; `TargetModel` of a request names the archive. A new archive needs no deploy.

    SageMaker sends a request to an instance that has its model, so the routing is not ours to choose. Transform jobs
    cannot run such a model.
    """

    def __init__(self, scope: Construct, id_: str, *, hosting: MultiModelHosting, deployment: Deployment) -> None:
        super().__init__(scope, id_, deployment=deployment)
        variant = only_plan(hosting.instance_type, hosting.instance_count)
        starts = StartTimeouts.of(hosting, deployment.size_gib)
        self._configure(
            [
                production_variant(
                    variant,
                    model_name=deployment.model.name,
                    hosting=hosting,
                    starts=starts,
                    size_gib=deployment.size_gib,
                )
            ],
            models=[deployment.model],
            metrics_config=SCRAPED,
        )
        scaling = hosting.scaling
        self._serve_variants(
            [variant],
            rollout=hosting.rollout,
            starts=starts,
            smallest_fleet=smallest_fleet(hosting),
            keep_instance_counts=scaling is not None,
        )
        if scaling is not None:
            self._instances(variant.name, scaling).track(
                INVOCATIONS_PER_INSTANCE, target=scaling.invocations_per_minute
            )
