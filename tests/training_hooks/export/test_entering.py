"""Nothing that interrupts an export can spoil an artifact."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tidegate.training_hooks import ArtifactError, save_directory, save_model
from tidegate.training_hooks.export.entering import enter
from tidegate.training_hooks.manifest import read_manifest

from ..artifacts import manifest_of, mismatches, names_below


def test_an_export_killed_at_any_point_leaves_the_artifact_or_the_artifact_with_its_form(tmp_path: Path) -> None:
    """SIGKILL at every fsync: a verifying reader sees the old artifact, a mismatch or the new one, in this order."""
    script = Path(__file__).with_name("killed_exports.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], check=True, capture_output=True, text=True, timeout=300
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    seen = [name for name, _ in itertools.groupby(report["seen"] for report in reports)]
    assert (seen[0], seen[-1]) == ("old", "new")
    assert set(seen) <= {"old", "mismatch", "new"}
    assert [report["killed"] for report in reports] == [True] * (len(reports) - 1) + [False]
    for report in reports:
        assert report["recovered"] in ("old", "new")
        assert report["names"] in (
            ["labels.json", "manifest.json", "model.pth"],
            ["forms", "labels.json", "manifest.json", "model.pth"],
        )
        if report["seen"] != "old":
            assert report["recovered"] == "new"


def entered(tmp_path: Path) -> Path:
    """An artifact with a form, of two files."""
    model_dir = save_model({"weight": torch.zeros(3)}, model_dir=tmp_path / "model", labels=["a", "b"])
    form = tmp_path / "form"
    form.write_bytes(b"form")
    files = {"forms/openvino/model.xml": form, "forms/openvino/model.bin": form}
    enter(model_dir, read_manifest(model_dir), [{"name": "openvino"}], files)
    return model_dir


def test_the_files_of_a_form_that_goes_go_with_it_and_its_folder(tmp_path: Path) -> None:
    """All other files stay the same ones."""
    model_dir = entered(tmp_path)
    assert not mismatches(model_dir)
    before = (model_dir / "model.pth").stat().st_ino
    enter(model_dir, read_manifest(model_dir), [], {})
    assert "forms" not in manifest_of(model_dir)
    assert names_below(model_dir) == ["labels.json", "manifest.json", "model.pth"]
    assert (model_dir / "model.pth").stat().st_ino == before


def test_an_artifact_that_was_saved_again_meanwhile_gets_no_form_of_the_old_weights(tmp_path: Path) -> None:
    """Building takes minutes, and holds no lock."""
    model_dir = entered(tmp_path)
    old = read_manifest(model_dir)
    save_model({"weight": torch.ones(3)}, model_dir=model_dir)
    with pytest.raises(ArtifactError, match="was saved again while its forms were made; export once more"):
        enter(model_dir, old, [], {})
    assert not mismatches(model_dir)


def test_a_folder_that_is_saved_again_where_it_is_loses_its_forms(tmp_path: Path) -> None:
    """Its files may be of another model now."""
    model_dir = entered(tmp_path)
    save_directory(model_dir)
    assert "forms" not in manifest_of(model_dir)
    assert not any(name.startswith("forms") for name in names_below(model_dir))
