"""What save_model writes, where, and what it refuses."""

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tidegate.training_hooks import ArtifactError, Example, container_paths, save_model

from .artifacts import manifest_of, mismatches, names_below, weights_of


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_model_alone(tmp_path: Path, net: nn.Module) -> None:
    """Without options the directory holds the weights and a manifest that tells their size and hash."""
    directory = save_model(net, model_dir=tmp_path / "deep" / "model")
    assert names_below(directory) == ["manifest.json", "model.pth"]
    assert mismatches(directory) == []
    manifest = manifest_of(directory)
    assert manifest["format_version"] == 1
    assert manifest["name"] == "model"
    assert manifest["weights"] == {"file": "model.pth", "format": "state_dict"}
    assert manifest["frameworks"]["torch"] == str(torch.__version__)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", manifest["created_at"])
    assert not {"example", "labels", "preprocessing", "metrics"} & set(manifest)
    torch.testing.assert_close(weights_of(directory), dict(net.state_dict()))


def test_everything_that_goes_with_a_model(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """Labels, constants, metrics, code and example are all written, listed and hashed; junk is not."""
    directory = save_model(
        net,
        model_dir=tmp_path / "model",
        name="dogs-and-cats",
        labels=["cat", "dög"],
        preprocessing={"mean": np.array([0.5, 0.25]), "std": torch.tensor(2.0), "size": (8, 8)},
        metrics={"accuracy": np.float32(0.5), "loss": torch.tensor(0.25), "epochs": 3, "converged": True},
        code_dir=code_dir,
        example=Example(request=[1, 2.5]),
    )
    assert names_below(directory) == [
        "code",
        "code/doubling.py",
        "code/inference.py",
        "code/requirements.txt",
        "example",
        "example/request.json",
        "example/response.json",
        "labels.json",
        "manifest.json",
        "model.pth",
        "preprocessing.json",
    ]
    assert mismatches(directory) == []
    manifest = manifest_of(directory)
    assert set(manifest["files"]) | {"manifest.json", "code", "example"} == set(names_below(directory))
    assert manifest["name"] == "dogs-and-cats"
    assert manifest["metrics"] == {"accuracy": 0.5, "loss": 0.25, "epochs": 3.0, "converged": 1.0}
    assert json.loads((directory / manifest["labels"]).read_text(encoding="utf-8")) == ["cat", "dög"]
    constants = json.loads((directory / manifest["preprocessing"]).read_text(encoding="utf-8"))
    assert constants == {"mean": [0.5, 0.25], "std": 2.0, "size": [8, 8]}


def test_the_manifest_is_stable_text(tmp_path: Path, net: nn.Module) -> None:
    """Keys are sorted, so two manifests can be compared line by line."""
    text = (save_model(net, model_dir=tmp_path) / "manifest.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_the_directory_comes_from_the_environment(
    tmp_path: Path, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SM_MODEL_DIR is where SageMaker picks the model up; an argument wins over it."""
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "from_environment"))
    assert save_model(net) == tmp_path / "from_environment"
    assert save_model(net, model_dir=tmp_path / "given") == tmp_path / "given"


def test_without_any_directory_only_a_container_has_a_default(
    tmp_path: Path, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images without the training toolkit lack SM_MODEL_DIR but have /opt/ml; a laptop has neither."""
    monkeypatch.delenv("SM_MODEL_DIR", raising=False)
    monkeypatch.setattr(container_paths, "ML_ROOT", tmp_path / "opt_ml")
    with pytest.raises(ArtifactError, match="pass model_dir or set SM_MODEL_DIR"):
        save_model(net)
    (tmp_path / "opt_ml").mkdir()
    assert save_model(net) == tmp_path / "opt_ml" / "model"


def test_a_second_save_replaces_the_first(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """Files of the earlier artifact that the new one does not have are gone; files of others stay."""
    save_model(net, model_dir=tmp_path / "m", labels=["a"], code_dir=code_dir, example=Example(request=[1]))
    (tmp_path / "m" / "notes.txt").write_text("mine")
    save_model(nn.Linear(1, 1), model_dir=tmp_path / "m")
    assert names_below(tmp_path / "m") == ["manifest.json", "model.pth", "notes.txt"]
    assert weights_of(tmp_path / "m")["weight"].shape == (1, 1)
    assert mismatches(tmp_path / "m") == []


def test_code_that_lies_in_the_model_directory_already(tmp_path: Path, net: nn.Module, code_dir: Path) -> None:
    """Training scripts copy their code there themselves; naming it as code_dir lists it in the manifest."""
    (tmp_path / "m").mkdir()
    code_dir.rename(tmp_path / "m" / "code")
    directory = save_model(net, model_dir=tmp_path / "m", code_dir=tmp_path / "m" / "code")
    assert "code/inference.py" in manifest_of(directory)["files"]
    assert mismatches(directory) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "no spaces"}, "name is 'no spaces'"),
        ({"name": "-dash"}, "name is '-dash'"),
        ({"name": "a" * 64}, "at most 63"),
        ({"labels": []}, "labels is empty"),
        ({"labels": "cat"}, "labels is a str; give a list"),
        ({"labels": ["a", "b", "a"]}, r"labels\[2\] repeats 'a' of labels\[0\]"),
        ({"labels": ["a", 1]}, r"labels\[1\] is 1; a class name must be text"),
        ({"labels": ["a", ""]}, r"labels\[1\] is ''"),
        ({"preprocessing": [1]}, "preprocessing is a list"),
        ({"preprocessing": {"mean": float("nan")}}, r"preprocessing\['mean'\] is nan, which JSON cannot hold"),
        ({"preprocessing": {1: 2}}, "preprocessing has the key 1"),
        ({"preprocessing": {"f": [object()]}}, r"preprocessing\['f'\]\[0\] is an object"),
        ({"metrics": {"loss": float("inf")}}, r"metrics\['loss'\] is inf"),
        ({"metrics": {"loss": torch.ones(2)}}, r"metrics\['loss'\] is not a single number"),
        ({"metrics": {"loss": "low"}}, r"metrics\['loss'\] is not a single number"),
        ({"code_dir": "/does/not/exist"}, "code_dir /does/not/exist is not a directory"),
        ({"example": Example(request=b"\x00")}, "the example has no response"),
        (
            {"example": Example(request=b"\x00", response=[1])},
            "example.request is a bytes whose content does not say what it is; say its content type",
        ),
        (
            {"example": Example(request=[1], response="a")},
            "example.response is a str whose content does not say what it is; say its content type",
        ),
        ({"example": Example(request=[1], response=[1], rtol=-1)}, "example.rtol is -1"),
        ({"example": Example(request=[1], response=[1], accept="")}, "example.accept is empty"),
        ({"example": Example(request=[1], response=[1], content_type="text/csv")}, "must be given as bytes or text"),
        ({"example": Example(request=np.array([None]), response=[1])}, "array of Python objects"),
        ({"example": Example(request=torch.ones(1, dtype=torch.bfloat16), response=[1])}, "bfloat16"),
    ],
)
def test_refused_descriptions(tmp_path: Path, net: nn.Module, options: dict[str, Any], sentence: str) -> None:
    """Bad input is one sentence that names the thing, and nothing is written."""
    with pytest.raises(ArtifactError, match=sentence):
        save_model(net, model_dir=tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


def test_a_refused_save_leaves_the_previous_artifact(tmp_path: Path, net: nn.Module) -> None:
    """NaN weights at the end of a long training do not destroy the model saved before."""
    save_model(net, model_dir=tmp_path)
    before = names_below(tmp_path)
    with pytest.raises(ArtifactError, match="'weight' holds 6 NaN"):
        save_model({"weight": torch.full((2, 3), float("nan"))}, model_dir=tmp_path)
    assert names_below(tmp_path) == before
    assert mismatches(tmp_path) == []


def test_code_without_inference_is_refused(tmp_path: Path, net: nn.Module) -> None:
    """The classic mistake, one directory too high, is found before the upload."""
    with pytest.raises(ArtifactError, match=r"has no inference\.py"):
        save_model(net, model_dir=tmp_path / "m", code_dir=tmp_path)


@pytest.mark.parametrize("kind", ["link", "link to directory", "pipe", "socket"])
def test_special_files_in_the_code_are_refused(tmp_path: Path, net: nn.Module, code_dir: Path, kind: str) -> None:
    """A link means something else on another machine, and SageMaker wants none."""
    path = code_dir / "odd"
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "link to directory":
        path.symlink_to(tmp_path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    with pytest.raises(ArtifactError, match=f"odd is a .*{kind.partition(' ')[0]}"):
        save_model(net, model_dir=tmp_path / "m", code_dir=code_dir)


def test_a_directory_in_the_way_is_found_before_anything_moves(tmp_path: Path, net: nn.Module) -> None:
    """A rename that cannot work must not be discovered after others have happened."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "labels.json").mkdir()
    with pytest.raises(ArtifactError, match=r"labels\.json is a directory"):
        save_model(net, model_dir=tmp_path / "m", labels=["a"])
    assert names_below(tmp_path / "m") == ["labels.json"]


def test_a_file_where_the_directory_should_be(tmp_path: Path, net: nn.Module) -> None:
    """The model directory has to be a directory."""
    (tmp_path / "m").write_text("")
    with pytest.raises(ArtifactError, match="is a file"):
        save_model(net, model_dir=tmp_path / "m")
