"""Model files that somebody made to do harm are refused in one sentence, and leave no trace."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.inference.model_files.test_kinds import save_onnx, save_program, save_script
from tests.inference.test_weights import CPU, NETWORK, STATE, describe, message
from tidegate.inference.errors import DeploymentError
from tidegate.inference.worker import weights


@pytest.fixture(autouse=True)
def network(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive / "code" / "tiny_net.py").write_text(NETWORK)
    monkeypatch.delitem(sys.modules, "tiny_net", raising=False)


class Gadget:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.mark,)


def gadgets(mark: Path) -> list[object]:
    gadget = Gadget(mark)
    return [gadget, {"linear.weight": gadget}, [STATE, gadget], {**STATE, "extra": (1, gadget)}]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("zipped", [True, False])
def test_a_gadget_in_a_pth_is_never_run(archive: Path, zipped: bool, protocol: int, at: int, named: bool) -> None:
    mark = archive / "mark"
    torch.save(
        gadgets(mark)[at], archive / "model.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
    )
    if named:
        describe(archive, file="model.pth", architecture="tiny_net:Net")
    assert "\n" not in message(archive)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_is_never_run(archive: Path, protocol: int) -> None:
    (archive / "model.pth").write_bytes(pickle.dumps(Gadget(archive / "mark"), protocol=protocol))
    describe(archive, file="model.pth", architecture="tiny_net:Net")
    assert "\n" not in message(archive)
    assert not (archive / "mark").exists()


def changed(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Write a zip anew with other contents of its members."""
    with zipfile.ZipFile(path) as source:
        members = [(name, source.read(name)) for name in source.namelist()]
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members:
            target.writestr(name, change(name, content))


def pickled(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("way", ["sample inputs", "weights by pickle"])
def test_a_tampered_program_is_not_opened_without_trust(tmp_path: Path, way: str) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "model.pt2"
    save_program(path)

    def change(name: str, content: bytes) -> bytes:
        if way == "sample inputs" and "sample_inputs" in name:
            return pickled(Gadget(mark))
        if way == "weights by pickle" and name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        if way == "weights by pickle" and name.endswith("weights/weight_0"):
            return pickled(Gadget(mark))
        return content

    changed(path, change)
    assert "TIDEGATE_TRUST_COMPILED_MODEL" in message(tmp_path)
    assert not mark.exists()
    with pytest.raises(DeploymentError):  # shows that the file is what the test says: with trust it runs
        weights.load(tmp_path, CPU, trust_compiled=True)
    assert mark.exists()


def save_pth(path: Path) -> None:
    torch.save(STATE, path)


def save_safetensors(path: Path) -> None:
    safetensors.torch.save_file(STATE, path)


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "model.safetensors", "model.onnx", "model.bin"])
@pytest.mark.parametrize("save", [save_pth, save_safetensors, save_script, save_onnx, save_program])
def test_a_file_of_another_kind_than_its_name_says_is_told_or_loads(
    archive: Path, save: Callable[[Path], None], name: str
) -> None:
    save(archive / name)
    describe(archive, file=name, architecture="tiny_net:Net")
    if save is save_program:
        assert "TIDEGATE_TRUST_COMPILED_MODEL" in message(archive)
    else:
        assert callable(weights.load(archive, CPU))


@pytest.mark.parametrize("kept", [0, 1, 60, 300])
@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "model.onnx", "model.pt"])
def test_a_file_that_is_cut_off_is_named(archive: Path, name: str, kept: int) -> None:
    path = archive / name
    {"model.pth": save_pth, "model.safetensors": save_safetensors, "model.onnx": save_onnx, "model.pt": save_script}[
        name
    ](path)
    content = path.read_bytes()
    path.write_bytes(content[: min(kept, len(content) - 10)])
    if name != "model.onnx":
        describe(archive, file=name, architecture="tiny_net:Net")
    assert message(archive).startswith(f"{{dir}}/{name} cannot be loaded")


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "model.onnx"])
def test_a_page_that_was_downloaded_instead_is_named(archive: Path, name: str) -> None:
    (archive / name).write_text("<!DOCTYPE html><html><body>403 Forbidden</body></html>")
    describe(archive, file=name, architecture="tiny_net:Net")
    assert message(archive).startswith(f"{{dir}}/{name} cannot be loaded")
    assert "\n" not in message(archive)


def header(tensors: dict[str, Any], length: int | None = None) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


LARGE = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}


@pytest.mark.parametrize(
    "content",
    [
        header({"linear.weight": LARGE}),
        header({}, 2**40),
        header({}, 2**63 + 1),
        header({"linear.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [-8, 0]}}) + bytes(8),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}} | {"b": LARGE}) + bytes(8),
        struct.pack("<Q", 100_000) + b"{" * 100_000,
    ],
)
def test_a_header_of_safetensors_that_asks_for_memory_gets_none(archive: Path, content: bytes) -> None:
    (archive / "model.safetensors").write_bytes(content)
    describe(archive, file="model.safetensors", architecture="tiny_net:Net")
    assert message(archive).startswith("{dir}/model.safetensors cannot be loaded as safetensors: ")


def test_members_that_were_compressed_anew_are_read_as_what_they_are(archive: Path) -> None:
    path = archive / "model.pth"
    torch.save({"linear.weight": torch.full((1, 2), 3.0)}, path)
    with zipfile.ZipFile(path) as source:
        members = [(name, source.read(name)) for name in source.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members:
            target.writestr(name, content)
    describe(archive, file="model.pth", architecture="tiny_net:Net")
    assert weights.load(archive, CPU)(torch.ones(1, 2)).tolist() == [[6]]


def test_a_tensor_that_is_said_to_be_larger_than_its_file_is_refused(archive: Path) -> None:
    path = archive / "model.pth"
    torch.save({"linear.weight": torch.ones(1, 2)}, path)
    changed(path, lambda name, content: b"" if name.endswith("data/0") else content)
    describe(archive, file="model.pth", architecture="tiny_net:Net")
    assert message(archive).startswith("{dir}/model.pth cannot be loaded")
