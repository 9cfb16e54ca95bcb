"""One revision from the store to its directory: begun, gone on with, verified, and there as a whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

from tidegate.inference.layout import CODE, MANIFEST, model_root
from tidegate.inference.repository.assessment import Source
from tidegate.inference.repository.cache_directory import CacheDirectory
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.store import ContentDamaged, EntryChanged, Store, StoreFailed
from tidegate.inference.repository.unpacking import ArchiveRefused, TooLarge, unpack

_TRIES = 5
"""In a row that brought nothing; each that brought something begins a new row."""
_FIRST_WAIT_S = 0.1
_CHUNK_BYTES = 1 << 20


class NotFetched(Exception):
    """A revision could not be brought to the disk; the text is one sentence."""

    def __init__(self, reason: str, *, passing: bool, needed_bytes: int | None = None, spoiled: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing
        self.needed_bytes = needed_bytes
        self.spoiled = spoiled
        """Whether the store's own content is wrong."""


def fetch(
    store: Store,
    cache: CacheDirectory,
    revision: Revision,
    source: Source,
    *,
    max_bytes: int | None,
    cancelled: Event,
) -> int:
    """Bring a revision to its directory in the cache; returns its bytes. Raises `NotFetched`.

    After a fault that may pass, what has come stays, for the next try to go on from; after any other, and where the
    store holds another revision by now, nothing does.
    """
    if (taken := cache.size_bytes(revision)) is not None:
        return taken
    needed = source.size_bytes
    what = f"Version {revision.version} of {revision.name}"
    if max_bytes is not None and needed > max_bytes:
        raise NotFetched(
            f"{what} needs {needed} bytes on the disk, and {max_bytes} are left for it.",
            passing=False,
            needed_bytes=needed,
        )
    transfer = _Transfer(store, cancelled)
    with _disk_faults(cache.root):
        partial = cache.partial(revision)
    try:
        with _disk_faults(cache.root):
            built = partial / "content"
            if source.archive is not None:
                limit = None if max_bytes is None else max_bytes - needed
                _bring_archive(transfer, source, source.archive, partial, limit)
            else:
                _bring_files(transfer, source, built)
            taken = cache.place(revision, built)
    except TooLarge as error:
        _drop(cache, partial)
        needed += error.needed_bytes
        raise NotFetched(
            f"{what} needs {needed} bytes on the disk, its archive among them, and {max_bytes} are left for it.",
            passing=False,
            needed_bytes=needed,
        ) from None
    except StoreFailed as error:
        if isinstance(error, EntryChanged):
            _drop(cache, partial)
        raise NotFetched(str(error), passing=True) from None
    except NotFetched as error:
        if not error.passing or error.spoiled or isinstance(error, _DiskFault):
            _drop(cache, partial)
        raise
    _drop(cache, partial)
    return taken


class _DiskFault(NotFetched):
    """What has come is given up, because the disk is needed for more than this."""


class DiskFull(_DiskFault):
    """Nothing more can be written until something else has gone."""


def _drop(cache: CacheDirectory, partial: Path) -> None:
    cache.delete(cache.discard(partial))


@contextmanager
def _disk_faults(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk of {root} is full.", passing=True) from None
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ):
            raise _DiskFault(f"A path in it is none for the disk of {root}: {error.strerror}.", passing=False) from None
        raise _DiskFault(f"{root} cannot be written to: {error.strerror or error}.", passing=True) from None


def _bring_files(transfer: _Transfer, source: Source, built: Path) -> None:
    listed = source.manifest.files if source.manifest is not None else {}
    for name, entry in source.files.items():
        sha256 = listed[name].sha256 if name in listed else None
        if source.manifest is not None and name == MANIFEST:
            sha256 = source.manifest.sha256
        transfer.bring(entry, built / name, sha256)
    _bring_code(transfer, source, built)


def _bring_archive(transfer: _Transfer, source: Source, entry: Entry, partial: Path, limit: int | None) -> None:
    archive, built = partial / "archive.tar.gz", partial / "content"
    transfer.bring(entry, archive, None)
    shutil.rmtree(built, ignore_errors=True)  # of a try that ended in the middle
    built.mkdir()
    try:
        unpack(archive, built, max_bytes=limit, check=transfer.check)
    except ArchiveRefused as error:
        raise NotFetched(f"{transfer.address(entry)} {error}.", passing=False, spoiled=True) from None
    archive.unlink()
    root = model_root(built)
    if not (root / CODE).exists():
        _bring_code(transfer, source, root)


def _bring_code(transfer: _Transfer, source: Source, root: Path) -> None:
    for name, entry in source.code.items():
        transfer.bring(entry, root / CODE / name, None)


class _Transfer:
    """Brings files, each from where it was left."""

    def __init__(self, store: Store, cancelled: Event) -> None:
        self._store = store
        self._cancelled = cancelled

    def address(self, entry: Entry) -> str:
        """How people call it."""
        return self._store.address(entry.path)

    def check(self) -> None:
        """Raises `NotFetched` once nobody wants it any more."""
        if self._cancelled.is_set():
            raise NotFetched("Nobody waits for it any more.", passing=True)

    def bring(self, entry: Entry, path: Path, sha256: str | None) -> None:
        """Bring one file as a whole. Raises `StoreFailed`, `NotFetched` and `OSError`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._bring_once(entry, path, sha256):
            return
        # It may have been spoiled on its way, or by what an earlier process left.
        path.unlink()
        if not self._bring_once(entry, path, sha256):
            path.unlink()
            raise NotFetched(
                f"{self.address(entry)} is not what its manifest says: its SHA-256 is another.",
                passing=False,
                spoiled=True,
            )

    def _bring_once(self, entry: Entry, path: Path, sha256: str | None) -> bool:
        """Whether all of it is there and has this hash."""
        digest, have, tries = hashlib.sha256(), 0, 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b") as file:
            left = os.fstat(descriptor).st_size
            if left > entry.size_bytes:
                file.truncate(0)
                left = 0
            while have < left and (piece := file.read(_CHUNK_BYTES)):
                self.check()
                digest.update(piece)
                have += len(piece)
            while have < entry.size_bytes:
                self.check()
                before = have
                try:
                    with closing(self._store.read(entry, have)) as pieces:
                        for piece in pieces:
                            self.check()
                            file.write(piece)
                            digest.update(piece)
                            have += len(piece)
                    continue
                except EntryChanged:
                    raise
                except ContentDamaged as error:
                    fault: StoreFailed = error
                    file.seek(0)
                    file.truncate(0)
                    digest, have = hashlib.sha256(), 0
                except StoreFailed as error:
                    fault = error
                tries = 1 if have > before else tries + 1
                if tries >= _TRIES:
                    raise fault
                self._cancelled.wait(_FIRST_WAIT_S * 2**tries)
        return sha256 is None or digest.hexdigest() == sha256
