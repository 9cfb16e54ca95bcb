"""What we say of instance types, held against the API's own lists and our own image."""

from __future__ import annotations

import re

import pytest

from tests.infra.conftest import ROOT
from tidegate.infra.hosting import instance_types


def test_the_gpus_of_every_gpu_type_of_the_api_are_known() -> None:
    counts = {name: instance_types.gpu_count(name) for name in instance_types.endpoint_types()}

    assert {count for name, count in counts.items() if instance_types.has_gpu(name)} <= {1, 2, 4, 8, 16}
    assert {count for name, count in counts.items() if not instance_types.has_gpu(name)} == {0}


@pytest.mark.parametrize(
    ("instance_type", "gpus"),
    [
        ("ml.m7i.large", 0),
        ("ml.inf2.xlarge", 0),
        ("ml.g4dn.xlarge", 1),
        ("ml.g4dn.16xlarge", 1),
        ("ml.g5.12xlarge", 4),
        ("ml.g6.48xlarge", 8),
        ("ml.g7e.12xlarge", 2),
        ("ml.p2.16xlarge", 16),
        ("ml.p5.4xlarge", 1),
        ("ml.p5en.48xlarge", 8),
        ("ml.p6e-gb200.36xlarge", 4),
    ],
)
def test_gpus_are_counted_by_family_and_size(instance_type: str, gpus: int) -> None:
    assert instance_types.gpu_count(instance_type) == gpus


def test_the_gpus_of_a_family_of_the_future_are_not_guessed() -> None:
    with pytest.raises(LookupError, match=r"ml\.g99\.xlarge .* infra/hosting/instance_types\.py"):
        instance_types.gpu_count("ml.g99.xlarge")


def test_gpus_that_cuda_13_dropped_are_told_from_those_that_it_runs_on() -> None:
    old = {name for name in instance_types.endpoint_types() if instance_types.is_too_old_for_cuda(name)}

    assert {name.split(".")[1] for name in old} == {"p2", "p3"}


def test_every_gpu_host_image_of_the_api_has_its_cuda_written_here() -> None:
    assert set(instance_types.GPU_AMI_CUDA) == {name for name in instance_types.amis() if "gpu" in name}


def test_the_cuda_of_the_host_is_that_of_our_image() -> None:
    (version,) = set(re.findall(r"^ARG CUDA_VERSION=(.+)$", (ROOT / "container/Dockerfile").read_text(), re.M))

    assert tuple(map(int, version.split("."))) == instance_types.IMAGE_CUDA
    ami = instance_types.default_ami("ml.g6.xlarge")
    assert ami is not None
    assert instance_types.GPU_AMI_CUDA[ami] >= instance_types.IMAGE_CUDA


def test_a_cpu_type_has_no_host_image_to_choose() -> None:
    assert instance_types.default_ami("ml.m7i.large") is None


def test_a_container_that_is_newer_than_every_host_is_refused() -> None:
    with pytest.raises(LookupError, match=r"no host image of SageMaker has CUDA 99\.0"):
        instance_types.default_ami("ml.g6.xlarge", cuda=(99, 0))
