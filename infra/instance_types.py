"""Which instance types an endpoint may have, and what each kind needs."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache

import botocore.session

# Driver 580 with CUDA 13.0, the CUDA of the torch wheels in our GPU image. Older hosts need the image's own
# compatibility libraries. Source: API reference, ProductionVariant.InferenceAmiVersion.
GPU_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"


@cache
def _enum(shape: str) -> tuple[str, ...]:
    model = botocore.session.get_session().get_service_model("sagemaker")
    return tuple(model.shape_for(shape).enum)


def endpoint_types() -> tuple[str, ...]:
    """Every instance type that CreateEndpointConfig accepts, by the API's own list in botocore."""
    return _enum("ProductionVariantInstanceType")


def amis() -> tuple[str, ...]:
    """Every host image that CreateEndpointConfig accepts."""
    return _enum("ProductionVariantInferenceAmiVersion")


def suggestions(wrong: str) -> list[str]:
    """The endpoint types that look most like `wrong`, at most three."""
    return get_close_matches(wrong, endpoint_types(), n=3, cutoff=0.6)


def has_gpu(instance_type: str) -> bool:
    """True for NVIDIA instances: families g and p."""
    return _family(instance_type)[0] in {"g", "p"}


def has_foreign_accelerator(instance_type: str) -> bool:
    """True for Neuron and Gaudi instances, which need builds of torch that our image does not have."""
    return _family(instance_type)[0] in {"inf", "trn", "dl"}


def is_arm(instance_type: str) -> bool:
    """True for Graviton and Grace processors; our image is built for amd64."""
    _, attributes = _family(instance_type)
    return "g" in attributes


def default_ami(instance_type: str) -> str | None:
    """The host image for our container on this instance type; CPU types have none to choose."""
    return GPU_AMI if has_gpu(instance_type) else None


def _family(instance_type: str) -> tuple[str, str]:
    # ml.c6gn.large → ("c", "gn"); ml.p6e-gb200.36xlarge → ("p", "e-gb200"); ml.g6e.xlarge → ("g", "e")
    match = re.match(r"ml\.([a-z]+)\d+([^.]*)\.", instance_type)
    return match.groups() if match else ("", "")  # type: ignore[return-value]  # two groups
