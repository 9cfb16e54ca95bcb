"""pack: from a model directory to `model.tar.gz`, the same bytes from the same directory on every machine."""

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, cast

from .arguments import as_path
from .collection import ModelFiles, collected
from .durable_files import replacing
from .errors import ArtifactError
from .manifest import MANIFEST_NAME, FileEntry, HashingReader
from .stored_gzip import StoredGzipWriter

_NEEDS_SCRIPT = (
    "the archive has no code/inference.py, and nothing in it serves without one (a TorchScript or ONNX file, or an "
    "architecture named by save_model); save with code_dir, or pack with --code"
)


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
    if not source.is_dir():
        raise ArtifactError(f"{model_dir} is not a directory")
    if target.resolve().is_relative_to(source.resolve()):
        raise ArtifactError(f"the output {output} lies inside {model_dir}; write it elsewhere")
    if target.is_dir():
        raise ArtifactError(f"the output {output} is a directory; name a file, for example {output}/model.tar.gz")
    with collected(source, code_dir) as model:
        return _pack(model, target)


def _pack(model: ModelFiles, target: Path) -> PackedArchive:
    with model.progress("packing") as progress:
        entries = model.measured(progress.update)
        packed_manifest = model.manifest_of(entries)
        with replacing(target) as temporary, temporary.open("wb") as raw:
            stream = StoredGzipWriter(raw)
            with tarfile.open(
                fileobj=cast("IO[bytes]", stream), mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20
            ) as tar:
                _add(tar, MANIFEST_NAME, len(packed_manifest), BytesIO(packed_manifest))
                for name, entry in entries.items():
                    _add_file(tar, name, model.files[name], entry, progress.update)
            stream.close()
    return PackedArchive(
        path=target,
        size_bytes=stream.size_bytes,
        sha256=stream.sha256.hexdigest(),
        files=tuple(sorted([MANIFEST_NAME, *entries])),
        warnings=() if model.serves_alone else (_NEEDS_SCRIPT,),
    )


def _add_file(
    tar: tarfile.TarFile, name: str, path: Path, expected: FileEntry, on_read: Callable[[int], object]
) -> None:
    with path.open("rb") as file:
        reader = HashingReader(file, on_read)
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
