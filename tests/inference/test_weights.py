"""Models that are loaded without a model_fn: which file, by which architecture, and what is never read."""

from __future__ import annotations

import gzip
import importlib.util
import json
import pickle
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tidegate.inference.errors import DeploymentError
from tidegate.inference.worker import weights

CPU = torch.device("cpu")

NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self, size=2):
        super().__init__()
        self.linear = torch.nn.Linear(size, 1, bias=False)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.linear(x))

def make(size):
    return Net(size)

def no_module():
    return 7
"""

STATE = {"linear.weight": torch.tensor([[2.0, 3.0]])}


@pytest.fixture(autouse=True)
def tiny_net(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive / "code" / "tiny_net.py").write_text(NETWORK)
    monkeypatch.delitem(sys.modules, "tiny_net", raising=False)


def describe(root: Path, **described: Any) -> None:
    (root / "manifest.json").write_text(json.dumps({"format_version": 1, "files": {}, "weights": described}))


def message(root: Path, **how: Any) -> str:
    with pytest.raises(DeploymentError) as caught:
        weights.load(root, CPU, **how)
    return str(caught.value).replace(str(root), "{dir}")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_state_dict_is_loaded_into_the_class_that_the_manifest_names(archive: Path, suffix: str) -> None:
    path = archive / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(STATE, path)
    else:
        safetensors.torch.save_file(STATE, path)
    describe(archive, file=path.name, architecture="tiny_net:Net")
    model = weights.load(archive, CPU)
    assert not model.training
    assert model(torch.tensor([[1.0, 1.0]])).tolist() == [[5.0]]


def test_a_function_may_build_the_network_from_the_manifests_arguments(archive: Path) -> None:
    torch.save({"linear.weight": torch.ones(1, 3)}, archive / "model.pth")
    describe(archive, file="model.pth", architecture="tiny_net:make", arguments={"size": 3})
    assert weights.load(archive, CPU)(torch.ones(1, 3)).tolist() == [[3.0]]


def test_a_state_dict_from_before_torch_1_6_is_read_too(archive: Path) -> None:
    torch.save(STATE, archive / "model.pth", _use_new_zipfile_serialization=False)
    describe(archive, file="model.pth", architecture="tiny_net:Net")
    assert weights.load(archive, CPU)(torch.ones(1, 2)).tolist() == [[5.0]]


class Trap:
    """Sprung where it is unpickled."""

    sprung = 0

    def __reduce__(self) -> Any:
        return Trap.spring, ()

    @staticmethod
    def spring() -> dict[str, torch.Tensor]:
        Trap.sprung += 1
        return STATE


def test_pickled_objects_are_refused_without_being_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trap, "sprung", 0)
    torch.save(Trap(), archive / "model.pth")
    describe(archive, file="model.pth", architecture="tiny_net:Net")
    assert message(archive) == (
        "{dir}/model.pth holds more than weights, and reading it would run code: save its state_dict, or set "
        "TIDEGATE_TRUST_PICKLED_MODEL=on if you trust the archive."
    )
    assert Trap.sprung == 0
    assert weights.load(archive, CPU, trust_pickle=True)(torch.ones(1, 2)).tolist() == [[5.0]]
    assert Trap.sprung == 1


def test_a_pickled_module_is_served_where_the_deployer_trusts_it(archive: Path) -> None:
    torch.save(torch.nn.Dropout(), archive / "model.pth")
    model = weights.load(archive, CPU, trust_pickle=True)
    assert isinstance(model, torch.nn.Dropout)
    assert not model.training
    torch.save([1], archive / "model.pth")
    assert message(archive, trust_pickle=True) == (
        "{dir}/model.pth holds a list, no module; name weights.architecture for it."
    )


def test_a_damaged_file_is_named(archive: Path) -> None:
    (archive / "model.pth").write_bytes(b"nothing that torch wrote")
    describe(archive, file="model.pth", architecture="tiny_net:Net")
    assert message(archive).startswith("{dir}/model.pth cannot be loaded: ")
    (archive / "model.safetensors").write_bytes(b"\0" * 9)
    describe(archive, file="model.safetensors", architecture="tiny_net:Net")
    assert message(archive).startswith("{dir}/model.safetensors cannot be loaded as safetensors: ")


@pytest.mark.parametrize("architecture", ["tiny_net:Net", None])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (lambda _: b"<!DOCTYPE html><html>404", "an HTML page"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:aa", "a pointer of Git LFS"),
        (lambda _: b"", "empty"),
        (lambda _: b"\0" * 300, "nothing but zeros"),
        (gzip.compress, "a gzip archive"),
        (lambda whole: whole[:6], "cut off."),
        (lambda whole: whole[:50], "cut off: it has 50 bytes, and its header alone"),
        (lambda whole: whole[:-1], "cut off: it has {short} of {size} bytes"),
        (lambda _: struct.pack("<Q", 2**60) + b"{}", f"damaged: its header would have {2**60} bytes"),
        (lambda _: pickle.dumps(Trap()), "a pickle, which could run code while it is read"),
    ],
)
def test_a_damaged_file_of_safetensors_is_told_by_what_it_holds_with_an_architecture_or_without(
    archive: Path, content: Callable[[bytes], bytes], what: str, architecture: str | None
) -> None:
    whole = safetensors.torch.save(STATE)
    (archive / "model.pth").unlink(missing_ok=True)
    (archive / "model.safetensors").write_bytes(content(whole))
    describe(archive, file="model.safetensors", **({"architecture": architecture} if architecture else {}))
    said = what.format(short=len(whole) - 1, size=len(whole))
    assert message(archive).startswith(f"{{dir}}/model.safetensors cannot be loaded as safetensors: it is {said}")
    assert Trap.sprung == 0


@pytest.mark.parametrize(
    ("architecture", "arguments", "text"),
    [
        ("tiny_net", {}, "weights.architecture is 'module:Class' of the archive's code"),
        ("tiny_net:Net", [2], "weights.arguments an object; they are 'tiny_net:Net' and [2]."),
        (7, {}, "they are 7 and {}."),
        ("no_such_module:Net", {}, "'no_such_module:Net' cannot be built: there is no module 'no_such_module' in"),
        ("tiny_net:Nothing", {}, "tiny_net.py has no 'Nothing'."),
        ("tiny_net:make", {}, "'tiny_net:make' cannot be built: TypeError"),
        ("tiny_net:no_module", {}, "'tiny_net:no_module' makes a int, not a torch.nn.Module."),
        ("tiny_net:Net", {"size": 5}, "{dir}/model.pth does not fit 'tiny_net:Net': "),
    ],
)
def test_an_architecture_that_cannot_be_built_or_filled_is_said(
    archive: Path, architecture: Any, arguments: Any, text: str
) -> None:
    torch.save(STATE, archive / "model.pth")
    describe(archive, file="model.pth", architecture=architecture, arguments=arguments)
    assert text in message(archive)
    assert "\n" not in message(archive)


BORROWED = """
import functools
import os
from os import abort, system
from subprocess import run
from torch.nn import Linear
call = functools.partial(system)
"""


@pytest.mark.parametrize(
    "architecture",
    [
        "os:system",
        "posix:system",
        "builtins:eval",
        "subprocess:getoutput",
        "os.path:exists",
        "torch.hub:load",
        "torch:load",
        "torch.nn:Linear",
        "borrowed:system",
        "borrowed:abort",
        "borrowed:run",
        "borrowed:call",
        "borrowed:os.system",
        "borrowed.os:system",
        "taken:system",
        "..code.borrowed:run",
        "borrowed.py:run",
        "elsewhere:make",
    ],
)
@pytest.mark.parametrize("with_code", [True, False])
def test_a_manifest_calls_nothing_but_a_network_of_the_archives_own_files(
    archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    with_code: bool,
) -> None:
    """Whatever function of Python a manifest names, it is refused before it is called, as is a borrowed name."""
    ran = archive / "ran"
    outside = tmp_path_factory.mktemp("outside")
    (outside / "elsewhere.py").write_text(f"open({str(ran)!r}, 'w')\ndef make(**given): open({str(ran)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(outside))
    if with_code:
        (archive / "code" / "borrowed.py").write_text(BORROWED)
        (archive / "code" / "os.py").write_text("def system(command): ...\n")
    else:
        shutil.rmtree(archive / "code")
    monkeypatch.delitem(sys.modules, "borrowed", raising=False)
    torch.save(STATE, archive / "model.pth")
    describe(archive, file="model.pth", architecture=architecture, arguments={"command": f"touch {ran}"})
    said = message(archive)
    assert "weights.architecture is 'module:Class'" in said or repr(architecture) in said
    assert "TypeError" not in said, "it was called"
    assert not ran.exists()
    assert "elsewhere" not in sys.modules


def test_a_network_may_be_imported_and_its_function_stand_in_another_file_of_the_archive(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`code/` may gather names: a class of an installed package, and a function of another file of its own."""
    (archive / "code" / "gathered.py").write_text("from tiny_net import make\nfrom torch.nn import Linear\n")
    monkeypatch.delitem(sys.modules, "gathered", raising=False)
    torch.save(STATE, archive / "model.pth")
    describe(archive, file="model.pth", architecture="gathered:make", arguments={"size": 2})
    assert weights.load(archive, CPU)(torch.ones(1, 2)).tolist() == [[5.0]]
    torch.save({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, archive / "model.pth")
    describe(archive, file="model.pth", architecture="gathered:Linear", arguments={"in_features": 2, "out_features": 1})
    assert weights.load(archive, CPU)(torch.ones(1, 2)).tolist() == [[2.0]]


def test_the_named_file_must_be_there_and_inside(archive: Path) -> None:
    describe(archive, file="gone.pth", architecture="tiny_net:Net")
    assert message(archive) == "{dir}/gone.pth is missing, although the manifest names it as weights.file."
    describe(archive, file="../outside.pth", architecture="tiny_net:Net")
    assert message(archive) == "manifest.json names '../outside.pth', which is outside the model directory."


@pytest.mark.parametrize("package", ["safetensors", "onnxruntime"])
def test_a_package_that_is_not_installed_is_named(archive: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    name = "model.safetensors" if package == "safetensors" else "model.onnx"
    (archive / name).write_bytes(b"")
    if package == "safetensors":
        describe(archive, file=name, architecture="tiny_net:Net")
    assert message(archive) == f"{{dir}}/{name} needs the package {package}: name it in code/requirements.txt."


def test_weights_without_an_architecture_say_how_to_name_one(archive: Path) -> None:
    safetensors.torch.save_file(STATE, archive / "model.safetensors")
    assert message(archive) == (
        "{dir}/model.safetensors is a state dict, which cannot be served without code: add code/inference.py with a "
        "model_fn that builds the network and loads it, or name the network's class as weights.architecture in "
        "manifest.json."
    )


def test_of_several_kinds_the_torch_file_is_served_and_several_of_one_kind_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(1))
    assert message(tmp_path).startswith("{dir}/weights.pth is not a file that torch.save or torch.jit.save wrote")
    (tmp_path / "weights.pth").unlink()
    (tmp_path / "other.onnx").write_bytes(b"graph")
    assert message(tmp_path) == (
        "{dir} holds several models (model.onnx, other.onnx); name one model.pt or define a model_fn."
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("", "manifest.json names '', where the name of a file must stand."),
        (7, "manifest.json names 7, where the name of a file must stand."),
        (None, "manifest.json names None, where"),
        (["model.pth"], "manifest.json names ['model.pth'], where"),
        ("x" * 5000, "xx…, which is longer than a file's name can be."),
        ("d/" * 3000 + "x", "…, which is longer than a file's name can be."),
        ("\ud800", r"manifest.json names '\ud800', which no file can be called."),
        (".", " is missing, although the manifest names it as weights.file."),
    ],
)
def test_a_weights_file_that_is_no_name_is_one_sentence(archive: Path, file: Any, said: str) -> None:
    describe(archive, file=file, architecture="tiny_net:Net")
    text = message(archive)
    assert said in text
    assert len(text) < 400


def test_what_torch_cannot_read_as_weights_is_said_without_its_advice_to_run_code(archive: Path) -> None:
    """It would have the reader load the file without the check."""
    path = archive / "model.pth"
    describe(archive, file="model.pth", architecture="tiny_net:Net")
    path.write_bytes(pickle.dumps(Trap()))
    neither = "{dir}/model.pth cannot be loaded: torch.save did not write it, nor safetensors, or it is damaged."
    assert message(archive) == neither
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert message(archive) == neither
    torch.save({"linear.weight": Trap()}, path, _use_new_zipfile_serialization=False)
    assert message(archive).startswith("{dir}/model.pth holds more than weights, and reading it would run code: ")
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:200])
    assert message(archive).startswith("{dir}/model.pth cannot be loaded: ")
    assert Trap.sprung == 0
