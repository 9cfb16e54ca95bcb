"""What an `MLmodel` file may say, without mlflow: which paths it may name, and what has to be trusted."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tidegate.inference.errors import DeploymentError
from tidegate.inference.worker.foreign import mlmodel

PICKLED, COMPILED = mlmodel.TRUST_PICKLED, mlmodel.TRUST_COMPILED


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "model/data").mkdir(parents=True)
    return tmp_path / "model"


def write(root: Path, said: Any = None, **flavour: Any) -> Path:
    """An MLmodel file with the flavour `python_function`, or one that says `said`."""
    if said is None:
        said = {"flavors": {"python_function": {"loader_module": "mlflow.pytorch", "data": "data", **flavour}}}
    (root / "MLmodel").write_text(yaml.safe_dump(said))
    return root


def refusal(root: Path) -> str:
    with pytest.raises(DeploymentError) as caught:
        mlmodel.read(root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("flavour", "place"),
    [
        ({"data": "../elsewhere"}, "data"),
        ({"data": "/etc"}, "data"),
        ({"data": "s3://bucket/model"}, "data"),
        ({"data": "file:///etc"}, "data"),
        ({"code": "../code"}, "code"),
        ({"python_model": "data/../../python_model.pkl"}, "python_model"),
        ({"model_code_path": ".."}, "model_code_path"),
        ({"env": "../conda.yaml"}, "env"),
        ({"env": {"conda": "/tmp/conda.yaml"}}, "env.conda"),
        ({"artifacts": {"words": {"path": "/etc/passwd"}}}, "artifacts.words.path"),
        ({"extra_files": [{"path": "a"}, {"path": "../b"}]}, "extra_files[1].path"),
        ({"data": "a\0b"}, "data"),
    ],
)
def test_a_path_that_leads_out_is_refused_with_its_place(root: Path, flavour: dict[str, Any], place: str) -> None:
    assert f"flavors.python_function.{place} is " in refusal(write(root, **flavour))


def test_a_link_that_leads_out_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "linked").symlink_to(tmp_path)
    assert "'linked/elsewhere', which is outside" in refusal(write(root, data="linked/elsewhere"))


def test_the_example_must_lie_in_the_directory_too(root: Path) -> None:
    said = {
        "flavors": {"python_function": {"loader_module": "mlflow.pytorch"}},
        "saved_input_example_info": {"artifact_path": "../../secret.json"},
    }
    assert "saved_input_example_info.artifact_path is '../../secret.json'" in refusal(write(root, said))


def test_where_an_artifact_came_from_is_not_opened(root: Path) -> None:
    """`uri` says where the artifact was when the model was saved."""
    write(root, artifacts={"words": {"path": "artifacts/words.txt", "uri": "/home/someone/words.txt"}})
    assert mlmodel.read(root).loader == "mlflow.pytorch"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, "has no 'flavors'"),
        ([], "has no 'flavors'"),
        ({"flavors": {"python_function": None}}, "has no 'flavors'"),
        ({"flavors": {"spark": {}}}, "has the flavours spark, and only python_function can be served"),
        ({"flavors": {"python_function": {}}}, "names no loader_module"),
        ({"flavors": {"python_function": {"loader_module": "a", "data": 3}}}, "data must be a path; it is a int"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(root: Path, said: Any, sentence: str) -> None:
    assert sentence in refusal(write(root, said))


@pytest.mark.parametrize("text", ["{", "!!python/object/apply:os.system ['touch marker']", "&a [*a, *a", "\x00"])
def test_yaml_is_read_as_data(root: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(root)
    (root / "MLmodel").write_text(text)
    assert "cannot be read as YAML" in refusal(root)
    assert not (root / "marker").exists()


def test_a_file_without_end_is_not_read(root: Path) -> None:
    with (root / "MLmodel").open("wb") as file:
        file.truncate(1024**3)
    assert "is a short text" in refusal(root)


def test_a_pickled_network_needs_trust_and_torch_script_does_not(root: Path) -> None:
    model = mlmodel.read(write(root))
    torch.save(torch.nn.Linear(1, 1), root / "data/model.pth")
    assert mlmodel.needed_trust(model) == PICKLED
    with zipfile.ZipFile(root / "data/model.pth", "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/version", b"3")
    assert mlmodel.needed_trust(model) is None
    script = (root / "data/model.pth").read_bytes()
    (root / "data/model.pth").write_bytes(b"\x80\x04." + script)  # torch.load would unpickle what comes first
    assert mlmodel.needed_trust(model) == PICKLED


@pytest.mark.parametrize(
    ("flavour", "needed"),
    [
        ({"loader_module": "mlflow.pytorch"}, COMPILED),  # no model.pth: what is there is a model.pt2
        ({"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}, PICKLED),
        ({"loader_module": "mlflow.pyfunc.loaders.chat_model", "python_model": "python_model.pkl"}, PICKLED),
        ({"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "agent.py"}, None),
        ({"loader_module": "mlflow.sklearn"}, PICKLED),
        ({"loader_module": "mlflow.onnx"}, None),
        ({"loader_module": "own_loader", "code": "code"}, None),
        ({"loader_module": "somebodys_library.mlflow"}, PICKLED),
    ],
)
def test_what_is_no_data_and_no_code_of_the_archive_needs_trust(
    root: Path, flavour: dict[str, Any], needed: str | None
) -> None:
    (root / "code").mkdir()
    (root / "code/own_loader.py").touch()
    model = mlmodel.read(write(root, **flavour))
    assert mlmodel.needed_trust(model) == needed
    mlmodel.demand_trust(model, trust_pickle=needed == PICKLED, trust_compiled=needed == COMPILED)
    if needed is not None:
        with pytest.raises(DeploymentError, match=f"set {needed}=on if you trust the archive"):
            mlmodel.demand_trust(model, trust_pickle=needed != PICKLED, trust_compiled=needed != COMPILED)
