"""Which GPUs a worker sees.

One that has a single GPU of its own sees all of the container, as under TorchServe, and `gpu_id` counts among them. One
that has several sees these alone, from 0 on: what spreads a model over GPUs (`device_map="auto"` of accelerate) takes
all that a process sees. The driver reads the variable when CUDA is first used, so it is set before that.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


def see_own(gpu_ids: Sequence[int], environment: MutableMapping[str, str] = os.environ) -> list[int]:
    """See no GPUs but `gpu_ids`, where these are several; returns what they are called in this process from then on."""
    if len(gpu_ids) < 2:
        return list(gpu_ids)
    environment[VISIBLE] = visible(gpu_ids, environment.get(VISIBLE))
    return list(range(len(gpu_ids)))


def visible(gpu_ids: Sequence[int], given: str | None) -> str:
    """The variable of a process that sees these of the container's GPUs.

    `given` is the container's own, of which they are counted; its entries (indices, UUIDs, names of MIG instances) stay
    as they are written there.
    """
    if given is None:
        return ",".join(map(str, gpu_ids))
    names = [name.strip() for name in given.split(",")]
    return ",".join(names[gpu_id] for gpu_id in gpu_ids)
