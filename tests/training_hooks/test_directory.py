"""Folders that something else than save_model wrote: packed as they are, or saved with what goes with a model."""

import itertools
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tidegate.training_hooks import (
    ArtifactError,
    Example,
    container_paths,
    model_directory,
    pack,
    save_directory,
    save_model,
)

from .artifacts import manifest_of, mismatches, names_below, unpacked

ANSWERING = """\
import json, os
def model_fn(model_dir):
    return json.load(open(os.path.join(model_dir, "config.json")))["factor"]
def transform_fn(model, data, content_type, accept):
    return json.dumps({"times": [model * value for value in json.loads(data)]}), accept
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in the form of `save_pretrained`: configuration, weights, and files in folders of their own."""
    directory = tmp_path / "bert"
    (directory / "1_Pooling").mkdir(parents=True)
    (directory / "config.json").write_text('{"factor": 3}')
    (directory / "tokenizer.json").write_text("{}")
    (directory / "1_Pooling/config.json").write_text("{}")
    save_file({"weight": torch.ones(2)}, directory / "model.safetensors")
    return directory


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "code_dir").mkdir()
    (tmp_path / "code_dir/inference.py").write_text(ANSWERING)
    return tmp_path / "code_dir"


@pytest.fixture(autouse=True)
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a container nor its variables."""
    monkeypatch.delenv("SM_MODEL_DIR", raising=False)
    monkeypatch.setattr(container_paths, "ML_ROOT", tmp_path / "no_opt_ml")


def test_pack_writes_the_manifest_of_a_folder_that_has_none(tmp_path: Path, folder: Path, code: Path) -> None:
    before = {name: (folder / name).stat().st_mtime_ns for name in names_below(folder)}
    archive = pack(folder, tmp_path / "a.tar.gz", code_dir=code)
    assert archive.warnings == ()
    copy = unpacked(archive.path, tmp_path / "copy")
    assert mismatches(copy) == []
    assert manifest_of(copy)["format_version"] == 1
    assert sorted(manifest_of(copy)["files"]) == [
        "1_Pooling/config.json",
        "code/inference.py",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert {name: (folder / name).stat().st_mtime_ns for name in names_below(folder)} == before
    assert pack(folder, tmp_path / "b.tar.gz", code_dir=code).sha256 == archive.sha256


def test_the_smallest_manifest_that_a_person_writes_is_completed(tmp_path: Path, folder: Path) -> None:
    """As docs/handlers.md has it; `files` may be missing, too."""
    torch.save(nn.Linear(1, 1).state_dict(), folder / "model.pth")
    weights = {"file": "model.pth", "architecture": "nets:Net", "arguments": {"hidden": 64}}
    manifest: dict[str, Any]
    for manifest in ({"format_version": 1, "files": {}, "weights": weights}, {"format_version": 1, "weights": weights}):
        (folder / "manifest.json").write_text(json.dumps(manifest))
        archive = pack(folder, tmp_path / "a.tar.gz")
        copy = unpacked(archive.path, tmp_path / "copy")
        assert mismatches(copy) == []
        assert manifest_of(copy)["weights"] == weights
        assert "model.pth" in manifest_of(copy)["files"]
        assert archive.warnings == ()


@pytest.mark.parametrize(
    ("files", "warned"),
    [
        ({}, True),
        ({"code/serve.py": b""}, True),
        ({"export/model.onnx": b""}, True),
        ({"code/inference.py": b""}, False),
        ({"inference.py": b""}, False),
        ({"model.onnx": b""}, False),
    ],
)
def test_pack_warns_where_nothing_in_the_archive_can_serve(
    tmp_path: Path, folder: Path, files: dict[str, bytes], warned: bool
) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    assert bool(pack(folder, tmp_path / "a.tar.gz").warnings) is warned


def torch_script(directory: Path) -> None:
    """Write `model.pt`, which doubles."""

    class Double(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Double()).save(str(directory / "model.pt"))  # type: ignore[no-untyped-call]


def test_torch_script_and_a_named_architecture_need_no_script_and_no_warning(tmp_path: Path) -> None:
    (tmp_path / "ts").mkdir()
    torch_script(tmp_path / "ts")
    assert pack(tmp_path / "ts", tmp_path / "ts.tar.gz").warnings == ()
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/nets.py").write_text("import torch\nNet = torch.nn.Linear\n")
    arguments = {"in_features": 1, "out_features": 1}
    save_model(
        nn.Linear(1, 1),
        model_dir=tmp_path / "named",
        code_dir=tmp_path / "nets",
        architecture="nets:Net",
        arguments=arguments,
    )
    assert pack(tmp_path / "named", tmp_path / "named.tar.gz").warnings == ()


def test_a_folder_becomes_an_artifact_where_it_is(tmp_path: Path, folder: Path, code: Path) -> None:
    """Its own files stay what they are; a second save takes the place of the first."""
    inodes = {name: (folder / name).stat().st_ino for name in names_below(folder)}
    example = Example(request=[1, 2])
    assert save_directory(folder, name="bert", labels={0: "a"}, code_dir=code, example=example) == folder
    assert mismatches(folder) == []
    assert json.loads((folder / "example/response.json").read_bytes()) == {"times": [3, 6]}
    assert {name: (folder / name).stat().st_ino for name in inodes} == inodes
    manifest = manifest_of(folder)
    assert (manifest["name"], manifest["labels"]) == ("bert", "labels.json")
    assert "weights" not in manifest

    (folder / "config.json").write_text('{"factor": 5}')
    save_directory(folder, metrics={"accuracy": 1})
    assert mismatches(folder) == []
    assert sorted(manifest_of(folder)["files"]) == [
        "1_Pooling/config.json",
        "code/inference.py",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not (folder / "labels.json").exists()
    assert not (folder / "example").exists()
    save_directory(folder, example=[1])
    assert json.loads((folder / "example/response.json").read_bytes()) == {"times": [5]}


@pytest.mark.parametrize("file", ["model.pth", "model.safetensors"])
def test_the_network_that_a_manifest_of_the_folder_names_stays_named_and_answers(tmp_path: Path, file: str) -> None:
    (tmp_path / "f/code").mkdir(parents=True)
    (tmp_path / "f/code/nets.py").write_text("import torch\ndef Net():\n    return torch.nn.Linear(1, 1)\n")
    state = {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}
    if file.endswith(".pth"):
        torch.save(state, tmp_path / "f" / file)
    else:
        save_file(state, tmp_path / "f" / file)
    weights = {"file": file, "architecture": "nets:Net"}
    (tmp_path / "f/manifest.json").write_text(json.dumps({"format_version": 1, "weights": weights}))
    save_directory(tmp_path / "f", example=[[3]])
    assert manifest_of(tmp_path / "f")["weights"] == weights
    assert json.loads((tmp_path / "f/example/response.json").read_bytes()) == [[7.0]]
    assert mismatches(tmp_path / "f") == []


def test_a_folder_is_copied_into_the_model_directory_of_a_job(
    tmp_path: Path, folder: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "model"))
    before = names_below(folder)
    assert save_directory(folder, code_dir=code) == tmp_path / "model"
    assert mismatches(tmp_path / "model") == []
    assert {*before, "code", "code/inference.py", "manifest.json"} == set(names_below(tmp_path / "model"))
    assert names_below(folder) == before
    (folder / "config.json").write_text("changed later")
    assert mismatches(tmp_path / "model") == []


def test_files_that_cannot_be_linked_are_copied(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    save_directory(folder)
    assert mismatches(folder) == []
    assert json.loads((folder / "config.json").read_text()) == {"factor": 3}


@pytest.mark.parametrize("after_renames", [0, 1, 3, 5])
def test_an_interrupted_save_of_a_folder_is_finished_by_the_next_pack(
    tmp_path: Path, folder: Path, code: Path, monkeypatch: pytest.MonkeyPatch, after_renames: int
) -> None:
    """Its own files, which have two names meanwhile, are neither lost nor changed."""
    save_directory(folder, labels=["a"])
    renames = itertools.count()
    rename = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if next(renames) > after_renames:  # the first one commits the staging directory itself
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_directory(folder, name="bert", code_dir=code)
    pack(folder, tmp_path / "a.tar.gz")
    assert mismatches(folder) == []
    assert manifest_of(folder)["name"] == "bert"
    assert (folder / "config.json").read_text() == '{"factor": 3}'
    assert not [name for name in names_below(folder) if name.startswith(".save-")]
    assert not (folder / "labels.json").exists()


def test_a_torch_script_folder_answers_its_example_without_code(tmp_path: Path) -> None:
    (tmp_path / "ts").mkdir()
    torch_script(tmp_path / "ts")
    save_directory(tmp_path / "ts", example=torch.tensor([[1.5]]))
    assert json.loads((tmp_path / "ts/example/response.json").read_bytes()) == [[3.0]]


def emptied(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (lambda _: None, {"directory": "absent"}, "absent is not a directory"),
        (lambda _: None, {"directory": None}, "directory is None; give a path"),
        (lambda _: None, {"model_dir": "inside"}, "lies inside"),
        (
            lambda d: (d / "link").symlink_to("config.json"),
            {},
            r"link is a symbolic link to config.json \(cp -L copies",
        ),
        (lambda d: (d / "manifest.json").write_text('{"name": "another tool"}'), {}, 'has no "format_version"; write'),
        (lambda _: None, {"example": [1]}, "there is neither a model_fn nor one TorchScript file nor a named"),
        (emptied, {}, "holds no model"),
    ],
)
def test_a_folder_that_cannot_be_saved_is_one_sentence_and_stays_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make: Any, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.chdir(folder)
    make(folder)
    before = names_below(folder)
    with pytest.raises(ArtifactError, match=sentence) as caught:
        save_directory(**{"directory": folder, **options})
    assert "\n" not in str(caught.value)
    assert names_below(folder) == before


def test_where_to_save_can_be_asked_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="say where to save: pass model_dir or set SM_MODEL_DIR"):
        model_directory()
    assert model_directory(tmp_path / "a/b") == tmp_path / "a/b"
    assert names_below(tmp_path / "a") == ["b"]
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "job"))
    assert model_directory() == tmp_path / "job"
    assert (tmp_path / "job").is_dir()


@pytest.mark.parametrize("given", ["/proc/model", "/dev/null", "/dev/null/model"])
def test_a_place_that_takes_no_files_is_found_before_the_training(given: str) -> None:
    with pytest.raises(ArtifactError, match=f"the model directory {given} (cannot be written to|is a file)"):
        model_directory(given)
