"""Model files are told by their content, whatever their names say, and whatever their headers pretend."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import safetensors.torch
import torch

from tidegate.inference.model_files import damage, onnx_header, shard_index, torch_pickle, zip_members
from tidegate.inference.model_files.kinds import Kind, kind_of, runs_code

STATE = {"weight": torch.ones(2, 3)}


def save_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), str(path))  # type: ignore[no-untyped-call]


def save_program(path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 1), (torch.ones(1, 2),))
    with path.open("wb") as file:
        torch.export.save(program, file)


def save_onnx(path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    one = value("x", onnx.TensorProto.FLOAT, ["batch", 2]), value("y", onnx.TensorProto.FLOAT, ["batch", 2])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "graph", [one[0]], [one[1]])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


def save_package(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("archive_format", "data/aotinductor/model/model.wrapper.so", "models/model.json"):
            archive.writestr(f"name/{name}", b"")


def save_old_program(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")


def save_index(path: Path, shard: str) -> None:
    path.with_name(f"{path.name}{shard_index.SUFFIX}").write_text(json.dumps({"weight_map": {"weight": shard}}))


WRITERS: dict[Kind, list[Callable[[Path], object]]] = {
    Kind.STATE_DICT: [
        lambda path: torch.save(STATE, path),
        lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        lambda path: torch.save(STATE, path, pickle_protocol=4),
    ],
    Kind.PICKLED_MODULE: [
        lambda path: torch.save(torch.nn.ReLU(), path),
        lambda path: torch.save(torch.nn.ReLU(), path, _use_new_zipfile_serialization=False),
        lambda path: torch.save(torch.nn.ReLU(), path, pickle_protocol=4),
    ],
    Kind.TORCH_SCRIPT: [save_script],
    Kind.EXPORTED_PROGRAM: [save_program, save_old_program],
    Kind.AOT_INDUCTOR: [save_package],
    Kind.SAFETENSORS: [lambda path: safetensors.torch.save_file(STATE, path)],
    Kind.ONNX: [save_onnx],
    Kind.UNKNOWN: [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps({"weight": 1})),
        lambda path: path.write_bytes(b"<html>404</html>"),
        lambda path: zipfile.ZipFile(path, "w").close(),
    ],
}


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model"])
@pytest.mark.parametrize(("kind", "at"), [(kind, at) for kind, them in WRITERS.items() for at in range(len(them))])
def test_a_file_is_told_by_its_content_under_any_name(tmp_path: Path, kind: Kind, at: int, name: str) -> None:
    WRITERS[kind][at](tmp_path / name)
    assert kind_of(tmp_path / name) is kind


@pytest.mark.parametrize(("name", "kind"), [("m.safetensors", Kind.SAFETENSORS), ("m.onnx", Kind.ONNX)])
def test_where_the_content_says_nothing_the_suffix_does(tmp_path: Path, name: str, kind: Kind) -> None:
    (tmp_path / name).write_bytes(b"nothing that is known")
    assert kind_of(tmp_path / name) is kind
    torch.save(STATE, tmp_path / name)
    assert kind_of(tmp_path / name) is Kind.STATE_DICT


@pytest.mark.parametrize(
    ("shard", "kind"), [("a.safetensors", Kind.SAFETENSORS_INDEX), ("pytorch_model-1.bin", Kind.PICKLE_INDEX)]
)
def test_an_index_is_of_the_kind_of_its_files(tmp_path: Path, shard: str, kind: Kind) -> None:
    save_index(tmp_path / "model", shard)
    assert kind_of(tmp_path / "model.index.json") is kind


def test_a_directory_is_a_model_of_tensorflow_or_nothing(tmp_path: Path) -> None:
    assert kind_of(tmp_path) is Kind.UNKNOWN
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    assert kind_of(tmp_path) is Kind.SAVED_MODEL


def test_what_runs_code_is_said() -> None:
    assert [kind for kind in Kind if runs_code(kind)] == [
        Kind.PICKLED_MODULE,
        Kind.EXPORTED_PROGRAM,
        Kind.AOT_INDUCTOR,
    ]


# --- headers that pretend


def test_a_zip_whose_directory_is_said_to_be_huge_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"")
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x05\x06")
    content[at + 12 : at + 16] = struct.pack("<I", 2**31)
    path.write_bytes(bytes(content))
    assert zip_members.names(path) == []
    assert kind_of(path) is Kind.UNKNOWN


def test_a_directory_that_is_really_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(100):
            archive.writestr(f"model/data/{number}", b"")
    assert len(zip_members.names(path)) == 100
    monkeypatch.setattr(zip_members, "MAX_DIRECTORY_BYTES", 1000)
    assert zip_members.names(path) == []


def test_a_member_that_unpacks_to_more_than_any_pickle_has_names_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_members, "MAX_MEMBER_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "model.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(100_000))
    assert torch_pickle.named_class(tmp_path / "model.pth") is None


def test_a_header_of_safetensors_that_is_longer_than_its_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(struct.pack("<Q", 2**62) + b'{"weight":{}}')
    assert kind_of(tmp_path / "model.pt") is Kind.UNKNOWN


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x07",  # no graph
        b"\x3a\x00",  # no version
        b"\x08\x07\x3a\xff\xff\xff\xff\x0f",  # a graph longer than the file
        b"\x08\x07\x3a\x00\x7a\x00",  # a field that models do not have
        b"\x08" + b"\xff" * 20,  # a number without an end
        b"\x08\x07\x3a",
        b"graph",
    ],
)
def test_what_is_no_onnx_model_is_not_taken_for_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model").write_bytes(content)
    assert not onnx_header.is_onnx(tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is not readable JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("7", 'has no "weight_map"'),
        ('{"weight_map": {}}', 'has no "weight_map"'),
        ('{"weight_map": {"a": 7}}', "names 7 as the file of 'a', which is no file name"),
        ('{"weight_map": {"a": "../x"}}', "names '../x' as the file of 'a', which leads out of the model directory"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "which leads out of the model directory"),
        ('{"weight_map": {"a": "b/../../x"}}', "which leads out of the model directory"),
        ('{"weight_map": {"a": "..\\\\x"}}', "which leads out of the model directory"),
        ('{"weight_map": {"a": "b\\u0000"}}', "which is no file name"),
        ('{"weight_map": {"a": "x", "b": "y", "a": "z"}}', "has 'a' twice"),
    ],
)
def test_an_index_that_is_wrong_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        shard_index.read(path)
    assert said in str(caught.value)
    assert kind_of(path) is Kind.SAFETENSORS_INDEX


def test_an_index_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_index, "MAX_BYTES", 10)
    save_index(tmp_path / "model", "a.safetensors")
    with pytest.raises(ValueError, match="has more than 10 bytes"):
        shard_index.read(tmp_path / "model.index.json")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE HTML><p>Not found", "an HTML page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:",
            "a pointer of Git LFS, whose file was not fetched",
        ),
        (b"PK\x03\x04cut", "a zip that ends too early or is no model"),
        (bytes(100), "nothing but zeros where its header should be"),
        (b"anything", None),
    ],
)
def test_what_a_damaged_file_is_instead_is_said(tmp_path: Path, content: bytes, what: str | None) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    assert damage.seen(tmp_path / "model.pth") == what
