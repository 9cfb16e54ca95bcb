"""Checkpoints: atomic, few, and resumed from the newest that can be read."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tidegate.training_hooks import ArtifactError, container_paths, latest_checkpoint, save_checkpoint


def test_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    """Model and optimizer come back, so the next step is the one that would have followed."""

    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        net = torch.nn.Linear(2, 1)
        return net, torch.optim.AdamW(net.parameters(), lr=0.1)

    def step(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(torch.ones(4, 2)).square().sum().backward()
        optimizer.step()

    net, optimizer = make()
    step(net, optimizer)
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "best": 0.5}
    save_checkpoint(state, step=1, directory=tmp_path)
    step(net, optimizer)

    resumed_net, resumed_optimizer = make()
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.state["best"]) == (1, 0.5)
    resumed_net.load_state_dict(checkpoint.state["net"])
    resumed_optimizer.load_state_dict(checkpoint.state["optimizer"])
    step(resumed_net, resumed_optimizer)
    torch.testing.assert_close(dict(resumed_net.state_dict()), dict(net.state_dict()), rtol=0, atol=0)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """Steps are compared as numbers, and files of others are left alone."""
    (tmp_path / "checkpoint-best.pth").write_bytes(b"mine")
    for step in (9, 10, 100, 11):
        save_checkpoint({"step": step}, step=step, directory=tmp_path, keep_last=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-000000000011.pth",
        "checkpoint-000000000100.pth",
        "checkpoint-best.pth",
    ]
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.state == {"step": 100}


def test_the_one_just_written_stays_whatever_its_step(tmp_path: Path) -> None:
    """A run that begins anew beside the checkpoints of another one does not delete its own."""
    for step in (97, 98, 99):
        save_checkpoint({"step": step}, step=step, directory=tmp_path, keep_last=3)
    for step, others in ((0, (98, 99)), (1, (98, 99)), (98, (1, 99)), (100, (98, 99))):
        path = save_checkpoint({"step": step}, step=step, directory=tmp_path, keep_last=3)
        assert path.name == f"checkpoint-{step:012d}.pth"
        kept = sorted(int(path.stem.removeprefix("checkpoint-")) for path in tmp_path.iterdir())
        assert kept == sorted((step, *others))
    assert save_checkpoint({"step": 5}, step=5, directory=tmp_path, keep_last=1).exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    """A first start finds no checkpoint, whether the directory exists or not."""
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "absent") is None


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """A truncated file costs one step of progress, not the job."""
    save_checkpoint({"step": 1}, step=1, directory=tmp_path)
    newest = save_checkpoint({"step": 2, "w": torch.ones(100)}, step=2, directory=tmp_path)
    newest.write_bytes(newest.read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"checkpoint-000000000002.pth cannot be read and is passed over"):
        checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 1


def test_an_interrupted_checkpoint_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while the file is written leaves neither a damaged nor a temporary file."""
    save_checkpoint({"step": 1}, step=1, directory=tmp_path)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint({"step": 1, "changed": True}, step=1, directory=tmp_path)
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.state == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    """Temporary files of a killed process would be uploaded and restored for ever."""
    (tmp_path / ".checkpoint-000000000001.pth.7.tmp").write_bytes(b"half")
    save_checkpoint({"step": 2}, step=2, directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000000002.pth"]


def test_values_that_need_unpickling_are_refused_by_name(tmp_path: Path) -> None:
    """What could not be loaded again is found when it is saved, not when the job has to resume."""
    with pytest.raises(ArtifactError, match=r"state\['history'\]\[0\] is a numpy.float64"):
        save_checkpoint({"history": [np.float64(0.5)]}, step=1, directory=tmp_path)
    with pytest.raises(ArtifactError, match="step is -1"):
        save_checkpoint({}, step=-1, directory=tmp_path)
    with pytest.raises(ArtifactError, match="keep_last is 0"):
        save_checkpoint({}, step=1, directory=tmp_path, keep_last=0)
    assert list(tmp_path.iterdir()) == []


def test_the_containers_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a training container nothing has to be said; elsewhere the directory must be given."""
    monkeypatch.setattr(container_paths, "ML_ROOT", tmp_path / "opt_ml")
    with pytest.raises(ArtifactError, match="pass directory"):
        save_checkpoint({}, step=1)
    (tmp_path / "opt_ml").mkdir()
    path = save_checkpoint({}, step=1)
    assert path.parent == tmp_path / "opt_ml" / "checkpoints"
    assert latest_checkpoint() is not None
