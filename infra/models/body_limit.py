"""The largest request body that a stage's container takes: what the platform brings in its modes, and no more."""

from __future__ import annotations

from tidegate.inference.settings import MIB
from tidegate.infra.configuration import Stage

# Source: SageMaker, "Model Hosting FAQs" (25 MB for real-time endpoints, 4 MB for serverless ones) and "Asynchronous
# inference" (up to 1 GB). botocore's model still says 6 MB for all.
_BY_MODE = {
    "realtime": 25 * MIB,
    "component": 25 * MIB,
    "multi_model": 25 * MIB,
    "serverless": 4 * MIB,
    "async": 1024 * MIB,
}
# Source: CreateTransformJob, MaxPayloadInMB: at most 100, which is also the bound of its product with the concurrency.
_BATCH = 100 * MIB
_UNLIMITED = 1024 * MIB


def max_body_bytes(stage: Stage) -> int:
    """In bytes. An endpoint and the transform jobs of a stage share their model, so the larger of the two counts."""
    of_the_endpoint = _BY_MODE[stage.hosting.mode]
    if stage.batch is None:
        return of_the_endpoint
    # 0: no limit, bodies are sent in chunks.
    return max(of_the_endpoint, _UNLIMITED if stage.batch.max_payload_mib == 0 else _BATCH)
