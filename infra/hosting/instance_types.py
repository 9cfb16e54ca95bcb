"""Which instance types an endpoint may have, and what each kind needs."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from functools import cache

import botocore.session

# The CUDA of the torch wheels in our GPU image; container/Dockerfile names the same.
IMAGE_CUDA = (13, 0)

# The CUDA that the NVIDIA driver of each host image brings. A driver also runs everything built for an older CUDA;
# a newer one needs compatibility libraries in the image. Source: API reference, ProductionVariant.InferenceAmiVersion.
GPU_AMI_CUDA = {
    "al2-ami-sagemaker-inference-gpu-2": (12, 2),
    "al2-ami-sagemaker-inference-gpu-2-1": (12, 2),
    "al2-ami-sagemaker-inference-gpu-3-1": (12, 4),
    "al2023-ami-sagemaker-inference-gpu-4-1": (13, 0),
}

# Those of which AWS says that they carry streams in both directions to the container; with an older one "the WebSocket
# never reaches the container". For CPU types there is none to choose, and AWS does not say what theirs does.
# Source: github.com/aws/deep-learning-containers, docs/vllm-omni/deployment/sagemaker.md, bidirectional streaming.
BIDIRECTIONAL_AMIS = ("al2023-ami-sagemaker-inference-gpu-4-1",)

# GPUs by family and size; every size that is not written has one. Source: Amazon EC2 guide, accelerated computing.
_SEVERAL_GPUS: dict[str, dict[str, int]] = {
    "g4dn": {"12xlarge": 4},
    "g5": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6e": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g7": {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8},
    "g7e": {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8},
    "p2": {"8xlarge": 8, "16xlarge": 16},
    "p3": {"8xlarge": 4, "16xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
    "p6-b200": {"48xlarge": 8},
    "p6-b300": {"48xlarge": 8},
    "p6e-gb200": {"36xlarge": 4},
}


@cache
def _enum(shape: str) -> tuple[str, ...]:
    model = botocore.session.get_session().get_service_model("sagemaker")
    return tuple(model.shape_for(shape).enum)


def endpoint_types() -> tuple[str, ...]:
    """Every instance type that CreateEndpointConfig accepts, by the API's own list in botocore."""
    return _enum("ProductionVariantInstanceType")


def transform_types() -> tuple[str, ...]:
    """Every instance type that CreateTransformJob accepts."""
    return _enum("TransformInstanceType")


def processing_types() -> tuple[str, ...]:
    """Every instance type that processing jobs, and so monitoring jobs, take."""
    return _enum("ProcessingInstanceType")


def planned_types() -> tuple[str, ...]:
    """Those of endpoints that a training plan can hold, by the API's own list, and that our image runs on.

    Source: API reference, ReservedCapacitySummary.InstanceType.
    """
    held = [name for name in _enum("ReservedCapacityInstanceType") if name in endpoint_types()]
    return tuple(name for name in held if has_gpu(name) and not is_arm(name))


def amis() -> tuple[str, ...]:
    """Every host image that CreateEndpointConfig accepts."""
    return _enum("ProductionVariantInferenceAmiVersion")


def suggestions(wrong: str, known: Collection[str] | None = None) -> list[str]:
    """The types of `known`, or else of endpoints, that look most like `wrong`, at most three."""
    return get_close_matches(wrong, endpoint_types() if known is None else known, n=3, cutoff=0.6)


def has_gpu(instance_type: str) -> bool:
    """True for NVIDIA instances: families g and p."""
    return _family(instance_type)[0] in {"g", "p"}


def has_foreign_accelerator(instance_type: str) -> bool:
    """True for Neuron and Gaudi instances, which need builds of torch that our image does not have."""
    return _family(instance_type)[0] in {"inf", "trn", "dl"}


def has_local_storage(instance_type: str) -> bool:
    """True where models lie on disks of the instance, which its hardware encrypts whatever key is given.

    Those are all GPU types that our image runs on, and CPU types with a d, such as ml.m5d.large. Source: API reference,
    CreateEndpointConfig.KmsKeyId; Amazon EC2 guide, instance store volumes.
    """
    if has_gpu(instance_type):
        return not is_too_old_for_cuda(instance_type)
    _, attributes = _family(instance_type)
    return "d" in attributes


def is_arm(instance_type: str) -> bool:
    """True for Graviton and Grace processors, which need an image that is built for arm64."""
    _, attributes = _family(instance_type)
    return "g" in attributes


def gpu_count(instance_type: str) -> int:
    """How many GPUs an instance has; 0 for CPU types.

    Raises `LookupError` for a GPU family that this file does not know, so that a new one is added and not guessed.
    """
    if not has_gpu(instance_type):
        return 0
    _, family, size = instance_type.split(".")
    if family not in _SEVERAL_GPUS:
        raise LookupError(
            f"how many GPUs {instance_type} has is not written in infra/hosting/instance_types.py; add it there"
        )
    return _SEVERAL_GPUS[family].get(size, 1)


def has_gpu_for_multi_model(instance_type: str) -> bool:
    """True for the GPU types that multi-model endpoints take: one GPU, of families g4dn and g5.

    Source: SageMaker guide, supported instances for multi-model endpoints; p2 and p3 are there too, see below.
    """
    return bool(re.match(r"ml\.(g4dn|g5)\.", instance_type)) and gpu_count(instance_type) == 1


def is_too_old_for_cuda(instance_type: str) -> bool:
    """True for GPUs that CUDA 13, and so our image, no longer runs on: Kepler (p2) and Volta (p3).

    Source: CUDA 13.0 release notes, removed architectures.
    """
    return bool(re.match(r"ml\.p[23]\.", instance_type))


def default_ami(instance_type: str, *, cuda: tuple[int, int] = IMAGE_CUDA) -> str | None:
    """The host image whose driver runs a container built for `cuda`; CPU types have none to choose.

    The newest of those that do: it also runs older containers. Raises `LookupError` where no host is new enough.
    """
    if not has_gpu(instance_type):
        return None
    newest = max(GPU_AMI_CUDA, key=lambda ami: GPU_AMI_CUDA[ami])
    if GPU_AMI_CUDA[newest] < cuda:
        wanted = ".".join(map(str, cuda))
        raise LookupError(f"no host image of SageMaker has CUDA {wanted}; the newest is {newest}")
    return newest


def _family(instance_type: str) -> tuple[str, str]:
    # ml.c6gn.large → ("c", "gn"); ml.p6e-gb200.36xlarge → ("p", "e-gb200"); ml.g6e.xlarge → ("g", "e")
    match = re.match(r"ml\.([a-z]+)\d+([^.]*)\.", instance_type)
    return match.groups() if match else ("", "")  # type: ignore[return-value]  # two groups
