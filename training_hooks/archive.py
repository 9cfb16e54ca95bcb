"""pack: from a model directory to `model.tar.gz`, the same bytes from the same directory on every machine."""

import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from tqdm import tqdm

from .arguments import as_path
from .default_functions import is_torch_script
from .durable_files import replacing
from .errors import ArtifactError
from .file_tree import list_files
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
from .staging import exclusive, finish_interrupted_save
from .stored_gzip import StoredGzipWriter

_NO_MANIFEST: dict[str, Any] = {"format_version": FORMAT_VERSION}
_LARGE_BYTES = 64 << 20  # from here on packing takes long enough to want a progress bar


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedArchive:
    """The archive that `pack` wrote.

    Attributes:
        path: of the archive.
        size_bytes: of the archive.
        sha256: of the archive, in hexadecimal.
        files: the names inside, sorted.
        warnings: sentences about what the server may miss in it.
    """

    path: Path
    size_bytes: int
    sha256: str
    files: tuple[str, ...]
    warnings: tuple[str, ...]


def pack(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    code_dir: str | os.PathLike[str] | None = None,
) -> PackedArchive:
    """Pack a model directory into a gzipped tar, for S3 and `ModelDataUrl`.

    The files that its manifest lists are verified first; a directory that something else than `save_model` wrote needs
    no manifest. The archive holds every regular file of the directory except junk (caches, editor files), and a
    manifest that lists all of them. Order, times, owners and modes are fixed and
    the blocks are stored, so the bytes depend on the content of the files only. `output` appears whole or not at all.

    Args:
        model_dir: the directory, which stays as it is.
        output: the archive to write, outside `model_dir`.
        code_dir: packed as `code/`, instead of the directory's own `code/`.

    Raises:
        ArtifactError: a file differs from the manifest or is missing, or something is a link, pipe or device.
    """
    source = as_path(model_dir, "model_dir")
    target = as_path(output, "output")
    code = None if code_dir is None else as_path(code_dir, "code_dir")
    if not source.is_dir():
        raise ArtifactError(f"{model_dir} is not a directory")
    if target.resolve().is_relative_to(source.resolve()):
        raise ArtifactError(f"the output {output} lies inside {model_dir}; write it elsewhere")
    if target.is_dir():
        raise ArtifactError(f"the output {output} is a directory; name a file, for example {output}/model.tar.gz")
    with exclusive(source):
        finish_interrupted_save(source)
        return _pack(source, target, code)


def _pack(source: Path, target: Path, code_dir: Path | None) -> PackedArchive:
    has_manifest = (source / MANIFEST_NAME).exists()
    manifest = read_manifest(source) if has_manifest else _NO_MANIFEST
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
    for name in listed:
        if name not in files:
            raise ArtifactError(f"{name!r} is listed in {MANIFEST_NAME} but missing from {source}")

    if not files:
        raise ArtifactError(f"{source} holds no files that could be packed")
    weights = section(manifest, "weights").get("file")
    if isinstance(weights, str) and weights not in files:
        raise ArtifactError(f"{MANIFEST_NAME} names {weights!r} as weights.file, and {source} has no such file")

    total_bytes = sum(path.stat().st_size for path in files.values())
    # Read twice: the manifest, which goes into the archive first, needs all hashes. disable=None: only on a terminal.
    with tqdm(
        total=2 * total_bytes,
        desc="packing",
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None if total_bytes >= _LARGE_BYTES else True,
    ) as progress:
        entries: dict[str, FileEntry] = {}
        for name, path in sorted(files.items()):
            if name in listed:
                verify_file(name, path, listed[name], progress.update)
                entries[name] = listed[name]
            else:
                entries[name] = measure_file(path, progress.update)
        packed_manifest = dump_manifest(
            manifest | {"files": {name: entry.as_json() for name, entry in entries.items()}}
        )
        with replacing(target) as temporary, temporary.open("wb") as raw:
            stream = StoredGzipWriter(raw)
            with tarfile.open(
                fileobj=cast("IO[bytes]", stream), mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20
            ) as tar:
                _add(tar, MANIFEST_NAME, len(packed_manifest), BytesIO(packed_manifest))
                for name, entry in entries.items():
                    _add_file(tar, name, files[name], entry, progress.update)
            stream.close()
    return PackedArchive(
        path=target,
        size_bytes=stream.size_bytes,
        sha256=stream.sha256.hexdigest(),
        files=tuple(sorted([MANIFEST_NAME, *entries])),
        warnings=tuple(_warnings(manifest, files)),
    )


def _add_file(
    tar: tarfile.TarFile, name: str, path: Path, expected: FileEntry, on_read: Callable[[int], object]
) -> None:
    with path.open("rb") as file:
        reader = _HashingReader(file, on_read)
        try:
            _add(tar, name, expected.size_bytes, reader)
        except OSError as error:
            raise ArtifactError(f"{path} could not be read to its end while it was packed: {error}") from error
        if reader.sha256.hexdigest() != expected.sha256:
            raise ArtifactError(f"{path} changed while it was packed; pack again when nothing writes to it")


def _add(tar: tarfile.TarFile, name: str, size_bytes: int, content: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    member.mode = 0o644
    member.mtime = 0
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    tar.addfile(member, cast("IO[bytes]", content))


class _HashingReader:
    """Hashes and reports what tarfile reads through it."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], object]) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file
        self._on_read = on_read

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        self._on_read(len(data))
        return data


def _warnings(manifest: dict[str, Any], files: dict[str, Path]) -> list[str]:
    if {"code/inference.py", "inference.py"} & files.keys() or "architecture" in section(manifest, "weights"):
        return []
    if any("/" not in name and _serves_alone(path) for name, path in files.items()):
        return []
    return [
        "the archive has no code/inference.py, and nothing in it serves without one (a TorchScript or ONNX file, or an "
        "architecture named by save_model); save with code_dir, or pack with --code"
    ]


def _serves_alone(path: Path) -> bool:
    return path.suffix == ".onnx" or (path.suffix in (".pt", ".pth") and is_torch_script(path))
