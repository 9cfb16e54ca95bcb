"""tidegate_handler.py goes into the artifact, beside the script that imports it, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tidegate import handler_guide
from tests.training_hooks.artifacts import manifest_of, mismatches, unpacked
from tidegate import handler
from tidegate.training_hooks import Example, pack, save_directory, save_model

OURS = Path(handler.__file__).read_bytes()
STEPS = """
import torch


class Doubles:
    def __init__(self, model_dir): ...
    def preprocess(self, item): return torch.tensor(float(item))
    def forward(self, batch): return batch * 2
    def postprocess(self, output): return output.item()


model_fn, input_fn, predict_fn, output_fn = functions_of(Doubles)
"""


def code(place: Path, script: str) -> Path:
    place.mkdir(parents=True)
    (place / "inference.py").write_text(script)
    return place


@pytest.mark.parametrize(
    "line",
    [
        "from tidegate_handler import functions_of",
        "import tidegate_handler\nfunctions_of = tidegate_handler.functions_of",
        "if True:\n    from tidegate_handler import functions_of as named\nfunctions_of = named",
    ],
)
def test_save_model_takes_it_along_and_answers_the_example_with_it(tmp_path: Path, line: str) -> None:
    directory = save_model(
        torch.nn.Linear(1, 1),
        model_dir=tmp_path / "model",
        code_dir=code(tmp_path / "code", line + STEPS),
        example=Example(request=[1, 2.5]),
    )
    assert (directory / "code/tidegate_handler.py").read_bytes() == OURS
    assert (directory / "example/response.json").read_text() == "[2.0, 5.0]"
    assert "code/tidegate_handler.py" in manifest_of(directory)["files"]
    assert not (tmp_path / "code/tidegate_handler.py").exists()


def test_pack_takes_it_along(tmp_path: Path) -> None:
    """Also where the import is in a helper, and where the script lies at the root of the archive."""
    model = tmp_path / "model"
    code(model / "code", "from steps import *\n")
    (model / "code/steps.py").write_text("from tidegate_handler import functions_of" + STEPS)
    copy = unpacked(pack(model, tmp_path / "model.tar.gz").path, tmp_path / "copy")
    assert (copy / "code/tidegate_handler.py").read_bytes() == OURS
    assert mismatches(copy) == []
    assert not (model / "code/tidegate_handler.py").exists()
    flat = code(tmp_path / "flat", "from tidegate_handler import functions_of" + STEPS)
    assert pack(flat, tmp_path / "flat.tar.gz").files == ("inference.py", "manifest.json", "tidegate_handler.py")


def test_a_copy_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """It is what the script was written with."""
    model = tmp_path / "model"
    code(model / "code", "from tidegate_handler import functions_of")
    (model / "code/tidegate_handler.py").write_text("functions_of = None\n")
    copy = unpacked(pack(model, tmp_path / "model.tar.gz").path, tmp_path / "copy")
    assert (copy / "code/tidegate_handler.py").read_text() == "functions_of = None\n"


@pytest.mark.parametrize(
    "script", ["import torch  # no tidegate_handler", "from .tidegate_handler import x", "tidegate_handler ="]
)
def test_a_script_that_does_not_import_it_gets_none(tmp_path: Path, script: str) -> None:
    model = tmp_path / "model"
    code(model / "code", script)
    assert "code/tidegate_handler.py" not in pack(model, tmp_path / "model.tar.gz").files


def test_save_directory_takes_a_copy_of_its_own(tmp_path: Path) -> None:
    """Not the installed file under a second name: whoever edits the archive's would edit that."""
    directory = tmp_path / "model"
    code(directory / "code", "from tidegate_handler import functions_of" + STEPS)
    save_directory(directory, example=Example(request=4))
    assert (directory / "code/tidegate_handler.py").read_bytes() == OURS
    assert not (directory / "code/tidegate_handler.py").samefile(handler.__file__)
    assert (directory / "example/response.json").read_text() == "8.0"


def test_the_guides_script_is_saved_with_the_answer_to_its_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code(tmp_path / "code", handler_guide.INFERENCE)
    monkeypatch.chdir(tmp_path)
    exec(compile(handler_guide.TRAIN, "train.py", "exec"), {})  # noqa: S102 - the page is ours
    assert '"label": "' in (tmp_path / "model/example/response.json").read_text()
