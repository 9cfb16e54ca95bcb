"""What of a model directory goes out, into an archive or a repository: its files, verified against its manifest."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from .arguments import as_path
from .errors import ArtifactError
from .file_tree import list_files
from .handler_file import missing_handler_file
from .manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    FileEntry,
    dump_manifest,
    listed_files,
    measure_file,
    read_manifest,
    section,
    verify_file,
)
from .staging import reading

_LARGE_BYTES = 64 << 20  # from here on reading a model takes long enough to want a progress bar
_NO_MANIFEST: dict[str, Any] = {"format_version": FORMAT_VERSION}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The files of a model, before they are read.

    Attributes:
        manifest: the directory's own; hardly more than `{}` where it has none.
        files: the path of each, by the name that it has in the model, sorted; without the manifest.
        listed: what the manifest says of those that it lists.
    """

    manifest: Mapping[str, Any]
    files: Mapping[str, Path]
    listed: Mapping[str, FileEntry]

    @property
    def size_bytes(self) -> int:
        """Of all files, as the disk says it."""
        return sum(path.stat().st_size for path in self.files.values())

    def progress(self, doing: str) -> tqdm[NoReturn]:
        """A bar, on a terminal only, for reading all files twice: the manifest needs all hashes before a file goes out.

        Args:
            doing: what is done with the model, in a word or two.
        """
        size_bytes = self.size_bytes
        return tqdm(
            total=2 * size_bytes,
            desc=doing,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if size_bytes >= _LARGE_BYTES else True,
        )

    def measured(self, on_read: Callable[[int], object]) -> dict[str, FileEntry]:
        """Read every file once: verify what is listed, measure what is not.

        Raises:
            ArtifactError: a file is not the one that the manifest speaks of.
        """
        entries: dict[str, FileEntry] = {}
        for name, path in self.files.items():
            if name in self.listed:
                verify_file(name, path, self.listed[name], on_read)
                entries[name] = self.listed[name]
            else:
                entries[name] = measure_file(path, on_read)
        return entries

    def manifest_of(self, entries: Mapping[str, FileEntry]) -> bytes:
        """The manifest that goes out: the directory's own, listing all files."""
        return dump_manifest({**self.manifest, "files": {name: entry.as_json() for name, entry in entries.items()}})

    @property
    def serves_alone(self) -> bool:
        """Whether the server needs no script: one is there, or a TorchScript or ONNX file, or a named architecture."""
        if {"code/inference.py", "inference.py"} & self.files.keys():
            return True
        if "architecture" in section(self.manifest, "weights"):
            return True
        return any("/" not in name and _serves_alone(path) for name, path in self.files.items())


@contextmanager
def collected(
    model_dir: str | os.PathLike[str], code_dir: str | os.PathLike[str] | None = None
) -> Iterator[ModelFiles]:
    """Yield the files of a model directory while no save of ours changes it; an interrupted save is finished first.

    Args:
        model_dir: with a manifest or without.
        code_dir: taken as `code/`, instead of the directory's own.

    Raises:
        ArtifactError: it is none, or holds no files, links, or less than its manifest lists.
    """
    source = as_path(model_dir, "model_dir")
    if not source.is_dir():
        raise ArtifactError(f"{model_dir} is not a directory")
    code = None if code_dir is None else as_path(code_dir, "code_dir")
    with reading(source):
        yield _collect(source, code)


def _collect(source: Path, code_dir: Path | None) -> ModelFiles:
    manifest = read_manifest(source) if (source / MANIFEST_NAME).exists() else _NO_MANIFEST
    listed = listed_files(manifest, source / MANIFEST_NAME)
    files = list_files(source)
    files.pop(MANIFEST_NAME, None)
    if code_dir is not None:
        if code_dir.is_file():
            raise ArtifactError(f"the code directory {code_dir} is a file; give the directory that holds it")
        if not code_dir.is_dir():
            raise ArtifactError(f"the code directory {code_dir} does not exist")
        files = {name: path for name, path in files.items() if not name.startswith("code/")}
        listed = {name: entry for name, entry in listed.items() if not name.startswith("code/")}
        files |= {f"code/{name}": path for name, path in list_files(code_dir).items()}
    files |= missing_handler_file(files)
    for name in listed:
        if name not in files:
            raise ArtifactError(f"{name!r} is listed in {MANIFEST_NAME} but missing from {source}")
    if not files:
        raise ArtifactError(f"{source} holds no files that could be packed")
    weights = section(manifest, "weights").get("file")
    if isinstance(weights, str) and weights not in files:
        raise ArtifactError(f"{MANIFEST_NAME} names {weights!r} as weights.file, and {source} has no such file")
    return ModelFiles(manifest=manifest, files=dict(sorted(files.items())), listed=listed)


def _serves_alone(path: Path) -> bool:
    return path.suffix == ".onnx" or (path.suffix in (".pt", ".pth") and _is_torch_script(path))


def _is_torch_script(path: Path) -> bool:
    """As `default_functions.py` says it, which stands alone and needs torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False
