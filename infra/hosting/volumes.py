"""How large the volume of an instance is that has no disks of its own.

SageMaker downloads the archive to it and unpacks it there, so both lie side by side; packages of the archive and
whatever a handler writes lie there too. Types with disks of their own, all GPU types among them, use these instead.
Source: API reference, ProductionVariant.VolumeSizeInGB (1 to 512, gp2).
"""

from __future__ import annotations

import math

from tidegate.infra.configuration.hosting import Instances
from tidegate.infra.hosting import instance_types

LARGEST_GB = 512
# Packages of code/requirements.txt, temporary files, models that the server keeps.
_BESIDE_GB = 20
# So that a model that grows a little is not another configuration.
_STEP_GB = 10


def derived_gb(size_gib: float) -> int:
    """Twice the model, unpacked, and 20 GB, in steps of 10; may be more than SageMaker attaches."""
    return _STEP_GB * math.ceil((2 * size_gib + _BESIDE_GB) / _STEP_GB)


def volume_gb(hosting: Instances, instance_type: str, size_gib: float | None) -> int | None:
    """What the stage file says, and else what fits the model; None leaves it to SageMaker."""
    if instance_types.has_local_storage(instance_type):
        return None
    if hosting.volume_gb is not None:
        return hosting.volume_gb
    return None if size_gib is None else min(derived_gb(size_gib), LARGEST_GB)
