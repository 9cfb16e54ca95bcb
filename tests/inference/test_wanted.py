"""Which lines pip is given for a model, going by the files that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.packages.wanted import Wanted, wanted_by


@pytest.fixture
def mlflow(tmp_path: Path) -> Path:
    (tmp_path / "MLmodel").touch()
    return tmp_path


def lines(root: Path) -> list[str]:
    wanted = wanted_by(root)
    assert wanted is not None
    assert wanted.text is not None
    return wanted.text.splitlines()


def test_the_list_in_code_is_taken_as_it_is(mlflow: Path) -> None:
    (mlflow / "code").mkdir()
    for name in ("code/requirements.txt", "requirements.txt", "conda.yaml"):
        (mlflow / name).write_text("torch==1.0\n")
    assert wanted_by(mlflow) == Wanted(file=mlflow / "code/requirements.txt")


def test_a_list_beside_the_model_is_for_mlflow_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "requirements.txt").write_text("numpy\n")
    assert wanted_by(tmp_path) is None
    assert "requirements are installed from code/ alone" in caplog.text
    (tmp_path / "MLmodel").touch()
    assert lines(tmp_path) == ["numpy"]


def test_the_line_for_torch_is_left_out_and_no_other(mlflow: Path) -> None:
    (mlflow / "requirements.txt").write_text("mlflow==3.1\ntorch==2.3.0+cu121\n torch\ntorchvision==0.20\nTorch>=1\n")
    assert lines(mlflow) == ["mlflow==3.1", "torchvision==0.20"]


def test_other_lists_are_looked_for_beside_the_model(mlflow: Path) -> None:
    (mlflow / "requirements.txt").write_text("-c constraints.txt\n--requirement=more.txt\n-r https://a.example/r.txt\n")
    assert lines(mlflow) == [
        f"-c {mlflow}/constraints.txt",
        f"--requirement {mlflow}/more.txt",
        "-r https://a.example/r.txt",
    ]


def test_a_conda_environment_stands_in_for_a_list(mlflow: Path, caplog: pytest.LogCaptureFixture) -> None:
    (mlflow / "conda.yaml").write_text(
        "name: mlflow-env\nchannels: [conda-forge]\n"
        "dependencies: [python=3.11.7, pip<=23.2.1, libsndfile=1.2, {pip: [mlflow==3.1, torch==2.3.0, cloudpickle]}]\n"
    )
    assert lines(mlflow) == ["mlflow==3.1", "cloudpickle"]
    assert "packages of conda are not installed" in caplog.text
    assert caplog.records[-1].__dict__["packages"] == "libsndfile=1.2"


@pytest.mark.parametrize("text", ["{", "dependencies: 3", "!!python/object/apply:os.system ['true']"])
def test_a_conda_environment_that_is_none_is_one_sentence(mlflow: Path, text: str) -> None:
    (mlflow / "conda.yaml").write_text(text)
    with pytest.raises(DeploymentError, match=r"conda\.yaml"):
        wanted_by(mlflow)


def test_nothing_is_required_where_nothing_says_so(mlflow: Path) -> None:
    assert wanted_by(mlflow) is None
    (mlflow / "conda.yaml").write_text("")
    wanted = wanted_by(mlflow)
    assert wanted is not None
    assert wanted.is_empty
