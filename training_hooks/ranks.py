"""Which process of a distributed training this is, and how the others wait for rank 0 to save.

A training has one model and many processes. Rank 0 writes it; where the others call save_model too, they wait for that
instead of failing, because a launcher that sees one process fail ends all of them, rank 0 in the middle of its save.
"""

import os
import sys
import time
from pathlib import Path

import torch.distributed

from .errors import ArtifactError
from .manifest import MANIFEST_NAME

WAIT_S = 600.0
"""How long rank 0 may take until its model is there: as long as torch's own collectives wait by default."""

POLL_S = 0.2

_VARIABLES = (
    ("RANK", "WORLD_SIZE"),  # torchrun, accelerate, DeepSpeed, Lightning, Kubeflow
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI
    ("SLURM_PROCID", "SLURM_NTASKS"),  # srun
)


def rank_above_0() -> str | None:
    """Say which rank this process is and where that is said, for example `rank 3 (RANK)`; None on rank 0 or alone.

    A process group that is initialised counts first, then the variables of the launchers, in their order. A rank that
    its own world has no place for (RANK=1 with WORLD_SIZE=1) was set by something else and does not count.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = torch.distributed.get_rank()
        return f"rank {rank} (torch.distributed)" if rank else None
    for variable, of_the_world in _VARIABLES:
        given, size = _whole(variable), _whole(of_the_world)
        if given is None or (size is not None and given >= size):
            continue
        return f"rank {given} ({variable})" if given else None
    return None


def wait_for_rank_0(rank: str, model_dir: Path) -> None:
    """Wait until there is an artifact in `model_dir`. Raises `ArtifactError` after `WAIT_S`."""
    deadline = time.monotonic() + WAIT_S
    if not (model_dir / MANIFEST_NAME).is_file():
        print(f"training_hooks: {rank} waits until rank 0 has saved to {model_dir}", file=sys.stderr, flush=True)  # noqa: T201
    while not (model_dir / MANIFEST_NAME).is_file():
        if time.monotonic() > deadline:
            raise ArtifactError(
                f"this process is {rank} and leaves the saving to rank 0, which has not saved to {model_dir} within "
                f"{WAIT_S:g} s; call save_model on rank 0, or with every_rank=True where each rank has a directory"
            )
        time.sleep(POLL_S)


def _whole(variable: str) -> int | None:
    text = os.environ.get(variable, "").strip()
    return int(text) if text.isascii() and text.isdigit() else None
