"""Arguments of every kind: each is taken, or refused in one sentence; none ends in an error from inside."""

import datetime
import io
import json
from collections import UserDict
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tidegate.training_hooks import (
    ArtifactError,
    Example,
    latest_checkpoint,
    lineage_of,
    model_directory,
    pack,
    reporting_failure,
    save_checkpoint,
    save_directory,
    save_model,
)

from .artifacts import manifest_of, mismatches


class Colour(StrEnum):
    RED = "red"


def holds_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def odd_values() -> list[Any]:
    return [
        None,
        True,
        0,
        -1,
        3.7,
        float("nan"),
        10**5000,
        "",
        "x",
        "half \udc80",
        "a\0b",
        "s3://bucket/model",
        "x" * 1000,
        b"x",
        bytearray(b"x"),
        Path("x"),
        Path("made/before"),
        io.BytesIO(b"x"),
        [],
        (),
        {},
        set(),
        [1],
        ["a", "b"],
        [object()],
        (1, 2),
        holds_itself,
        {1: 2},
        {0: "a", 1: "b"},
        {"a": object()},
        {"a": holds_itself()},
        {"a"},
        object(),
        object,
        len,
        iter("ab"),
        Colour.RED,
        datetime.date(2026, 1, 1),
        torch.ones(2, 4),
        torch.tensor(3),
        torch.ones(2, device="meta"),
        torch.eye(2).to_sparse(),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.ones(2, dtype=torch.float8_e4m3fn),
        nn.Parameter(torch.ones(2)),
        np.ones(2),
        np.array(["a", "b"]),
        np.array([None]),
        np.float32(1),
        np.int64(3),
        np.ma.masked_array([1, 2]),
        np.array([np.nan]),
        np.datetime64("2026-01-01"),
        np.bool_(1),
        nn.Linear(1, 1),
        nn.Linear,
        UserDict(a=1),
        Image.new("RGB", (2, 2)),
        Example,
        Example(request=1),
        Example(request=torch.ones(1), response=object()),
        ArtifactError("x"),
    ]


def written(write: Callable[..., object], *arguments: object) -> bytes:
    """Return what a function writes into a file."""
    buffer = io.BytesIO()
    write(buffer, *arguments)
    return buffer.getvalue()


def stepped(**options: Any) -> object:
    return save_checkpoint(**{"state": {"a": 1}, "step": 1, "directory": "checkpoints", **options})


def saved(**options: Any) -> object:
    return save_model(**{"model": {"weight": torch.ones(1)}, "model_dir": "saved", "lineage": False, **options})


def in_place(**options: Any) -> object:
    return save_directory(**{"directory": "folder", "model_dir": "folder", "lineage": False, **options})


def packed(**options: Any) -> object:
    return pack(**{"model_dir": "made/before", "output": "model.tar.gz", **options})


def asked(**options: Any) -> object:
    return saved(example=Example(**{"request": [1], "response": [1], **options}))


def asked_in_place(**options: Any) -> object:
    return in_place(example=Example(**{"request": [1], "response": [1], **options}))


CALLS: list[tuple[Callable[..., object], tuple[str, ...]]] = [
    (saved, ("model", "model_dir", "name", "labels", "preprocessing", "metrics", "code_dir")),
    (saved, ("architecture", "arguments", "example", "allow_non_finite", "batching", "image", "lineage")),
    (saved, ("format", "max_shard_size", "every_rank")),
    (saved, ("mean", "std", "size", "classes", "activation", "top_k", "threshold", "columns", "table", "tensors")),
    (in_place, ("directory", "model_dir", "name", "labels", "preprocessing", "metrics", "code_dir", "batching")),
    (in_place, ("image", "lineage", "every_rank")),
    (asked_in_place, ("request", "response")),
    (lineage_of, ("model",)),
    (model_directory, ("given",)),
    (asked, ("request", "content_type", "accept", "response", "response_content_type", "rtol", "atol", "timeout_s")),
    (stepped, ("state", "step", "directory", "keep_last")),
    (latest_checkpoint, ("directory", "map_location")),
    (packed, ("model_dir", "output", "code_dir")),
    (reporting_failure, ("output_dir",)),
]


@pytest.mark.parametrize(("call", "parameter"), [(call, name) for call, names in CALLS for name in names])
def test_an_argument_of_any_kind_is_taken_or_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., object], parameter: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model({"weight": torch.ones(1)}, model_dir="made/before")
    save_checkpoint({"weight": torch.ones(1)}, step=1, directory="checkpoints")
    Path("folder").mkdir()
    Path("folder/model.pth").touch()
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "default"))
    refused = 0
    for value in odd_values():
        options = {parameter: value}
        if call is latest_checkpoint and parameter == "map_location":
            options["directory"] = "checkpoints"
        try:
            call(**options)
        except ArtifactError as error:
            sentence = str(error)
            assert "\n" not in sentence, sentence
            assert len(sentence) < 600, sentence
            refused += 1
        except OSError:
            if not isinstance(value, str):  # a name that is too long is the file system's to refuse
                raise
    assert refused > 10
    assert not list(tmp_path.rglob("*s3:*"))


@pytest.mark.parametrize(
    ("request_", "recorded"),
    [
        (torch.ones(2, 4), ("application/x-npy", "npy")),
        (torch.ones(2, 4, requires_grad=True), ("application/x-npy", "npy")),
        (np.ones((2, 4)), ("application/x-npy", "npy")),
        ([[1, 2.5]], ("application/json", "json")),
        ({"ids": torch.tensor([1, 2]), "mask": np.array([1, 1])}, ("application/json", "json")),
        (UserDict(ids=[1]), ("application/json", "json")),
        (3, ("application/json", "json")),
        (Image.new("RGB", (2, 2), "red"), ("image/png", "png")),
        (written(Image.new("RGB", (2, 2)).save, "PNG"), ("image/png", "png")),
        (bytearray(written(Image.new("RGB", (2, 2)).save, "JPEG")), ("image/jpeg", "jpg")),
        (memoryview(written(Image.new("RGB", (2, 2)).save, "WEBP")), ("image/webp", "bin")),
        (written(Image.new("RGB", (2, 2)).save, "GIF"), ("image/gif", "bin")),
        (written(Image.new("RGB", (2, 2)).save, "TIFF"), ("image/tiff", "bin")),
        (written(Image.new("RGB", (2, 2)).save, "BMP"), ("image/bmp", "bin")),
        (written(np.save, np.ones(2)), ("application/x-npy", "npy")),
        (written(np.savez, np.ones(2)), ("application/x-npz", "npz")),
        (b' {"inputs": [1]}', ("application/json", "json")),
        ("[[1, 2]]", ("application/json", "json")),
        (b'{"a": 1}\n{"a": 2}\n', ("application/jsonlines", "jsonl")),
    ],
)
def test_an_example_may_be_the_request_alone(
    tmp_path: Path, code_dir: Path, request_: object, recorded: tuple[str, str]
) -> None:
    (code_dir / "inference.py").write_text(
        "def model_fn(d): return 1\ndef transform_fn(model, data, content_type, accept): return '[1]'\n"
    )
    save_model(nn.Linear(1, 1), model_dir=tmp_path / "m", code_dir=code_dir, example=request_)
    example = manifest_of(tmp_path / "m")["example"]
    content_type, suffix = recorded
    assert example["request"]["content_type"] == content_type
    assert example["request"]["file"] == f"example/request.{suffix}"
    assert mismatches(tmp_path / "m") == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"BM is how this text begins",
        b"PK is how this one begins",
        written(np.save, np.ones(2))[1:],
        b"3",
        b"{a: 1}",
        b"[" * 100_000,
        b"1,2\n3,4\n",
        "[\udc80]",
        b"\xff\xfe[]",
        b'{"a": 1}\nnothing\n',
        b"RIFF\0\0\0\0WAVE",
    ],
)
def test_bytes_that_do_not_say_what_they_are_need_a_type_and_take_any(tmp_path: Path, data: Any) -> None:
    with pytest.raises(ArtifactError, match=r"example is .* say its content type|half of a surrogate pair"):
        saved(example=data, model_dir=tmp_path / "m")
    if isinstance(data, bytes):
        saved(model_dir=tmp_path / "m", example=Example(request=data, content_type="a/b", response=[1]))
        assert (tmp_path / "m/example/request.bin").read_bytes() == data


@pytest.mark.parametrize(
    "labels",
    [
        ("cat", "dog"),
        np.array(["cat", "dog"]),
        {0: "cat", 1: "dog"},
        {"1": "dog", "0": "cat"},
        {"dog": 1, "cat": 0},
        UserDict({"dog": np.int64(1), "cat": np.int64(0)}),
    ],
)
def test_class_names_come_in_every_form_that_libraries_give_them(tmp_path: Path, labels: Any) -> None:
    save_model(nn.Linear(1, 1), model_dir=tmp_path, labels=labels)
    assert json.loads((tmp_path / "labels.json").read_text()) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("call", "options", "sentence"),
    [
        (saved, {"example": (torch.ones(1), torch.ones(1))}, "example is a tuple; give the request alone, or Example"),
        (
            saved,
            {"example": b"\x89PNG"},
            "example is a bytes whose content does not say what it is; say its content type",
        ),
        (
            saved,
            {"example": "a,b\n1,2\n"},
            "example is a str whose content does not say what it is; say its content type",
        ),
        (saved, {"example": Path("cat.png")}, "example is a path; give what is in the file, 'cat.png', as bytes"),
        (
            saved,
            {"example": {"a": b"x"}},
            r"example\['a'\] is a bytes, which JSON cannot hold; give text, such as their",
        ),
        (
            saved,
            {"example": {"a": Image.new("L", (1, 1))}},
            r"example\['a'\] is an Image, .*; give its data URI, or the",
        ),
        (saved, {"example": [Path("x")]}, r"example\[0\] is a PosixPath, which JSON cannot hold; give it as text"),
        (saved, {"example": io.BytesIO()}, "example is a BytesIO, which JSON cannot hold; give what it holds"),
        (saved, {"example": {1, 2}}, "example is a set, which JSON cannot hold; give a list"),
        (saved, {"format": "pickle"}, "format is 'pickle'; there are 'state_dict' and 'safetensors'"),
        (saved, {"max_shard_size": "five"}, "max_shard_size is 'five'; give a size such as \"5GB\", or a number of"),
        (saved, {"max_shard_size": 0.5}, "max_shard_size is 0.5; give a size such as"),
        (saved, {"max_shard_size": -1}, "max_shard_size is -1; give a size such as"),
        (saved, {"every_rank": 1}, "every_rank is 1; it must be True or False"),
        (
            in_place,
            {"directory": ".", "model_dir": ".", "every_rank": "yes"},
            "every_rank is 'yes'; it must be True or False",
        ),
        (saved, {"model": len}, "model is a builtin_function_or_method; give a torch.nn.Module or its state dict"),
        (saved, {"model": "model.pth"}, "model is a str; give a torch.nn.Module or its state dict"),
        (saved, {"model_dir": "s3://b/m"}, "model_dir is 's3://b/m'; give a local path, and copy the files yourself"),
        (saved, {"model_dir": ""}, "model_dir is empty; give a path"),
        (saved, {"model_dir": 3}, "model_dir is an int; give a path, as text or as a pathlib.Path"),
        (saved, {"name": None}, "name is None; it must be letters, digits and inner hyphens"),
        (saved, {"name": "resnet.v2"}, "name is 'resnet.v2'; it must be letters, digits and inner hyphens"),
        (saved, {"labels": {"cat", "dog"}}, "labels is a set; give a list of class names"),
        (saved, {"labels": {"a": 1, "b": 2}}, "labels is a mapping without the whole numbers from 0 on"),
        (saved, {"metrics": [0.5]}, "metrics is a list; give a mapping of names to numbers"),
        (
            saved,
            {"preprocessing": {"mean": torch.ones(1, device="meta")}},
            r"preprocessing\['mean'\] is a .* tensor on",
        ),
        (saved, {"architecture": nn.Linear}, "architecture .* needs code_dir"),
        (saved, {"architecture": nn.Linear, "code_dir": "."}, "architecture is a type; name it as 'module:Class'"),
        (saved, {"code_dir": __file__}, "is a file; give the directory that holds it"),
        (saved, {"allow_non_finite": 1}, "allow_non_finite is 1; give True, False or a list of names of weights"),
        (asked, {"accept": 5}, "example.accept is 5; give a content type as text"),
        (asked, {"content_type": "json"}, "example.content_type is 'json'; a content type looks like"),
        (asked, {"accept": "a/b\r\nx: y"}, "a content type looks like"),
        (asked, {"response": torch.ones(1), "accept": "text/csv"}, "example.response of content type text/csv must be"),
        (
            stepped,
            {"state": nn.Linear(1, 1)},
            r"state is a Linear; give a mapping, such as {'net': net.state_dict\(\)}",
        ),
        (stepped, {"step": 3.0}, "step is 3.0; it must be a whole number from 0 to 999999999999"),
        (stepped, {"keep_last": None}, "keep_last is None; it must be a whole number from 1"),
        (latest_checkpoint, {"directory": __file__}, "is a file; give the directory of the checkpoints"),
        (packed, {"output": "s3://bucket/model.tar.gz"}, "output is 's3://bucket/model.tar.gz'; give a local path"),
        (reporting_failure, {"output_dir": len}, "output_dir is a builtin_function_or_method; give a path"),
    ],
)
def test_what_is_refused_says_what_is_wanted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., object],
    options: dict[str, Any],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=sentence):
        call(**options)


@pytest.mark.parametrize("step", [np.int64(7), torch.tensor(7), np.array(7)])
def test_whole_numbers_of_libraries_are_steps(tmp_path: Path, step: Any) -> None:
    assert save_checkpoint({}, step=step, directory=tmp_path).name == "checkpoint-000000000007.pth"


def test_a_device_that_is_not_there_does_not_make_a_sound_checkpoint_a_damaged_one(tmp_path: Path) -> None:
    """Passing it over would begin the training anew."""
    save_checkpoint({"weight": torch.ones(1)}, step=1, directory=tmp_path)
    with pytest.raises(ArtifactError, match=r"checkpoint-000000000001\.pth is sound, but .* map_location='gpu:9'"):
        latest_checkpoint(tmp_path, map_location="gpu:9")


def test_one_name_may_be_non_finite_without_a_list_and_no_part_of_it(tmp_path: Path) -> None:
    state = {"mask": torch.tensor([float("-inf")])}
    save_model(state, model_dir=tmp_path, allow_non_finite="mask")
    with pytest.raises(ArtifactError, match="'mas' holds 1 NaN or infinite"):
        save_model({"mas": state["mask"]}, model_dir=tmp_path, allow_non_finite="mask")
