"""What kind of model a file is, told by its content; the suffix counts only where the content says nothing.

Every kind of file bears every suffix: `.pt` is a state dict, a pickled module, TorchScript, or an exported program.
Only headers are read, and never more of one than `MAX_HEADER_BYTES`.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from tidegate.inference.model_files import onnx_header, shard_index, torch_pickle, zip_members


class Kind(StrEnum):
    """The kinds of model files, and what each is called in a sentence."""

    STATE_DICT = "state dict"
    PICKLED_MODULE = "pickled module"
    TORCH_SCRIPT = "TorchScript"
    EXPORTED_PROGRAM = "exported program"
    AOT_INDUCTOR = "AOTInductor package"
    SAFETENSORS = "safetensors"
    SAFETENSORS_INDEX = "index of safetensors"
    PICKLE_INDEX = "index of state dicts"
    ONNX = "ONNX"
    SAVED_MODEL = "TensorFlow SavedModel"
    UNKNOWN = "unknown"
    """Nothing that is known here, or a damaged file; see `damage.seen`."""


COMPILED = frozenset({Kind.EXPORTED_PROGRAM, Kind.AOT_INDUCTOR})
"""Kinds that only a deployer's word lets in: torch.export.load unpickles what a file asks for, and AOTInductor's
packages hold a library."""

WEIGHTS_ONLY = frozenset({Kind.STATE_DICT, Kind.SAFETENSORS, Kind.SAFETENSORS_INDEX, Kind.PICKLE_INDEX})
"""Kinds that hold numbers by name, and need a network to be loaded into."""

TORCH_SUFFIXES = (".pt", ".pth")
SAVED_MODEL_FILE = "saved_model.pb"

_OF_SUFFIX = {".safetensors": Kind.SAFETENSORS, ".onnx": Kind.ONNX, ".pt2": Kind.EXPORTED_PROGRAM}
_LENGTH = struct.Struct("<Q")


def runs_code(kind: Kind) -> bool:
    """Whether reading such a file can run what it holds."""
    return kind is Kind.PICKLED_MODULE or kind in COMPILED


def kind_of(path: Path) -> Kind:
    """The kind of a file, or of a directory that is one model. Raises `OSError` where it cannot be read."""
    if path.is_dir():
        return Kind.SAVED_MODEL if (path / SAVED_MODEL_FILE).is_file() else Kind.UNKNOWN
    if path.exists() and not path.is_file():
        return Kind.UNKNOWN  # whoever opens a FIFO waits for its other end
    if path.name.endswith(shard_index.SUFFIX):
        return _of_index(path)
    return _by_content(path) or _OF_SUFFIX.get(path.suffix, Kind.UNKNOWN)


def _by_content(path: Path) -> Kind | None:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(zip_members.MAGIC):
        return _of_zip(path)
    if torch_pickle.is_old(path):
        return Kind.STATE_DICT if torch_pickle.named_class(path) is None else Kind.PICKLED_MODULE
    if start[8:9] == b"{" and _LENGTH.unpack_from(start)[0] <= path.stat().st_size - _LENGTH.size:
        return Kind.SAFETENSORS
    return Kind.ONNX if onnx_header.is_onnx(path) else None


def _of_zip(path: Path) -> Kind | None:
    names = zip_members.names(path)
    # Below the folder that torch puts around all members, which is called after the file as it was saved.
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("data/aotinductor/") for name in inner):
        return Kind.AOT_INDUCTOR
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return Kind.EXPORTED_PROGRAM
    if "constants.pkl" in inner:
        return Kind.TORCH_SCRIPT
    if "data.pkl" in inner:
        return Kind.STATE_DICT if torch_pickle.named_class(path) is None else Kind.PICKLED_MODULE
    return None


def _of_index(path: Path) -> Kind:
    # One that cannot be read stays an index, so that its own mistake is what is said.
    named = path.name.removesuffix(shard_index.SUFFIX)
    with suppress(ValueError):
        named = next(iter(shard_index.read(path).files))
    return Kind.SAFETENSORS_INDEX if Path(named).suffix == ".safetensors" else Kind.PICKLE_INDEX
