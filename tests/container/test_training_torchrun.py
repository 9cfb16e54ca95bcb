"""torch_distributed: what is started on which host; and the real entry point with the real torchrun, without docker."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from container.entrypoint import training_torchrun
from container.entrypoint.training_failure import TrainingFailed
from container.entrypoint.training_variables import TrainingJob
from tests.container.entry_point import job, start, train
from tests.container.two_hosts import two_hosts
from tests.contract.running import wait_until

ASKED = {"sagemaker_torch_distributed_enabled": True}
PYTHON, SCRIPT = Path("/venv/bin/python"), Path("/opt/ml/code/train.py")
START = [str(PYTHON), "-m", "torch.distributed.run", "--shutdown-timeout", "110"]
LONG_S = 300
"""For torchrun, which imports torch before it starts anything."""

GROUPS = [
    {"instance_group_name": "data", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
    {"instance_group_name": "gpus", "instance_type": "ml.g5.12xlarge", "hosts": ["algo-2", "algo-3"]},
]


def distributed(host: str = "algo-1", hosts: tuple[str, ...] = ("algo-1",), **more: Any) -> TrainingJob:
    hyperparameters = {**ASKED, **more.pop("hyperparameters", {})}
    resources = {"current_host": host, "hosts": list(hosts), **more}
    return TrainingJob(base_dir=Path("/opt/ml"), hyperparameters=hyperparameters, channels={}, resources=resources)


def command(asked: TrainingJob, gpus: int = 0, **environment: str) -> list[str]:
    return training_torchrun.command(asked, SCRIPT, PYTHON, gpus, environment)


@pytest.mark.parametrize(("gpus", "processes"), [(0, "1"), (1, "1"), (8, "8")])
def test_a_process_for_each_gpu_and_one_where_there_is_none(gpus: int, processes: str) -> None:
    alone = ["--standalone", "--local-addr", "127.0.0.1", str(SCRIPT)]
    assert command(distributed(), gpus) == [*START, "--nproc-per-node", processes, *alone]


def test_hosts_find_each_other_at_the_first_of_them() -> None:
    """As AWS's toolkit told torchrun: nodes, the rank of this one, the master and its port."""
    hosts = ("algo-1", "algo-2", "algo-3")
    assert command(distributed("algo-3", hosts), 4) == [
        *(*START, "--nproc-per-node", "4", "--nnodes", "3", "--node-rank", "2"),
        *("--master-addr", "algo-1", "--master-port", "7777", str(SCRIPT)),
    ]


def test_variables_of_torchrun_win() -> None:
    """torchrun reads them where it is not told otherwise."""
    words = command(distributed("a", ("a", "b")), 4, PET_NPROC_PER_NODE="2", PET_MASTER_PORT="29500")
    assert "--nproc-per-node" not in words
    assert "--master-port" not in words


def test_only_the_instance_groups_that_are_named_train_together() -> None:
    named = {"hyperparameters": {"sagemaker_distribution_instance_groups": ["gpus"]}, "instance_groups": GROUPS}
    everyone = ("algo-1", "algo-2", "algo-3")
    together = distributed("algo-3", everyone, current_group_name="gpus", **named)
    assert training_torchrun.is_asked(together)
    assert command(together)[7:13] == ["--nnodes", "2", "--node-rank", "1", "--master-addr", "algo-2"]
    assert not training_torchrun.is_asked(distributed("algo-1", everyone, current_group_name="data", **named))


@pytest.mark.parametrize("asked", [{}, {"sagemaker_torch_distributed_enabled": False}])
def test_without_the_option_the_script_is_started_once(asked: dict[str, Any]) -> None:
    assert not training_torchrun.is_asked(
        TrainingJob(base_dir=Path("/opt/ml"), hyperparameters=asked, channels={}, resources={})
    )


def test_what_torchrun_cannot_start_is_refused() -> None:
    with pytest.raises(TrainingFailed, match=r"starts a Python script, and sagemaker_program is 'run\.sh'"):
        training_torchrun.command(distributed(), Path("/opt/ml/code/run.sh"), PYTHON, 0, {})
    with pytest.raises(TrainingFailed, match="this host is 'algo-9', and has it not among those of the training"):
        command(distributed("algo-9", ("algo-1", "algo-2")))


def test_the_network_of_the_job_is_used_where_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "eth0").mkdir()
    found = training_torchrun.network(distributed(network_interface_name="eth0"), tmp_path)
    assert found == {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0"}
    for name in ("eth1", "../eth0", ""):
        assert training_torchrun.network(distributed(network_interface_name=name), tmp_path) == {}


def test_all_processes_of_a_host_get_the_job_and_their_ranks(tmp_path: Path) -> None:
    script = (
        "import os, sys; "
        "open(os.environ['SM_MODEL_DIR'] + '/' + os.environ['RANK'], 'w').write("
        "' '.join([os.environ['WORLD_SIZE'], os.environ['LOCAL_RANK'], os.environ['SM_HP_DEPTH'], *sys.argv[1:]]))"
    )
    base_dir = job(tmp_path, script, depth=2, **ASKED)
    done = train(base_dir, timeout_s=LONG_S, PET_NPROC_PER_NODE="2")
    assert done.returncode == 0, done.stderr
    said = {path.name: path.read_text() for path in (base_dir / "model").iterdir()}
    assert said == {"0": "2 0 2 --depth 2", "1": "2 1 2 --depth 2"}


@pytest.mark.parametrize(
    ("ends", "status", "reason"),
    [
        ("raise ValueError('no such column')", 1, "train.py ended with exit status 1 on rank 1."),
        ("sys.exit(7)", 7, "train.py ended with exit status 7 on rank 1."),
        ("os.kill(os.getpid(), 9)", 137, "train.py was ended by SIGKILL on rank 1."),
    ],
)
def test_the_process_that_fails_first_gives_the_reason_and_the_status(
    tmp_path: Path, ends: str, status: int, reason: str
) -> None:
    """torchrun's own pages about it are in the log, and not in the 1,024 characters that the platform shows."""
    script = f"import os, signal, sys\nif os.environ['RANK'] == '1':\n    {ends}\nsignal.pause()\n"
    base_dir = job(tmp_path, script, **ASKED)
    done = train(base_dir, timeout_s=LONG_S, PET_NPROC_PER_NODE="2")
    assert done.returncode == status
    failure = (base_dir / "output/failure").read_text()
    assert failure.startswith(reason)
    assert "torch/distributed" not in failure
    assert ("ValueError: no such column" in failure) == ("ValueError" in ends)


def test_sigterm_reaches_every_process_which_saves_what_it_has(tmp_path: Path) -> None:
    script = """
import os, pathlib, signal, sys, time
place = pathlib.Path(os.environ["SM_MODEL_DIR"])
def save(*_):
    (place / ("saved" + os.environ["RANK"])).touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
(place / ("ready" + os.environ["RANK"])).touch()
while True:  # and not signal.pause(), before which the signal may come
    time.sleep(0.01)
"""
    base_dir = job(tmp_path, script, **ASKED)
    with start(base_dir, PET_NPROC_PER_NODE="2") as process:
        model_dir = base_dir / "model"
        wait_until(lambda: all((model_dir / f"ready{rank}").exists() for rank in (0, 1)), "both wait", LONG_S)
        process.terminate()
        _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, errors
    assert sorted(path.name for path in model_dir.iterdir()) == ["ready0", "ready1", "saved0", "saved1"]


def test_two_hosts_train_together_whichever_starts_first(tmp_path: Path) -> None:
    script = """
import json, os, pathlib
import torch.distributed as dist
dist.init_process_group("gloo")
told = [None] * dist.get_world_size()
dist.all_gather_object(told, os.environ["SM_CURRENT_HOST"])
pathlib.Path(os.environ["SM_MODEL_DIR"], os.environ["RANK"]).write_text(json.dumps(told))
dist.destroy_process_group()
"""
    with two_hosts(tmp_path) as (first, second):
        for host in (second, first):
            job(host.base_dir, script, **ASKED)
            host.begin()
        for host in (first, second):
            status, errors = host.end()
            assert status == 0, errors
        for rank, host in enumerate((first, second)):
            assert json.loads((host.base_dir / f"model/{rank}").read_text()) == [first.address, second.address]


def test_where_torchrun_says_nothing_the_end_of_the_errors_stays() -> None:
    assert training_torchrun.first_failure("Traceback: it failed") is None
    assert training_torchrun.of_the_script("python: no such file") == "python: no such file"
    assert training_torchrun.ranks_of(os.getpid(), Path("/nowhere")) == []
