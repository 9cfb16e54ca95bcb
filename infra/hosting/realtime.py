"""`mode = "realtime"`: instances that are always on and answer `invoke_endpoint`."""

from __future__ import annotations

from constructs import Construct

from tidegate.infra.configuration.hosting import RealtimeHosting
from tidegate.infra.hosting.autoscaling import CONCURRENT_REQUESTS
from tidegate.infra.hosting.capture import data_capture
from tidegate.infra.hosting.deployment import Deployment
from tidegate.infra.hosting.endpoint import SCRAPED, Endpoint
from tidegate.infra.hosting.shadow import shadow_variant
from tidegate.infra.hosting.variant_plans import StartTimeouts, plans, smallest_fleet
from tidegate.infra.hosting.variants import BY_LOAD, production_variant


class RealtimeEndpoint(Endpoint):
    """One variant or several with their weights, perhaps a shadow, and what was asked and answered if wanted."""

    def __init__(self, scope: Construct, id_: str, *, hosting: RealtimeHosting, deployment: Deployment) -> None:
        super().__init__(scope, id_, deployment=deployment)
        variants = plans(hosting)
        starts = StartTimeouts.of(hosting, deployment.size_gib)
        models = [deployment.model_of(variant.name) for variant in variants]
        shadows = []
        if hosting.shadow is not None:
            shadow_model = deployment.model_of(hosting.shadow.name)
            models.append(shadow_model)
            shadows.append(
                shadow_variant(
                    hosting.shadow,
                    production=variants[0],
                    model_name=shadow_model.name,
                    hosting=hosting,
                    starts=starts,
                    size_gib=deployment.size_gib,
                )
            )
        capture = hosting.capture
        self._configure(
            [
                production_variant(
                    variant,
                    model_name=deployment.model_of(variant.name).name,
                    hosting=hosting,
                    starts=starts,
                    size_gib=deployment.size_gib,
                    routing_config=BY_LOAD,
                )
                for variant in variants
            ],
            models=models,
            shadow_production_variants=shadows or None,
            data_capture_config=None
            if capture is None
            else data_capture(capture, bucket=deployment.bucket, key_arn=deployment.key_arn),
            metrics_config=SCRAPED,
        )
        scaling = hosting.scaling
        self._serve_variants(
            variants,
            rollout=hosting.rollout,
            starts=starts,
            smallest_fleet=smallest_fleet(hosting),
            keep_instance_counts=scaling is not None,
        )
        if scaling is not None:
            for variant in variants:
                self._instances(variant.name, scaling).track(CONCURRENT_REQUESTS, target=scaling.concurrent_requests)
        self.model_name = models[0].name
        self.writes_below = () if capture is None else (capture.prefix,)
