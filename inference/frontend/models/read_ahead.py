"""The files of a model, brought into the page cache and hashed while the fork server imports torch.

Both need a disk or a second core and no torch, so a start takes as long as the longer of the two instead of their sum.
It is done in a thread, and it is only a favour: a file that cannot be read is left for the worker, which says so, and
nothing waits but for the hash of a file that is half done, which the worker would have to begin again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

from tidegate.inference.frontend.models.container_limits import free_memory_bytes
from tidegate.inference.hashed_file import HashedFile, hash_file
from tidegate.inference.layout import FORMAT_VERSION, MANIFEST, model_root

log = logging.getLogger("tidegate.models")

SHARE = 0.5
"""Of the memory that is free: the model is going to need some itself, and what it needs drives out what was read."""
HASHED_FROM_BYTES = 1024 * 1024
"""A smaller file costs the worker nothing."""
PATIENCE_S = 1.0
"""How long a disk may bring nothing before the rest is left for the worker."""
_LOOK_S = 0.005
_PIECE_BYTES = 128 * 1024
"""The kernel reads no more for one call than the device's `read_ahead_kb`, which usually is this, and says nothing."""


class ReadAhead:
    """Begins at once. What the manifest lists is hashed as well, for as long as `finish` is not called.

    A file is hashed if all of it was read: the rest would drive out what was.
    """

    def __init__(self, model_dir: Path, max_bytes: int | None = None) -> None:
        """`max_bytes`: of how many bytes the kernel is asked at most; default: half of the free memory."""
        self._model_dir = model_dir
        self._max_bytes = max_bytes
        self._finished = self._hash_no_more = self._abandoned = False
        self._hashing = False
        self._pieces = 0
        """How many of the file that is hashed have come."""
        self._hashed: list[HashedFile] = []
        # A daemon: a disk that does not answer must not keep the server from ending.
        self.thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self.thread.start()

    async def finish(self) -> tuple[HashedFile, ...]:
        """Hash no other file, because a worker does; returns what has been hashed. Reading goes on."""
        self._finished = True
        pieces, since_s = self._pieces, monotonic()
        while self._hashing and monotonic() < since_s + PATIENCE_S:
            await asyncio.sleep(_LOOK_S)
            if self._pieces != pieces:
                pieces, since_s = self._pieces, monotonic()
        self._hash_no_more = True
        return tuple(self._hashed)

    def abandon(self) -> None:
        """Read and hash nothing more."""
        self._finished = self._hash_no_more = self._abandoned = True

    def _run(self) -> None:
        try:
            files = sorted(takewhile(lambda _: not self._abandoned, _files(self._model_dir)))
            read = self._read(files)
            if self._finished:
                return
            listed = _listed(self._model_dir)
            for size, path in read:
                if size >= HASHED_FROM_BYTES and listed.get(path) == size and not self._finished:
                    self._hash(path)
        except Exception:
            log.debug("reading ahead has failed", exc_info=True)

    def _read(self, files: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
        """Ask the kernel for as much as there is room for; returns the files that it was asked for all of."""
        left = int(free_memory_bytes() * SHARE) if self._max_bytes is None else self._max_bytes
        whole = []
        for size, path in files:  # the smallest first: code and settings are needed before the weights
            wanted = min(size, left)
            left -= wanted
            with suppress(OSError), _opened(path) as file:
                for at in range(0, wanted, _PIECE_BYTES):
                    if self._abandoned:
                        return []
                    length = min(_PIECE_BYTES, wanted - at)
                    os.posix_fadvise(file.fileno(), at, length, os.POSIX_FADV_WILLNEED)
                if wanted == size:
                    whole.append((size, path))
            if wanted < size:
                break
        return whole

    def _hash(self, path: Path) -> None:
        self._hashing = True
        try:
            with suppress(OSError), _opened(path) as file:
                found = hash_file(file, self._goes_on)
                if found is not None:
                    self._hashed.append(found)
        finally:
            self._hashing = False

    def _goes_on(self) -> bool:
        self._pieces += 1
        return not self._hash_no_more


def _files(model_dir: Path) -> Iterator[tuple[int, Path]]:
    """The regular files, with their sizes in bytes."""
    for folder, _, names in os.walk(model_dir.resolve()):
        for path in (Path(folder, name) for name in names):
            with suppress(OSError):
                found = path.stat()
                if stat.S_ISREG(found.st_mode):
                    yield found.st_size, path


def _opened(path: Path) -> BinaryIO:
    """Raises `OSError`, also where it is no regular file any more: a FIFO would be waited for."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is no regular file any more")
    return file


def _listed(model_dir: Path) -> Mapping[Path, Any]:
    """What the manifest says of the size of each file, as far as it can be read; the worker says what is wrong."""
    try:
        root = model_root(model_dir.resolve())
        with _opened(root / MANIFEST) as file:
            manifest = json.load(file)
        if manifest["format_version"] != FORMAT_VERSION:
            return {}
        return {root / name: facts["size_bytes"] for name, facts in manifest["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
