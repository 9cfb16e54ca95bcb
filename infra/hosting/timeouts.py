"""How long a start and a roll-out may take, from the size of the model.

SageMaker gives up on an instance that needs longer, and a limit that is too long only delays that verdict; so these err
on the long side. Each can be written in the stage file instead. All are whole seconds.
"""

from __future__ import annotations

import math

from tidegate.infra.configuration.value import ConfigurationError

# What the API takes. Source: API reference, ProductionVariant.
SHORTEST_S, LONGEST_S = 60, 3600
# Source: API reference, BlueGreenUpdatePolicy and RollingUpdatePolicy.
SHORTEST_ROLLOUT_S, LONGEST_ROLLOUT_S = 600, 28_800

# The alarms of a roll-out: two bad minutes of three, so that one slow request alone sends nothing back.
ALARM_PERIOD_S, ALARM_PERIODS, BAD_ALARM_PERIODS = 60, 3, 2

# For a model whose size nobody wrote: 600 s are what one of 15 GiB gets.
_UNKNOWN_S = 600
# SageMaker's agent starts, asks S3 and makes the directories.
_DOWNLOAD_BASE_S = 120
# 32 MiB/s for fetching, unpacking and writing in a row. gzip is unpacked by one thread at 100 to 200 MiB/s and a gp2
# volume takes 125 to 250 MiB/s; the rest is for several instances that start at once.
_DOWNLOAD_S_PER_GIB = 32
# `pip install` of code/requirements.txt, the first import of torch, the CUDA context, the check with the example.
_STARTUP_BASE_S = 300
# 64 MiB/s from the volume through memory to the GPU; each copy of the model in a container reads it anew.
_STARTUP_S_PER_GIB = 16
# Until instances of a type that is short are there.
_PROVISIONING_S = 1800


def model_download_timeout_s(size_gib: float | None) -> int:
    """For fetching and unpacking a model of `size_gib`, unpacked: 120 s and 32 s for each GiB, at most an hour."""
    return _by_size(size_gib, _DOWNLOAD_BASE_S, _DOWNLOAD_S_PER_GIB)


def startup_timeout_s(size_gib: float | None) -> int:
    """From the container's start to its first ping with 200: 300 s and 16 s for each GiB, at most an hour."""
    return _by_size(size_gib, _STARTUP_BASE_S, _STARTUP_S_PER_GIB)


def rollout_timeout_s(*, waits_s: int, download_s: int, startup_s: int) -> int:
    """For a whole roll-out: what it waits on purpose, one start, and half an hour to get the instances.

    Raises `ConfigurationError` where the waits alone leave no time for that within SageMaker's limit of 8 hours.
    """
    needed = waits_s + download_s + startup_s
    if needed > LONGEST_ROLLOUT_S:
        raise ConfigurationError(
            f"hosting.rollout waits {waits_s} s in all and a start may take {download_s + startup_s} s, which is more "
            f"than the {LONGEST_ROLLOUT_S} s that SageMaker gives a roll-out; lower wait_s or bake_s, or raise percent"
        )
    return max(SHORTEST_ROLLOUT_S, min(needed + _PROVISIONING_S, LONGEST_ROLLOUT_S))


def _by_size(size_gib: float | None, base_s: int, s_per_gib: int) -> int:
    if size_gib is None:
        return _UNKNOWN_S
    # Whole minutes, so that a model that grows by a few MiB is not another configuration.
    minutes = math.ceil((base_s + s_per_gib * size_gib) / 60)
    return min(60 * minutes, LONGEST_S)
