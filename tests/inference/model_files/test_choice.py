"""Which of several files is the model, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tidegate.inference.model_files.choice import choose
from tidegate.inference.model_files.found import ModelFile, is_missing_below, model_files
from tidegate.inference.model_files.kinds import Kind


def files(**kinds: Kind) -> list[ModelFile]:
    return [ModelFile(name=name.replace("__", "."), kind=kind) for name, kind in kinds.items()]


def chosen(found: list[ModelFile], weights: dict[str, str] | None = None, *, trust: bool = False) -> str:
    choice = choose(found, weights or {}, trust_compiled=trust)
    return choice.file.name if choice.file is not None else choice.problem


def test_the_file_that_the_manifest_names_is_served_where_it_holds_its_network() -> None:
    found = files(a__onnx=Kind.ONNX, b__onnx=Kind.ONNX)
    assert chosen(found, {"file": "b.onnx"}) == "b.onnx"
    assert chosen(found) == "holds several models (a.onnx, b.onnx); name one model.pt or define a model_fn."


def test_model_pt_comes_before_all_others() -> None:
    assert chosen(files(a__pth=Kind.TORCH_SCRIPT, model__pt=Kind.TORCH_SCRIPT, b__onnx=Kind.ONNX)) == "model.pt"


def test_files_with_usual_names_come_before_those_that_only_their_content_tells() -> None:
    assert chosen(files(training_args__bin=Kind.PICKLED_MODULE, model__onnx=Kind.ONNX)) == "model.onnx"
    assert chosen(files(weights__bin=Kind.ONNX)) == "weights.bin"


def test_numbers_without_a_network_are_passed_over_where_a_file_has_its_network() -> None:
    choice = choose(files(model__pth=Kind.STATE_DICT, model__onnx=Kind.ONNX), {}, trust_compiled=False)
    assert choice.file == ModelFile(name="model.onnx", kind=Kind.ONNX)
    assert [(each.file.name, each.why) for each in choice.passed_over] == [
        ("model.pth", "needs a network, and no architecture is named for it")
    ]
    assert chosen(files(model__pth=Kind.UNKNOWN, model__onnx=Kind.ONNX)) == "model.pth"


def test_compiled_models_are_served_only_where_the_deployer_trusts_them() -> None:
    both = files(model__pt2=Kind.EXPORTED_PROGRAM, model__onnx=Kind.ONNX)
    choice = choose(both, {}, trust_compiled=False)
    assert choice.file is not None
    assert choice.file.name == "model.onnx"
    assert [each.file.name for each in choice.passed_over] == ["model.pt2"]
    assert chosen(both, {"file": "model.pt2"}, trust=True) == "model.pt2"
    alone = files(model__pt2=Kind.AOT_INDUCTOR)
    assert chosen(alone) == (
        "holds nothing that can be served but model.pt2, which is a package of AOTInductor and may run code: set "
        "TIDEGATE_TRUST_COMPILED_MODEL=on if you trust the archive."
    )
    assert chosen(alone, trust=True) == "model.pt2"


def test_nothing_is_chosen_of_nothing() -> None:
    assert chosen([]) == ""


def test_parts_notes_code_and_hidden_files_are_no_models_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "._model.pth").write_bytes(b"macOS")
    assert is_missing_below(tmp_path)
    torch.save({"a": torch.ones(1)}, tmp_path / "part-1.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "part-1.bin"}}))
    assert not is_missing_below(tmp_path)
    assert model_files(tmp_path) == (ModelFile(name="pytorch_model.bin.index.json", kind=Kind.PICKLE_INDEX),)


@pytest.mark.parametrize("name", [".", "1"])
def test_a_saved_model_is_a_directory_or_the_model_directory_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "saved_model.pb").write_bytes(b"\x08\x01")
    assert model_files(tmp_path) == (ModelFile(name=name, kind=Kind.SAVED_MODEL),)
