"""One file or object from a store to this machine's disk: gone on with after a fault, and verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.store import ContentDamaged, EntryChanged, Store, StoreFailed

_TRIES = 5
"""In a row that brought nothing; each that brought something begins a new row."""
_FIRST_WAIT_S = 0.1
_CHUNK_BYTES = 1 << 20


class AnotherHash(Exception):
    """What the store holds is not what was expected; the text is the SHA-256 that it has."""


class Transfer:
    """Brings files, each from where it was left.

    `check` is called with the bytes that are there, before each piece, and may raise to stop. `wait` lets seconds pass
    before another try.
    """

    def __init__(self, store: Store, *, check: Callable[[int], None], wait: Callable[[float], object]) -> None:
        self._store, self._check, self._wait = store, check, wait

    def bring(self, entry: Entry, path: Path, sha256: str | None) -> str:
        """Bring one file as a whole; returns its SHA-256. Raises `AnotherHash`, `StoreFailed` and `OSError`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        found = self._bring_once(entry, path)
        if sha256 in (None, found):
            return found
        # It may have been spoiled on its way, or by what an earlier process left.
        path.unlink()
        found = self._bring_once(entry, path)
        if sha256 != found:
            path.unlink()
            raise AnotherHash(found)
        return found

    def _bring_once(self, entry: Entry, path: Path) -> str:
        digest, have, tries = hashlib.sha256(), 0, 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b") as file:
            left = os.fstat(descriptor).st_size
            if left > entry.size_bytes:
                file.truncate(0)
                left = 0
            while have < left and (piece := file.read(_CHUNK_BYTES)):
                self._check(have)
                digest.update(piece)
                have += len(piece)
            while have < entry.size_bytes:
                self._check(have)
                before = have
                try:
                    with closing(self._store.read(entry, have)) as pieces:
                        for piece in pieces:
                            self._check(have)
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
                self._wait(_FIRST_WAIT_S * 2**tries)
        return digest.hexdigest()
