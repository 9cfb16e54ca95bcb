"""Nothing that interrupts a save can spoil an artifact."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tidegate.training_hooks import ArtifactError, durable_files, pack, save_model
from tidegate.training_hooks.staging import exclusive

from .artifacts import manifest_of, mismatches, names_below, weights_of


def test_a_save_killed_at_any_point_never_shows_a_mixture(tmp_path: Path) -> None:
    """SIGKILL at every fsync: a verifying reader sees the old artifact, a mismatch or the new one, in this order."""
    script = Path(__file__).with_name("killed_saves.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], check=True, capture_output=True, text=True, timeout=100
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    seen = [report["seen"] for report in reports]
    assert [name for name, _ in itertools.groupby(seen)] == ["old", "mismatch", "new"]
    assert [report["killed"] for report in reports] == [True] * (len(reports) - 1) + [False]
    old_names = ["labels.json", "manifest.json", "model.pth"]
    new_names = ["manifest.json", "model.pth", "preprocessing.json"]
    for report in reports:
        # The recovery that the next save or pack begins with leaves one whole artifact and nothing else.
        assert report["recovered"] in ("old", "new")
        assert report["names"] in (
            (old_names,) if report["recovered"] == "old" else (new_names, sorted({*old_names, *new_names}))
        )
        if report["seen"] != "old":
            assert report["recovered"] == "new"


def interrupted_save(directory: Path, monkeypatch: pytest.MonkeyPatch, *, after_renames: int) -> None:
    """Save twice; the second save is interrupted after some of its renames, as Ctrl-C would."""
    save_model({"weight": torch.zeros(3)}, model_dir=directory, labels=["a"])
    renames = itertools.count()
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        # The first rename commits the staging directory itself.
        if next(renames) > after_renames:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(durable_files.Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            save_model({"weight": torch.ones(3)}, model_dir=directory, labels=["b"])


@pytest.mark.parametrize("after_renames", [0, 1, 2])
def test_pack_finishes_an_interrupted_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_renames: int) -> None:
    """A job that was killed in the last microseconds of its save still has its new model."""
    interrupted_save(tmp_path / "m", monkeypatch, after_renames=after_renames)
    assert bool(mismatches(tmp_path / "m")) == (after_renames > 0)
    pack(tmp_path / "m", tmp_path / "model.tar.gz")
    assert mismatches(tmp_path / "m") == []
    assert weights_of(tmp_path / "m")["weight"].tolist() == [1.0, 1.0, 1.0]
    assert names_below(tmp_path / "m") == ["labels.json", "manifest.json", "model.pth"]


def test_the_next_save_replaces_an_interrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving again after an interruption works and leaves nothing of it behind."""
    interrupted_save(tmp_path / "m", monkeypatch, after_renames=1)
    save_model({"weight": torch.full((3,), 2.0)}, model_dir=tmp_path / "m")
    assert mismatches(tmp_path / "m") == []
    assert names_below(tmp_path / "m") == ["manifest.json", "model.pth"]


def test_a_full_disk_leaves_the_previous_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while the files are written is raised, and the directory is as it was."""
    save_model({"weight": torch.zeros(3)}, model_dir=tmp_path)
    before = manifest_of(tmp_path)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable_files.os, "fsync", no_space)
        with pytest.raises(OSError, match="No space left"):
            save_model({"weight": torch.ones(3)}, model_dir=tmp_path, labels=["a"])
    assert names_below(tmp_path) == ["manifest.json", "model.pth"]
    assert manifest_of(tmp_path) == before
    assert mismatches(tmp_path) == []


def test_two_saves_at_once_are_refused(tmp_path: Path) -> None:
    """In distributed training every rank calls what rank 0 should; the second one is told so."""
    tmp_path.joinpath("m").mkdir()
    with (
        exclusive(tmp_path / "m"),
        pytest.raises(ArtifactError, match="in distributed training call save_model on rank 0"),
    ):
        save_model({"weight": torch.zeros(1)}, model_dir=tmp_path / "m")
    save_model({"weight": torch.zeros(1)}, model_dir=tmp_path / "m")
    assert mismatches(tmp_path / "m") == []
