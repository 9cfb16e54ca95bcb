"""Whole modules that torch.save wrote: named by their class, and built from the archive's code if trusted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.inference.test_loading import check
from tests.inference.test_weights import CPU, message
from tidegate.inference.errors import DeploymentError
from tidegate.inference.model_files import torch_pickle
from tidegate.inference.worker import pickled_module, user_code, weights
from tidegate.inference.worker.formats import missing_operators
from tidegate.inference.worker.formats.missing_operators import missing_operator
from tidegate.inference.worker.load_errors import naming

TRAINS = """
import sys, torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.ones_(self.linear.weight)

    def forward(self, x):
        return self.linear(x)

if __name__ == "__main__":
    torch.save(Net(), sys.argv[1], _use_new_zipfile_serialization=sys.argv[2] == "zip")
"""


@pytest.fixture(params=["zip", "of before torch 1.6"])
def trained(archive: Path, request: pytest.FixtureRequest) -> Path:
    """An archive with the model of a training script that was run as `python train.py`."""
    (archive / "train.py").write_text(TRAINS)
    saved = [str(archive / "train.py"), str(archive / "model.pth"), request.param]
    subprocess.run([sys.executable, "-W", "ignore", *saved], check=True)
    (archive / "train.py").unlink()
    return archive


@pytest.fixture
def code(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("script", "networks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    pickled_module.lend_classes_to_main(archive)
    return archive / "code"


def imported(code: Path, **files: str) -> None:
    for name, text in files.items():
        (code / f"{name}.py").write_text(text)
    __import__("script")


def test_a_class_of_main_is_the_one_that_the_archives_script_defines(trained: Path, code: Path) -> None:
    imported(code, script=TRAINS)
    model = weights.load(trained, CPU, trust_pickle=True)
    assert type(model) is sys.modules["script"].Net
    assert model(torch.ones(1, 2)).tolist() == [[2.0]]


def test_a_class_of_main_is_the_one_that_the_script_imports_from_a_helper(trained: Path, code: Path) -> None:
    imported(code, networks=TRAINS, script="from networks import Net")
    assert type(weights.load(trained, CPU, trust_pickle=True)) is sys.modules["networks"].Net


def test_a_class_that_the_archive_does_not_have_is_named_with_the_way_out(trained: Path, code: Path) -> None:
    imported(code, script="Net_ = 1")
    text = message(trained, trust_pickle=True)
    assert text.startswith("{dir}/model.pth cannot be loaded: Can't get attribute 'Net' on <module ")
    assert text.endswith(
        "; have code/inference.py define or import the class under that name, or save the state_dict instead."
    )


LOADS = """
import torch
from helpers import Net

def model_fn(model_dir):
    return torch.load(f"{model_dir}/model.pth", weights_only=False)
"""


def test_a_class_of_main_is_found_for_a_script_that_reads_the_file_itself(trained: Path) -> None:
    (trained / "code" / "inference.py").write_text(LOADS)
    (trained / "code" / "helpers.py").write_text(TRAINS)
    report = check(trained)
    assert report.status == 0, report.error


def test_a_class_that_a_script_which_reads_the_file_itself_lacks_is_named_with_the_way_out(trained: Path) -> None:
    (trained / "code" / "inference.py").write_text(LOADS.replace("from helpers import Net", ""))
    report = check(trained)
    assert report.sentence.startswith(
        f"{trained}/code/inference.py, line 6: model_fn raised AttributeError: Can't get attribute 'Net' on <module "
    )
    assert report.sentence.endswith(
        "; have code/inference.py define or import the class under that name, or save the state_dict instead."
    )


def test_nothing_but_the_names_of_the_archives_modules_is_lent_to_main(code: Path) -> None:
    imported(code, script="Net = 1\n_own = 2\n__spec__ = 3")
    main = sys.modules["__main__"]
    assert main.Net == 1
    assert not any(hasattr(main, name) for name in ("_own", "__file__", "get_ipython", "torch"))


def test_a_module_that_is_not_trusted_is_called_one_and_the_variable_is_named(trained: Path) -> None:
    assert message(trained) == (
        "{dir}/model.pth is a pickled module (__main__.Net), which cannot be served without code: add "
        "code/inference.py with a model_fn that builds the network and loads it, or name the network's class as "
        "weights.architecture in manifest.json, or set TIDEGATE_TRUST_PICKLED_MODEL=on if you trust the archive, "
        "because reading it runs code."
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("saved", "name"),
    [
        (torch.nn.Sequential(torch.nn.Linear(2, 1)), "torch.nn.modules.container.Sequential"),
        (torch.nn.Linear(2, 1).state_dict(), None),
        ({"epoch": 1, "model": torch.nn.Linear(2, 1).state_dict()}, None),
        ({"weight": torch.ones(2)}, None),
        ([torch.nn.Parameter(torch.ones(2))], None),
        ({"size": 3}, None),
    ],
)
def test_a_state_dict_is_told_from_a_pickled_module(
    tmp_path: Path, saved: object, name: str | None, zipped: bool
) -> None:
    torch.save(saved, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    assert torch_pickle.is_torch_save(tmp_path / "model.pth")
    assert torch_pickle.named_class(tmp_path / "model.pth") == name
    assert ("TIDEGATE_TRUST_PICKLED_MODEL" in message(tmp_path)) == (name is not None)


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"PK\x03\x04"])
def test_what_torch_did_not_write_names_no_class(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    assert torch_pickle.named_class(tmp_path / "model.pth") is None


USES_AN_OPERATOR = """
import sys, torch
library = torch.library.Library("toy", "DEF")
library.define("twice(Tensor x) -> Tensor")

class Net(torch.nn.Module):
    def forward(self, x):
        return torch.ops.toy.twice(x)

torch.jit.script(Net()).save(sys.argv[1])
"""


def test_an_operator_that_nothing_has_registered_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(USES_AN_OPERATOR)
    subprocess.run([sys.executable, "-W", "ignore", "train.py", "model.pt"], check=True, cwd=tmp_path)
    assert message(tmp_path) == (
        "{dir}/model.pt cannot be loaded as TorchScript: it needs the operator toy::twice, which nothing here has "
        "registered; import the package that does, such as torchvision, in code/inference.py, and name it in "
        "code/requirements.txt."
    )


def test_a_class_that_nothing_has_registered_is_named_too() -> None:
    error = RuntimeError("\nUnknown type name '__torch__.torch.classes.toy.Stack':\n  File ...")
    assert str(missing_operator(error)).startswith("it needs the class torch.classes.toy.Stack, which")
    assert missing_operator(RuntimeError("something else")) is None


class Pickled(torch.nn.Module):
    pass


@pytest.mark.parametrize("by_default", [True, False], ids=["by default", "as the call says"])
def test_a_torch_load_of_a_script_that_is_refused_is_told_with_the_file_the_class_and_the_way_out(
    tmp_path: Path, by_default: bool
) -> None:
    path = tmp_path / "model.pth"
    torch.save(Pickled(), path)
    with pytest.raises(DeploymentError) as caught, naming("model_fn", None, tmp_path):
        torch.load(path, weights_only=None if by_default else True)
    since = " by default since PyTorch 2.6" if by_default else ""
    variable = ", or leave the archive as it is and set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1" if by_default else ""
    assert str(caught.value) == (
        f"{tmp_path}: model_fn raised UnpicklingError: model.pth holds pickled objects ({__name__}.Pickled), and "
        f"torch.load reads only tensors{since}; if you made the file, pass weights_only=False to that "
        f"torch.load{variable} (the file can then run code), or save a state_dict instead."
    )


def test_a_package_whose_build_does_not_fit_torch_is_named_with_the_index_of_those_that_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_operators, "torch_here", lambda: "2.13.0+cpu")
    script = tmp_path / "imports_vision.py"
    script.write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.setitem(sys.modules, script.stem, ModuleType(script.stem))  # and taken away again
    with pytest.raises(DeploymentError) as caught:
        user_code.import_script(script)
    assert str(caught.value) == (
        f"{script}, line 1: RuntimeError: operator torchvision::nms does not exist: the build of torchvision that is "
        "installed does not fit torch 2.13.0+cpu; in code/requirements.txt, name torchvision in the version for this "
        "torch, and in a line of its own the index of its builds: "
        "--extra-index-url https://download.pytorch.org/whl/cpu."
    )
    monkeypatch.setattr(missing_operators, "torch_here", lambda: "2.13.0")
    assert str(missing_operator(RuntimeError("operator torchvision::nms does not exist"))).endswith("for this torch")
