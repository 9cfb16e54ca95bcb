"""What the real mlflow saves is served, and answered as mlflow's own scoring server answers the same bodies."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.environments import python_of
from tests.ecosystem.serving import checked, served

HERE = Path(__file__).parent
PICKLED = {"TIDEGATE_TRUST_PICKLED_MODEL": "on"}
COMPILED = {"TIDEGATE_TRUST_COMPILED_MODEL": "on"}
TRUSTED = {"pickled": PICKLED, "script": {}, "pt2": COMPILED, "python": PICKLED, "code": {}}
"""What each kind of model needs to be served; TorchScript and code of the archive need nothing."""


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that has mlflow, and all that is ours."""
    return str(python_of("mlflow", sees_ours=True))


@pytest.fixture(scope="module")
def models(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each kind, and what mlflow answers for it."""
    folder = tmp_path_factory.mktemp("mlflow")
    done = subprocess.run(
        [python, str(HERE / "save_models.py"), str(folder)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for kind in TRUSTED:
        if kind != "script":  # one is enough to show that its packages are looked for
            (folder / kind / "requirements.txt").unlink()
            (folder / kind / "conda.yaml").unlink()
    return folder


@pytest.mark.parametrize("kind", TRUSTED)
def test_a_model_of_mlflow_is_answered_as_mlflow_answers_it(
    models: Path, python: str, tmp_path: Path, kind: str
) -> None:
    asked = json.loads((models / "answers.json").read_text())[kind]
    with served(models / kind, tmp_path / "base", python, **TRUSTED[kind]) as server:
        assert server.log().count("all requirements are here already") == (kind == "script")
        for name, expected in asked.items():
            reply = server.post(expected["body"], expected["type"])
            assert reply.status == expected["status"], (name, reply.body)
            if reply.status == 200:
                assert reply.json() == json.loads(expected["answer"]), name
                assert reply.headers["content-type"] == "application/json"
            else:
                assert reply.error["code"] == "bad_request", name
        assert server.post("a,b\n1,2\n", "text/plain").status == 415
    left = {path.relative_to(tmp_path / "base/model") for path in (tmp_path / "base/model").rglob("*")}
    assert not [path for path in left if path.name not in {each.name for each in (models / kind).rglob("*")}]


@pytest.mark.parametrize("kind", ["pickled", "pt2", "python"])
def test_what_may_run_code_is_refused_and_named(models: Path, python: str, tmp_path: Path, kind: str) -> None:
    hostile = _with_gadget(models / kind, tmp_path, kind)
    done = checked(hostile, python, TIDEGATE_TRUST_PICKLED_MODEL="off")
    variable = "TIDEGATE_TRUST_COMPILED_MODEL" if kind == "pt2" else "TIDEGATE_TRUST_PICKLED_MODEL"
    assert done.returncode == 1
    assert f"set {variable}=on if you trust the archive" in done.stderr
    assert not (tmp_path / "marker").exists()


def test_a_pickle_that_ends_as_torch_script_is_refused(models: Path, python: str, tmp_path: Path) -> None:
    """Readers of zips take what comes before one for nothing; `torch.load` would unpickle it."""
    hostile = tmp_path / "hostile"
    shutil.copytree(models / "script", hostile)
    script = (hostile / "data/model.pth").read_bytes()
    (hostile / "data/model.pth").write_bytes(_gadget(tmp_path) + script)
    done = checked(hostile, python)
    assert done.returncode == 1
    assert "is unpickled by mlflow.pytorch" in done.stderr
    assert not (tmp_path / "marker").exists()


def test_check_says_what_loads_the_model(models: Path, python: str) -> None:
    done = checked(models / "code", python)
    assert done.returncode == 0, done.stderr
    assert "is loaded by mlflow.pyfunc.load_model" in done.stdout


def test_a_script_wins_over_mlflow(models: Path, python: str, tmp_path: Path) -> None:
    folder = tmp_path / "with-script"
    shutil.copytree(models / "pickled", folder)
    (folder / "code").mkdir()
    (folder / "code/inference.py").write_text(
        "def model_fn(model_dir):\n    return None\n\ndef transform_fn(model, body, content_type, accept):\n"
        "    return 'the script', 'text/plain'\n"
    )
    with served(folder, tmp_path / "base", python) as server:
        assert server.post("{}").body == b"the script"


class _Marks:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _gadget(folder: Path) -> bytes:
    return pickle.dumps(_Marks(folder / "marker"))


def _with_gadget(model: Path, folder: Path, kind: str) -> Path:
    shutil.copytree(model, folder / kind)
    name = {"pickled": "data/model.pth", "pt2": "data/model.pt2", "python": "python_model.pkl"}[kind]
    (folder / kind / name).write_bytes(_gadget(folder))
    return folder / kind
