"""A named network: the artifact needs no model_fn, and a name that does not hold is found at the save."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tidegate.training_hooks import ArtifactError, Example, save_model

from .artifacts import manifest_of, mismatches, names_below

NETS = """\
from os import system

import torch

class Line(torch.nn.Linear):
    def __init__(self, *, width, scale=1.0):
        super().__init__(width, 1)
        self.scale = scale

def line(**arguments):
    return Line(**arguments)

def text():
    return "no network"
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "my_code" / "nets").mkdir(parents=True)
    (tmp_path / "my_code" / "nets" / "__init__.py").write_text("")
    (tmp_path / "my_code" / "nets" / "lines.py").write_text(NETS)
    return tmp_path / "my_code"


@pytest.mark.parametrize("name", ["nets.lines:Line", "nets.lines:line"])
def test_the_class_and_its_arguments_are_in_the_manifest_and_need_no_script(
    tmp_path: Path, nets: Path, name: str
) -> None:
    directory = save_model(
        nn.Linear(3, 1),
        model_dir=tmp_path / "m",
        code_dir=nets,
        architecture=name,
        arguments={"width": 3, "scale": torch.tensor(0.5)},
        example=Example(request=[[1, 2, 3]], response=[[0]]),
    )
    assert manifest_of(directory)["weights"] == {
        "file": "model.pth",
        "format": "state_dict",
        "architecture": name,
        "arguments": {"width": 3, "scale": 0.5},
    }
    assert mismatches(directory) == []
    assert not [file for file in names_below(directory) if "__pycache__" in file]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"architecture": "nets.lines"}, "architecture is 'nets.lines'; name it as 'module:Class'"),
        ({"architecture": "nets/lines:Line"}, "architecture is 'nets/lines:Line'; name it as 'module:Class'"),
        ({"arguments": {"width": 3}}, "arguments are given without an architecture that takes them"),
        ({"architecture": "nets.lines:Line", "arguments": [3]}, "arguments is a list; give a mapping of keywords"),
        (
            {"architecture": "nets.lines:Line", "arguments": {"width": object()}},
            r"arguments\['width'\] is an object, which JSON cannot hold",
        ),
        (
            {"architecture": "nets.lines:Absent"},
            "'nets.lines:Absent' cannot be built from code_dir: AttributeError: module 'nets.lines' has no attribute",
        ),
        ({"architecture": "absent:Line"}, "'absent:Line' cannot be built from code_dir: ModuleNotFoundError: "),
        ({"architecture": "nets.lines:Line"}, "TypeError: Line.__init__.. missing 1 required keyword-only argument"),
        ({"architecture": "os:system"}, "'os:system' cannot be built from code_dir: ModuleNotFoundError: "),
        ({"architecture": "torch.nn:Linear"}, "'torch.nn:Linear' cannot be built from code_dir: ModuleNotFoundError"),
        ({"architecture": "nets.lines:system"}, "'nets.lines:system' must be a torch.nn.Module's class, or a function"),
        ({"architecture": "nets.lines:text"}, "'nets.lines:text' makes a str, not a torch.nn.Module"),
        (
            {"architecture": "nets.lines:Line", "arguments": {"width": 4}},
            "the weights do not fit 'nets.lines:Line': .*size mismatch for weight",
        ),
    ],
)
def test_a_name_that_does_not_hold_is_refused_and_nothing_is_kept(
    tmp_path: Path, nets: Path, options: dict[str, Any], sentence: str
) -> None:
    (nets / "inference.py").write_text("")
    with pytest.raises(ArtifactError, match=sentence):
        save_model(nn.Linear(3, 1), model_dir=tmp_path / "m", code_dir=nets, **options)
    assert not (tmp_path / "m").exists() or names_below(tmp_path / "m") == []


def test_a_named_network_needs_the_folder_with_its_module(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the architecture 'nets:Line' needs code_dir"):
        save_model(nn.Linear(3, 1), model_dir=tmp_path / "m", architecture="nets:Line")
