"""What `serve` and `check` are given: a directory, an archive or an address in S3, made a directory."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

from tidegate.inference import early_signals
from tidegate.inference.errors import DeploymentError
from tidegate.inference.model_files import damage
from tidegate.inference.own_folder import own_folder
from tidegate.inference.repository.store import StoreFailed
from tidegate.inference.repository.unpacking import ArchiveRefused, TooLarge, unpack
from tidegate.inference.settings import S3_ADDRESS

log = logging.getLogger("tidegate.model")

PREFIX = "tidegate-model-"
"""What the folders begin with that archives are unpacked into."""
_TOLD_EVERY_S = 10.0
_ZIP = b"PK\x03\x04"
_GZIP = b"\x1f\x8b"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_ARCHIVE_NAMES = (".tar.gz", ".tgz", ".tar", ".zip", ".mar")


@contextmanager
def directory_of(argument: str, *, max_bytes: int | None = None) -> Iterator[Path]:
    """The directory that `argument` means, as an absolute path: workers change theirs.

    What has to be unpacked or downloaded takes `max_bytes` at most, and no more than the disk has room for; it is gone
    at the end. Raises `DeploymentError`, and `early_signals.Stopped` where a signal comes before a loop takes it over.
    """
    if not argument.strip():
        raise DeploymentError(
            "The model is named by an empty text, as of a variable that is not set; name a directory, an archive or an "
            "address in S3."
        )
    if argument.startswith("s3://"):
        if not re.fullmatch(S3_ADDRESS, argument):
            if bucket := argument.removeprefix("s3://").partition("/")[0]:
                raise DeploymentError(
                    f"{argument}: no bucket of S3 is called {bucket!r}: names have 3 to 63 characters, which are "
                    "lower-case letters, digits, dots and hyphens, and begin and end with a letter or digit."
                )
            raise DeploymentError(f"{argument} must be s3://bucket/key.tar.gz or s3://bucket/prefix/.")
        with _folder(argument) as folder:
            yield _downloaded(argument, folder, max_bytes)
        return
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", argument):
        raise DeploymentError(f"{argument} is not a model address: use s3://, a directory or an archive.")
    path = _existing(argument)
    if path.is_dir():
        yield path
        return
    _demand_archive(argument, path)
    with _folder(argument) as folder:
        yield _unpacked(argument, path, folder, max_bytes)


def _existing(argument: str) -> Path:
    path = Path(os.path.abspath(argument))  # noqa: PTH100 - `..` is what the shell understands by it
    try:
        path.stat()
    except FileNotFoundError:
        raise DeploymentError(f"The model directory {path} does not exist.") from None
    except OSError as error:
        raise DeploymentError(f"The model directory {argument} cannot be read: {error.strerror}.") from None
    return path


@contextmanager
def _folder(argument: str) -> Iterator[Path]:
    with early_signals.raised(), ExitStack() as stack:
        try:
            folder = stack.enter_context(own_folder(PREFIX))
        except OSError as error:
            raise DeploymentError(
                f"{argument} can be unpacked nowhere ({error.strerror}); set TMPDIR to a directory that can be written."
            ) from None
        stack.callback(early_signals.ignore)
        yield folder


# --- archives


def _demand_archive(argument: str, path: Path) -> None:
    """Raise the error for a file that is none, by its first bytes: names lie."""
    if not path.is_file():
        raise DeploymentError(f"{argument} is neither a directory nor an archive.")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise DeploymentError(f"{argument} cannot be read: {error.strerror}.") from None
    if (fault := archive_fault(path.name, head)) is not None:
        raise DeploymentError(f"{argument} {fault}")


def archive_fault(name: str, head: bytes) -> str | None:
    """Why a file with these first 512 bytes is no model.tar.gz, in words that follow its name; None where it may be."""
    if head.startswith(_GZIP):
        return None
    packed = next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), None)
    if packed is not None:
        return f"is compressed by {packed}, and SageMaker takes gzip alone: pack it as model.tar.gz (tar -czf)."
    if head[257:262] == b"ustar":
        return "is a tar archive without gzip, which SageMaker does not take: gzip it."
    if name.endswith(_ARCHIVE_NAMES):
        if head.startswith(_ZIP):
            return "is a zip, and SageMaker takes a gzipped tar archive alone: pack it as model.tar.gz (tar -czf)."
        what = damage.of_its_start(head) if head else None
        return (
            f"is {what}, not a gzipped tar archive."
            if what
            else "is not a gzipped tar archive."
            if head
            else "is empty."
        )
    return "is a file; name the directory that holds it, or an archive of that (model.tar.gz)."


def _unpacked(argument: str, archive: Path, folder: Path, max_bytes: int | None) -> Path:
    """The directory below `folder` that has the files of an archive."""
    model_dir = folder / "model"
    limit = _room(folder, max_bytes)
    telling = _Telling("unpacking the model", argument)
    try:
        model_dir.mkdir()
        unpack(archive, model_dir, max_bytes=limit, check=telling)
        if not any(model_dir.iterdir()):
            raise ArchiveRefused("holds no file")
    except ArchiveRefused as error:
        raise DeploymentError(f"{argument} {error}.") from None
    except TooLarge as error:
        raise _too_large(argument, error.needed_bytes, limit, folder) from None
    except OSError as error:
        raise _not_written(argument, folder, error) from None
    log.info("the model is unpacked", extra={"model": argument, "directory": str(model_dir)})
    return model_dir


def _room(folder: Path, max_bytes: int | None) -> int:
    free = shutil.disk_usage(folder).free
    return free if max_bytes is None else min(free, max_bytes)


def _too_large(argument: str, needed: int, limit: int, folder: Path) -> DeploymentError:
    return DeploymentError(
        f"{argument} needs {needed} bytes on the disk or more, and {limit} are left for it in {folder.parent}; set "
        "TMPDIR to a directory with more room, or raise TIDEGATE_MAX_DISK_BYTES where that is what limits it."
    )


def _not_written(argument: str, folder: Path, error: OSError) -> DeploymentError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DeploymentError(f"The disk of {folder.parent} is full; set TMPDIR to a directory with more room.")
    return DeploymentError(f"{argument} cannot be unpacked into {folder}: {error.strerror or error}.")


# --- S3


def _downloaded(address: str, folder: Path, max_bytes: int | None) -> Path:
    # Only where it is meant: boto3 takes time and memory.
    from tidegate.inference.repository import one_model  # noqa: PLC0415

    try:
        found = one_model.find(address)
        limit = _room(folder, max_bytes)
        if found.size_bytes > limit:
            raise _too_large(address, found.size_bytes, limit, folder)
        brought = folder / ("archive" if found.is_archive else "model")
        log.info("the model is fetched", extra={"model": found.address, "bytes": found.size_bytes})
        found.bring(brought, _Telling("downloading the model", found.address, found.size_bytes))
    except (StoreFailed, one_model.NoModel) as error:
        raise DeploymentError(str(error)) from None
    except OSError as error:
        raise _not_written(address, folder, error) from None
    if not found.is_archive:
        return brought
    archive = brought / next(iter(found.files))
    _demand_archive(found.address, archive)
    model_dir = _unpacked(found.address, archive, folder, max_bytes)
    archive.unlink()
    return model_dir


class _Telling:
    """A line of the log every ten seconds of something that takes long."""

    def __init__(self, what: str, model: str, of_bytes: int | None = None) -> None:
        self._what = what
        self._extra = {"model": model} if of_bytes is None else {"model": model, "of_bytes": of_bytes}
        self._told_s = monotonic()

    def __call__(self, have_bytes: int | None = None) -> None:
        if (now_s := monotonic()) - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            log.info(self._what, extra=self._extra if have_bytes is None else {**self._extra, "bytes": have_bytes})
