"""Images that SageMaker can pull."""

from __future__ import annotations

from tidegate.infra.configuration import Stage
from tidegate.infra.models.ecr import ecr_image
from tidegate.infra.validation.sentences import wrong


def check_registry(stage: Stage, key: str, uri: str) -> None:
    """Raise `ConfigurationError` for an image that is not in the stage's Region, or not reached without a VPC."""
    image = ecr_image(uri)
    if image is None and stage.network is None:
        why = "not in Amazon ECR, and SageMaker reaches other registries through a VPC only"
        raise wrong(key, uri, f"{why}; push it to ECR, or write [network]")
    if image is not None and stage.region is not None and image.region != stage.region:
        why = f"in Region {image.region}, and the stage in {stage.region}"
        raise wrong(key, uri, f"{why}; SageMaker pulls from its own Region only, so push it there")
