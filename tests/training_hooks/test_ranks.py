"""Distributed training: rank 0 saves, the other ranks wait for it and overwrite nothing."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tidegate.training_hooks import ArtifactError, ranks, save_model

from .artifacts import manifest_of, mismatches, names_below

SAVING = """\
import sys, torch
from tidegate.training_hooks import ranks, save_model
poll = ranks.time.sleep
ranks.time.sleep = lambda seconds: (print("waiting", flush=True), poll(seconds))
rank = int(sys.argv[2])
print("returned", save_model({"rank": torch.tensor(rank)}, model_dir=sys.argv[1], name=f"of-rank-{rank}"), flush=True)
"""


def start(model_dir: Path, rank: int) -> subprocess.Popen[str]:
    variables = {"RANK": str(rank), "WORLD_SIZE": "3"}
    return subprocess.Popen(
        [sys.executable, "-c", SAVING, str(model_dir), str(rank)],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=300)
    return process.returncode, output.splitlines()[-1]


def test_early_and_late_ranks_leave_the_artifact_of_rank_0(tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    early = start(model_dir, 1)
    assert early.stdout is not None
    assert early.stdout.readline() == "waiting\n"
    assert not model_dir.exists()
    returned = (0, f"returned {model_dir}")
    assert ended(start(model_dir, 0)) == returned
    assert ended(early) == returned
    written = (model_dir / "manifest.json").read_bytes()
    assert ended(start(model_dir, 2)) == returned
    assert (model_dir / "manifest.json").read_bytes() == written
    assert manifest_of(model_dir)["name"] == "of-rank-0"
    assert mismatches(model_dir) == []


WAITS = [
    {"RANK": "1"},
    {"RANK": "1", "WORLD_SIZE": "2"},
    {"RANK": " 7 ", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"},
    {"RANK": "", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"},
    {"RANK": "1", "WORLD_SIZE": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
    {"PMI_RANK": "1", "PMI_SIZE": "2"},
    {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"},
]
SAVES: list[dict[str, str]] = [
    {},
    {"RANK": "0", "WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
    {"RANK": "1", "WORLD_SIZE": "1"},
    {"RANK": "gold"},
    {"RANK": "-1", "WORLD_SIZE": "2"},
    {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"},
    {"LOCAL_RANK": "1"},
]


@pytest.fixture
def nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 is not there, and nobody is patient."""
    monkeypatch.setattr(ranks, "WAIT_S", 0.0)
    monkeypatch.setattr(ranks, "POLL_S", 0.001)


@pytest.mark.usefixtures("nothing_comes")
@pytest.mark.parametrize("variables", WAITS)
def test_a_rank_that_its_launcher_names_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]
) -> None:
    """Not even an error of its arguments comes first: FSDP gives the whole state dict to rank 0 alone."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ArtifactError, match=r"this process is rank [137] \([A-Z_]+\) .* has not saved to .*every_rank"):
        save_model({}, model_dir=tmp_path / "m")
    assert names_below(tmp_path) == []
    save_model({"weight": torch.ones(1)}, model_dir=tmp_path / "m", every_rank=True)
    assert mismatches(tmp_path / "m") == []


@pytest.mark.usefixtures("nothing_comes")
@pytest.mark.parametrize("variables", SAVES)
def test_rank_0_and_a_process_that_is_no_rank_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    save_model({"weight": torch.ones(1)}, model_dir=tmp_path)
    assert mismatches(tmp_path) == []


@pytest.mark.usefixtures("nothing_comes")
@pytest.mark.parametrize("rank", [0, 1])
def test_an_initialised_process_group_says_it_before_any_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    monkeypatch.setenv("RANK", str(1 - rank))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    if rank == 0:
        assert save_model({"weight": torch.ones(1)}, model_dir=tmp_path) == tmp_path
    else:
        with pytest.raises(ArtifactError, match=r"rank 1 \(torch\.distributed\)"):
            save_model({"weight": torch.ones(1)}, model_dir=tmp_path)
