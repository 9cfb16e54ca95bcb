"""One revision from the store to its directory: begun, gone on with, verified, and there as a whole or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from tidegate.inference.layout import CODE, MANIFEST, model_root
from tidegate.inference.repository.assessment import Source
from tidegate.inference.repository.cache_directory import CacheDirectory
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.store import EntryChanged, Store, StoreFailed
from tidegate.inference.repository.transfer import AnotherHash, Transfer
from tidegate.inference.repository.unpacking import ArchiveRefused, TooLarge, unpack


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
    bringing = _Bringing(store, cancelled)
    with _disk_faults(cache.root):
        partial = cache.partial(revision)
    try:
        with _disk_faults(cache.root):
            built = partial / "content"
            if source.archive is not None:
                limit = None if max_bytes is None else max_bytes - needed
                _bring_archive(bringing, source, source.archive, partial, limit)
            else:
                _bring_files(bringing, source, built)
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


def _bring_files(bringing: _Bringing, source: Source, built: Path) -> None:
    listed = source.manifest.files if source.manifest is not None else {}
    for name, entry in source.files.items():
        sha256 = listed[name].sha256 if name in listed else None
        if source.manifest is not None and name == MANIFEST:
            sha256 = source.manifest.sha256
        bringing.bring(entry, built / name, sha256)
    _bring_code(bringing, source, built)


def _bring_archive(bringing: _Bringing, source: Source, entry: Entry, partial: Path, limit: int | None) -> None:
    archive, built = partial / "archive.tar.gz", partial / "content"
    bringing.bring(entry, archive, None)
    shutil.rmtree(built, ignore_errors=True)  # of a try that ended in the middle
    built.mkdir()
    try:
        unpack(archive, built, max_bytes=limit, check=bringing.check)
    except ArchiveRefused as error:
        raise NotFetched(f"{bringing.address(entry)} {error}.", passing=False, spoiled=True) from None
    archive.unlink()
    root = model_root(built)
    if not (root / CODE).exists():
        _bring_code(bringing, source, root)


def _bring_code(bringing: _Bringing, source: Source, root: Path) -> None:
    for name, entry in source.code.items():
        bringing.bring(entry, root / CODE / name, None)


class _Bringing:
    """Brings the files of a revision until nobody waits for it any more."""

    def __init__(self, store: Store, cancelled: Event) -> None:
        self._store, self._cancelled = store, cancelled
        self._transfer = Transfer(store, check=lambda _: self.check(), wait=cancelled.wait)

    def address(self, entry: Entry) -> str:
        """How people call it."""
        return self._store.address(entry.path)

    def check(self) -> None:
        """Raises `NotFetched` once nobody wants it any more."""
        if self._cancelled.is_set():
            raise NotFetched("Nobody waits for it any more.", passing=True)

    def bring(self, entry: Entry, path: Path, sha256: str | None) -> None:
        """Bring one file as a whole. Raises `StoreFailed`, `NotFetched` and `OSError`."""
        try:
            self._transfer.bring(entry, path, sha256)
        except AnotherHash:
            raise NotFetched(
                f"{self.address(entry)} does not match its manifest: its SHA-256 differs.",
                passing=False,
                spoiled=True,
            ) from None
