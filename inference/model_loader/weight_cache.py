"""The directory that weights from elsewhere are kept in: by what they hold, each once, in so many bytes at most.

    whole/SHA256            a file of weights: it came here by a rename, after its hash was found to be right
    known/SOURCE            the SHA-256 of a version of an object whose hash nobody declared
    partial/SOURCE          what is being fetched, or was when its process ended
    partial/SOURCE.lock     held by the process that fetches it; its text is how many bytes there will be
    .lock                   held for moments, by whoever counts bytes and makes room

Any number of processes share it. A file is read under a shared lock of its own, and only what nobody reads is evicted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tidegate.inference.errors import DeploymentError
from tidegate.inference.model_loader.eviction import Held, to_evict
from tidegate.inference.model_loader.file_locks import is_locked, lock_of_name, opened_and_locked

DIRECTORY, BYTES = "TIDEGATE_WEIGHT_CACHE_DIR", "TIDEGATE_WEIGHT_CACHE_BYTES"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Origin(Protocol):
    """A version of a file somewhere else."""

    name: str
    """How people call it."""
    version: str
    """Changes with the content: with `name` it stands for the same bytes for ever."""
    size_bytes: int

    def bring(self, path: Path, sha256: str | None) -> str:
        """Bring it to `path`, from where that ends; returns its SHA-256. Raises `DeploymentError` and `OSError`."""


class WeightCache:
    """Makes the directory where it is not there. Raises `DeploymentError`."""

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root, self._max_bytes = root, max_bytes
        self._whole, self._known, self._partial = root / "whole", root / "known", root / "partial"
        with self._disk_faults():
            for folder in (self._whole, self._known, self._partial):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def held(self, sha256: str | None) -> Iterator[Path | None]:
        """The weights of this hash where they are here, which they stay as long as the context lasts; else None."""
        path = self._whole / sha256 if sha256 else None
        with self._disk_faults():
            file = opened_and_locked(path) if path is not None else None
        if file is None or path is None:
            yield None
            return
        with file:
            # A disk that lost a block, or somebody who wrote into the file, is found here and not in an answer.
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                path.unlink(missing_ok=True)
                yield None
                return
            with suppress(OSError):  # a cache that came with the machine may be read-only
                os.utime(path)  # the least recently used goes first
            yield path

    @contextmanager
    def weights(self, origin: Origin, sha256: str | None) -> Iterator[Path]:
        """The weights of an origin, fetched unless they are here; they stay as long as the context lasts.

        Raises `DeploymentError` where they cannot be fetched, are not what `sha256` says or do not fit in.
        """
        source = hashlib.sha256(repr((origin.name, origin.version, origin.size_bytes)).encode()).hexdigest()
        while True:
            with self.held(sha256 or self._hash_of(source)) as path:
                if path is not None:
                    yield path
                    return
            # Between this and the next look it may be evicted for somebody else; then it is fetched again.
            with self._disk_faults():
                self._fetch(origin, source, sha256)

    def _hash_of(self, source: str) -> str | None:
        try:
            text = (self._known / source).read_text(encoding="ascii")
        except (FileNotFoundError, ValueError):
            return None
        return text if _SHA256.fullmatch(text) else None

    def _fetch(self, origin: Origin, source: str, sha256: str | None) -> None:
        """Make sure that it is here at one moment: of several who want it, one fetches and the others wait."""
        partial = self._partial / source
        with lock_of_name(_lock(partial)) as lock:
            with self.held(sha256 or self._hash_of(source)) as path:
                if path is not None:
                    return
            self._make_room(origin, partial, announce=lambda text: os.pwrite(lock, text, 0))
            try:
                found = origin.bring(partial, sha256)
                _write_through(partial)
                partial.rename(self._whole / found)
            except OSError:
                partial.unlink(missing_ok=True)  # the disk is needed for more than this
                raise
            except DeploymentError:
                with suppress(FileNotFoundError):
                    if partial.stat().st_size == 0:
                        partial.unlink()
                raise
            if sha256 is None:
                new = partial.with_name(f"{source}.sha256")
                new.write_text(found, encoding="ascii")
                new.replace(self._known / source)

    def _make_room(self, origin: Origin, partial: Path, announce: Callable[[bytes], object]) -> None:
        """Say how much will come, after what must go for it has gone. Raises `DeploymentError`."""
        with lock_of_name(self._root / ".lock", keep=True):
            held = [*self._whole_files(), *self._partial_files(besides=partial)]
            evicted = to_evict(held, needed_bytes=origin.size_bytes, max_bytes=self._max_bytes)
            if evicted is None:
                in_use = sum(each.size_bytes for each in held if each.in_use)
                used = f", of which {in_use} are in use" if in_use else ""
                raise DeploymentError(
                    f"{origin.name} has {origin.size_bytes} bytes, and {self._root} may hold {self._max_bytes}{used}: "
                    f"set {BYTES} to more."
                )
            announce(b"%d" % origin.size_bytes)
            for each in evicted:
                self._evict(each.path)
            for known in self._known.iterdir():
                if not (self._whole / (self._hash_of(known.name) or "-")).exists():
                    known.unlink(missing_ok=True)

    def _whole_files(self) -> Iterator[Held]:
        for path in self._whole.iterdir():
            with suppress(FileNotFoundError):
                facts = path.stat()
                yield Held(path=path, size_bytes=facts.st_size, used_s=facts.st_mtime, in_use=is_locked(path))

    def _partial_files(self, *, besides: Path) -> Iterator[Held]:
        for path in {path.with_suffix("") for path in self._partial.iterdir()} - {besides}:
            coming, here, used_s = 0, 0, 0.0
            with suppress(FileNotFoundError, ValueError):
                coming = int(_lock(path).read_text(encoding="ascii") or 0)
            with suppress(FileNotFoundError):
                here, used_s = path.stat().st_size, path.stat().st_mtime
            in_use = is_locked(_lock(path))
            yield Held(path=path, size_bytes=max(coming, here) if in_use else here, used_s=used_s, in_use=in_use)

    def _evict(self, path: Path) -> None:
        """Remove a file, unless somebody began to use it since it was chosen."""
        if path.parent == self._partial:
            with suppress(BlockingIOError), lock_of_name(_lock(path), wait=False):
                path.unlink(missing_ok=True)
            return
        with suppress(BlockingIOError):
            file = opened_and_locked(path, exclusive=True)
            if file is not None:
                path.unlink(missing_ok=True)
                file.close()

    @contextmanager
    def _disk_faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DeploymentError(f"The disk of {self._root} is full: set {DIRECTORY} to a larger one.") from None
            raise DeploymentError(
                f"{self._root} cannot be used for weights: {error.strerror or error}; set {DIRECTORY} to another place."
            ) from None


def _lock(partial: Path) -> Path:
    return partial.with_suffix(".lock")


def _write_through(path: Path) -> None:
    """Onto the disk, so that a machine which loses its power has no name without its bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
