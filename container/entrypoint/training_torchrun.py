"""One script in many processes: `distribution={"torch_distributed": {"enabled": True}}` of the SageMaker SDK.

torchrun starts a process for each GPU on every host of the job, or the one that a host without GPUs has work for. Hosts
find each other by what the platform says in resourceconfig.json: the first one is the master, at the port that AWS's
toolkit took. torchrun's own variables (PET_NPROC_PER_NODE, PET_MASTER_PORT, …) say it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from container.entrypoint.training_failure import TrainingFailed
from container.entrypoint.training_variables import TrainingJob

MASTER_PORT = 7777
"""As in sagemaker-training 5.1.4 (`torch_distributed.py`): security groups may have been opened for it."""
SHUTDOWN_S = 110
"""What torchrun leaves to the processes that it ends: the platform leaves 120 s to all of us."""

_ASIDE = re.compile(r"^[WE]\d{4} .*torch/distributed/elastic/multiprocessing/api\.py:\d+\] ", re.MULTILINE)
_FIRST_FAILURE = re.compile(r"Root Cause \(first observed failure\):.*?rank +: (\d+).*?exitcode +: (-?\d+)", re.DOTALL)


def is_asked(job: TrainingJob) -> bool:
    """Whether the script of this host is to be started by torchrun."""
    return job.torch_distributed and (not job.groups or job.group in job.distribution_groups)


def command(job: TrainingJob, script: Path, interpreter: Path, gpus: int, environment: Mapping[str, str]) -> list[str]:
    """The words that start `script` in all its processes of this host. Raises `TrainingFailed`."""
    if script.suffix != ".py":
        raise TrainingFailed(f"torch_distributed starts a Python script, and sagemaker_program is '{script.name}'.")
    hosts, host = job.distribution_hosts, job.host
    if host not in hosts:
        raise TrainingFailed(
            f"resourceconfig.json says that this host is '{host}', and has it not among those of the training: "
            f"{', '.join(hosts)}."
        )
    words = [str(interpreter), "-m", "torch.distributed.run", "--shutdown-timeout", str(SHUTDOWN_S)]
    if "PET_NPROC_PER_NODE" not in environment:
        words += ["--nproc-per-node", str(max(gpus, 1))]
    if len(hosts) == 1:
        # Nobody else needs to find us, and jobs that share a laptop need a port each.
        return [*words, "--standalone", "--local-addr", "127.0.0.1", str(script)]
    words += ["--nnodes", str(len(hosts)), "--node-rank", str(hosts.index(host)), "--master-addr", hosts[0]]
    if "PET_MASTER_PORT" not in environment:
        words += ["--master-port", str(MASTER_PORT)]
    return [*words, str(script)]


def network(job: TrainingJob, interfaces: Path = Path("/sys/class/net")) -> dict[str, str]:
    """The variables by which NCCL and gloo talk over the network that the platform made for it, where it is there."""
    name = str(job.resources.get("network_interface_name") or "")
    if not name or "/" in name or not (interfaces / name).exists():
        return {}
    return {"NCCL_SOCKET_IFNAME": name, "GLOO_SOCKET_IFNAME": name}


def ranks_of(launcher: int, processes: Path = Path("/proc")) -> list[int]:
    """The processes of the script that torchrun, the process `launcher`, has started."""
    try:
        children = (processes / str(launcher) / "task" / str(launcher) / "children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(pid) for pid in children.split()]


def first_failure(errors: str) -> tuple[int, int] | None:
    """The rank that failed first on this host and its status (-n: by signal n), by what torchrun says at its end."""
    found = _FIRST_FAILURE.search(errors)
    return (int(found[1]), int(found[2])) if found else None


def of_the_script(errors: str) -> str:
    """What the script wrote: all before torchrun tells that a process has failed, which takes pages."""
    aside = _ASIDE.search(errors)
    return errors[: aside.start()] if aside else errors
