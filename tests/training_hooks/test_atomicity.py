"""Nothing that interrupts a save can spoil an artifact."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tidegate.training_hooks import ArtifactError, durable_files, pack, save_model
from tidegate.training_hooks.staging import exclusive

from .artifacts import manifest_of, mismatches, names_below, weights_of

FILES = {
    "state_dict": ["model.pth"],
    "safetensors": ["model.safetensors"],
    "state_dict+parts": [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    ],
    "safetensors+parts": [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ],
}


def reports_of_kills(*arguments: str) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("killed_saves.py")
    done = subprocess.run(
        [sys.executable, str(script), *arguments], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("state_dict", "state_dict"),
        ("state_dict", "safetensors+parts"),
        ("safetensors+parts", "state_dict+parts"),
        ("state_dict+parts", "safetensors"),
    ],
)
def test_a_save_killed_at_any_point_never_shows_a_mixture(tmp_path: Path, old: str, new: str) -> None:
    """SIGKILL at every fsync: a verifying reader sees the old artifact, a mismatch or the new one, in this order.

    Of two that have no file in common but the manifest, no mismatch shows.
    """
    reports = reports_of_kills(str(tmp_path), old, new)
    seen = [report["seen"] for report in reports]
    in_between = ["mismatch"] if set(FILES[old]) & set(FILES[new]) else []
    assert [name for name, _ in itertools.groupby(seen)] == ["old", *in_between, "new"]
    assert [report["killed"] for report in reports] == [True] * (len(reports) - 1) + [False]
    assert_whole(reports, old, new)
    for report in reports:
        if report["seen"] != "old":
            assert report["recovered"] == "new"


@pytest.mark.parametrize(("old", "new"), [("safetensors+parts", "safetensors+parts"), ("safetensors", "state_dict")])
def test_a_save_killed_at_any_moment_never_shows_a_mixture(tmp_path: Path, old: str, new: str) -> None:
    """SIGKILL from outside, in whatever the save is doing."""
    reports = reports_of_kills(str(tmp_path), old, new, "20")
    assert len(reports) == 20
    assert_whole(reports, old, new)


def assert_whole(reports: list[dict[str, Any]], old: str, new: str) -> None:
    """The recovery that the next save or pack begins with leaves one whole artifact and nothing else."""
    names = {
        "old": sorted([*FILES[old], "labels.json", "manifest.json"]),
        "new": sorted([*FILES[new], "manifest.json", "preprocessing.json"]),
    }
    for report in reports:
        assert report["names"] == names[report["recovered"]]


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
