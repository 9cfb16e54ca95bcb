"""What `export` makes of an artifact: forms that answer as the network does, or one sentence and nothing changed."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tidegate.training_hooks import ArtifactError, Example, export, save_directory, save_model
from tidegate.training_hooks.__main__ import main
from tidegate.training_hooks.unfinished_files import hidden_name

from ..artifacts import manifest_of, mismatches, names_below
from .archives import archive, network

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_an_onnx_form_is_written_recorded_and_answers_as_the_network_does(tmp_path: Path) -> None:
    """With BatchNorm and dropout in evaluation mode, on a batch size that was never tried."""
    model_dir = archive(tmp_path, "Wide", torch.rand(1, 8))
    before = manifest_of(model_dir)
    done = export(model_dir, to="onnx", batch_sizes=[1, 3], threads=1, force=True, atol=0.05)
    manifest = manifest_of(model_dir)
    (form,) = manifest["forms"]
    assert done.kept == (form,)
    assert not mismatches(model_dir)
    assert {key: manifest[key] for key in before if key != "files"} == {
        key: before[key] for key in before if key != "files"
    }
    assert set(manifest["files"]) == {*before["files"], "forms/onnx/model.onnx"}
    assert (form["name"], form["kind"], form["file"]) == ("onnx", "onnx", "forms/onnx/model.onnx")
    assert form["made_from"]["sha256"] == manifest["files"]["model.pth"]["sha256"]
    assert form["signature"] == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 8]}],
        "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", 4]}],
        "dimensions": {"batch": {"min": 1, "max": 1024}},
        "positional": ["x"],
        "keyword": [],
        "structure": "tensor",
    }
    assert form["parity"]["batch_sizes"] == [1, 2, 3]
    assert form["parity"]["non_finite"] == "as eager"
    assert form["parity"]["largest_difference"] < 1e-5
    assert form["parity"]["atol"] == manifest["example"]["atol"]  # it needs no more, whatever another form does
    assert set(form["measured"]["batches"]) == {"1", "3"}
    assert form["measured"]["threads"] == 1
    assert form["measured"]["load_s"] > 0
    assert {"memory_bytes", "eager_memory_bytes"} <= set(form["measured"])
    session = onnxruntime.InferenceSession(model_dir / form["file"], providers=["CPUExecutionProvider"])
    given = torch.rand(5, 8)
    (answer,) = session.run(None, {"x": given.numpy()})
    assert np.allclose(answer, network("Wide")(given).detach().numpy(), atol=1e-5)


def test_a_largest_batch_of_one_gives_a_form_of_one_row(tmp_path: Path) -> None:
    """An endpoint of single requests needs no other; an example of several rows cannot show it, and is named."""
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    model_dir = archive(tmp_path / "one", "Wide", torch.rand(1, 8))
    done = export(model_dir, to="onnx", max_batch=1, threads=1, force=True)
    (form,) = done.kept
    assert (form["signature"]["inputs"][0]["shape"], form["signature"]["dimensions"]) == ([1, 8], {})
    assert set(form["measured"]["batches"]) == {"1"}
    assert "the forms take a batch of one alone, as max_batch says" in done.notes
    with pytest.raises(ArtifactError, match=r"^max_batch is 1, and the example has 3 rows; save the model with an"):
        export(archive(tmp_path / "several", "Wide", torch.rand(3, 8)), to="onnx", max_batch=1, threads=1)


def test_eager_forms_need_no_file_and_several_stand_in_the_order_of_their_speed(tmp_path: Path) -> None:
    """A later export adds to them; one to the same form replaces it."""
    model_dir = archive(tmp_path, "Wide", Example(request=torch.rand(2, 8), rtol=0.1, atol=0.1))
    export(model_dir, to="pt2", batch_sizes=[2], threads=1, force=True)
    done = export(model_dir, to=["channels_last", "pt2"], batch_sizes=[2], threads=1, force=True)
    forms = manifest_of(model_dir)["forms"]
    assert sorted(form["name"] for form in forms) == ["channels_last", "pt2"]
    assert list(done.kept) == forms
    ratios = [form["measured"]["batches"]["2"]["ratio"] for form in forms]
    assert ratios == sorted(ratios, reverse=True)
    (eager,) = (form for form in forms if form["kind"] == "eager")
    assert "file" not in eager
    assert eager["settings"] == {"memory_format": "channels_last"}
    assert not mismatches(model_dir)


def test_two_inputs_of_whole_numbers_keep_their_dynamic_length_and_the_answer_its_keys(tmp_path: Path) -> None:
    """A text model: the script's own functions make the ids, and call the network by keywords."""
    script = """\
import torch
def input_fn(body, content_type):
    import json
    ids = torch.tensor(json.loads(body))
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}
def predict_fn(data, model):
    return model(**data)["logits"]
"""
    model_dir = archive(tmp_path, "Words", [[1, 2, 3, 4, 5, 0]], script=script)
    export(
        model_dir,
        to="onnx",
        batch_sizes=[2],
        dynamic=["input_ids:1=32", "attention_mask:1=32"],
        threads=1,
        force=True,
    )
    (form,) = manifest_of(model_dir)["forms"]
    signature = form["signature"]
    assert signature["inputs"] == [
        {"name": "input_ids", "dtype": "int64", "shape": ["batch", "input_ids_1"]},
        {"name": "attention_mask", "dtype": "int64", "shape": ["batch", "input_ids_1"]},
    ]
    assert (signature["positional"], signature["keyword"]) == ([], ["input_ids", "attention_mask"])
    assert signature["structure"] == {"dict": ["logits", "hidden"]}
    assert [each["shape"] for each in signature["outputs"]] == [["batch", 3], ["batch", "input_ids_1", 8]]
    assert signature["dimensions"]["input_ids_1"] == {"min": 1, "max": 32}
    session = onnxruntime.InferenceSession(model_dir / form["file"], providers=["CPUExecutionProvider"])
    ids = torch.tensor([[7, 8, 9], [1, 2, 0], [3, 0, 0]])
    mask = (ids > 0).long()
    logits, _ = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    assert np.allclose(logits, network("Words")(ids, mask)["logits"].detach().numpy(), atol=1e-5)


def test_a_network_that_takes_a_dict_and_answers_with_a_tuple_says_so(tmp_path: Path) -> None:
    """As the default input_fn gives it for a JSON object."""
    model_dir = archive(tmp_path, "Keyed", {"one": [[1, 2, 3]], "other": [[4, 5, 6]]})
    done = export(model_dir, to="channels_last", batch_sizes=[2], threads=1, force=True)
    (form,) = manifest_of(model_dir)["forms"]
    assert form["signature"]["positional"] == [{"dict": {"one": "one", "other": "other"}}]
    assert form["signature"]["structure"] == "tuple"
    assert [each["name"] for each in form["signature"]["outputs"]] == ["output_0", "output_1"]
    assert any("one row without its batch axis, which eager takes, is refused" in note for note in done.notes)


def test_a_script_that_loads_the_model_itself_is_told_when_its_forms_are_used(tmp_path: Path) -> None:
    """Its context stands in for the server's, which has no form to offer yet."""
    script = """\
import torch
from nets import Wide
def model_fn(model_dir, context):
    model = Wide()
    model.load_state_dict(torch.load(model_dir + "/model.pth", weights_only=True))
    return context.verified_form() or model.eval()
"""
    example = Example(request=torch.rand(1, 8), response=[[0.0] * 4], atol=10.0)
    model_dir = archive(tmp_path, "Wide", example, script=script)
    done = export(model_dir, to="channels_last", batch_sizes=[2], threads=1, force=True)
    assert [form["name"] for form in done.kept] == ["channels_last"]
    assert any("context.verified_form()" in note for note in done.notes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_in_torchscript_has_an_onnx_form(tmp_path: Path) -> None:
    """It needs no code, and the export none of its class."""
    model_dir = tmp_path / "model"
    model_dir.mkdir()
    torch.jit.trace(network("Wide"), torch.rand(2, 8)).save(str(model_dir / "model.pt"))  # type: ignore[no-untyped-call]
    save_directory(model_dir, example=torch.rand(1, 8))
    (form,) = export(model_dir, to="onnx", batch_sizes=[2], threads=1, force=True).kept
    assert form["made_from"]["file"] == "model.pt"
    session = onnxruntime.InferenceSession(model_dir / form["file"], providers=["CPUExecutionProvider"])
    given = torch.rand(5, 8)
    (answer,) = session.run(None, {"x": given.numpy()})
    assert np.allclose(answer, network("Wide")(given).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("Noisy", (1, 3), "answers the same input differently each time"),
        ("Nested", (1, 3), "its answer holds a tuple"),
    ],
)
def test_a_network_that_no_form_can_be_held_against_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...], sentence: str
) -> None:
    """In one sentence, and the artifact stays as it was; what a killed export left below TMPDIR goes."""
    below = tmp_path / "temporary"
    killed = hidden_name(below, "export")
    (killed / "forms").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(below))
    example = Example(request=torch.rand(shape), response={"any": 1})
    model_dir = archive(tmp_path, name, example)
    before = (names_below(model_dir), (model_dir / "manifest.json").read_bytes())
    with pytest.raises(ArtifactError, match=sentence):
        export(model_dir, to="channels_last", threads=1, force=True)
    assert (names_below(model_dir), (model_dir / "manifest.json").read_bytes()) == before
    assert list(below.iterdir()) == []


def test_a_network_whose_answer_has_no_batch_axis_has_forms_of_the_examples_size(tmp_path: Path) -> None:
    """And the caller is told."""
    model_dir = archive(tmp_path, "Summed", torch.rand(4, 3))
    done = export(model_dir, to="channels_last", threads=1, force=True)
    assert any("no batch axis" in note for note in done.notes)
    (form,) = done.kept
    assert form["signature"]["inputs"][0]["shape"] == [4, 3]
    assert form["signature"]["dimensions"] == {}
    assert set(form["measured"]["batches"]) == {"4"}


def test_a_candidate_that_cannot_be_built_is_one_line_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that looks at its data cannot be traced, but can have its weights laid out anew."""
    model_dir = archive(tmp_path, "Picky", torch.rand(1, 3))
    command = ["export", str(model_dir), "--to", "onnx,channels_last", "--threads", "1", "--force", "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["kept"] == ["channels_last"]
    (refused,) = (each for each in printed["forms"] if each["name"] == "onnx")
    assert refused["refused"]
    assert "\n" not in refused["refused"]


def test_what_takes_too_long_is_not_kept_and_the_command_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here of the time that a batch may take."""
    model_dir = archive(tmp_path, "Wide", torch.rand(1, 8))
    before = (model_dir / "manifest.json").read_bytes()
    command = ["export", str(model_dir), "--to", "channels_last", "--threads", "1", "--force"]
    assert main([*command, "--latency-budget-ms", "0"]) == 1
    assert (model_dir / "manifest.json").read_bytes() == before
    assert "no form was kept" in capsys.readouterr().err


def test_saving_the_model_again_removes_its_forms(tmp_path: Path) -> None:
    """They are of other weights."""
    model_dir = archive(tmp_path, "Wide", torch.rand(1, 8))
    export(model_dir, to="pt2", batch_sizes=[2], threads=1, force=True)
    archive(tmp_path, "Wide", torch.rand(1, 8))
    assert "forms" not in manifest_of(model_dir)
    assert not any(name.startswith("forms") for name in names_below(model_dir))


def test_a_directory_that_is_no_artifact_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """With the way out: nothing is there, no manifest, no example, a damaged file, an unknown form."""
    with pytest.raises(ArtifactError, match="is not a directory"):
        export(tmp_path / "none", to="onnx")
    with pytest.raises(ArtifactError, match=r"has no manifest.json; save the model with save_model"):
        export(tmp_path, to="onnx")
    model_dir = save_model(torch.nn.Linear(2, 2), model_dir=tmp_path / "model")
    with pytest.raises(ArtifactError, match="carries no example"):
        export(model_dir, to="onnx")
    with pytest.raises(ArtifactError, match="to is 'onyx'; it is one of onnx, "):
        export(model_dir, to="onyx")
    (model_dir / "model.pth").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"model.pth has 5 bytes"):
        export(model_dir, to="onnx")
