"""When the picture is taken: an answer to a change waits until a picture that was begun after it is on disk.

Changes that come at the same time share a picture. What changes by itself, without a request, is in the next one: one
is taken every two seconds, and written where it differs from the last.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from tidegate.local_cloud.keep import plain, snapshot_file
from tidegate.local_cloud.keep.errors import KeepError, reason
from tidegate.local_cloud.keep.journal import Journal
from tidegate.local_cloud.keep.kept_directory import KeptDirectory
from tidegate.local_cloud.keep.kept_objects import KeptObjects
from tidegate.local_cloud.keep.snapshot_file import Picture

logger = logging.getLogger(__name__)

_TICK_S = 2.0
_RETRY_S = 1.0  # after a write that failed
_LONGEST_PAUSE_S = 1.0  # between two pictures, which are at most half of the time
_TRIES = 50  # of a picture that a request changes while it is taken

Parts = Mapping[str, Any]
"""What a picture is of, by its names: live objects, which are pickled at once."""


class Memory:
    """Begins with :meth:`start`; after :meth:`close` what is on disk is the state as it was then."""

    def __init__(
        self,
        directory: KeptDirectory,
        *,
        objects: KeptObjects,
        parts: Callable[[], Parts],
        reducers: Callable[[], Mapping[type, plain.Reducer]],
        notes: Mapping[str, Any],
    ) -> None:
        """``parts`` gives what there is at the moment, ``notes`` goes into the picture's first line."""
        self._directory = directory
        self._objects = objects
        self._parts = parts
        self._reducers = reducers
        self._notes = notes
        self._journal = Journal(directory.journal)
        self._changed = threading.Condition()  # guards what follows
        self._wanted = 0
        self._kept = 0
        self._closing = False
        self._ended = False
        self._trouble: str | None = None
        self._tried = 0
        self._last = b""
        self._unwritable: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Takes the first picture. Raises :class:`KeepError` where it cannot be written."""
        self._thread.start()
        self.settle()

    def close(self) -> None:
        """Takes the last picture."""
        with self._changed:
            self._closing, self._trouble = True, "the local cloud is stopping"
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._journal.close()
        self._objects.close()

    @contextmanager
    def changing(self, operation: str, resource: str, *, objects_only: bool = False) -> Iterator[None]:
        """Around a request that changes something; when this ends the change is on disk.

        ``objects_only``: it changes objects of S3 and nothing else. Raises :class:`KeepError` before the change where
        nothing can be written now, and after it where it could not be written.
        """
        with self._changed:
            if self._trouble is not None:
                raise KeepError(self._trouble)
        number = self._journal.begin(operation, resource)
        try:
            yield
        except BaseException:  # it was refused
            self._journal.end(number)
            raise
        if objects_only:
            try:
                self._objects.flush()
            except OSError as error:
                raise KeepError(f"the state cannot be written: {reason(error)}") from error
        else:
            self.settle()
        self._journal.end(number)

    def settle(self) -> None:
        """Returns when all that was so at the call is on disk. Raises :class:`KeepError` where it cannot be written."""
        with self._changed:
            self._wanted += 1
            mine, before = self._wanted, self._tried
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._kept >= mine or self._ended or (self._trouble is not None and self._tried > before)
            )
            if self._kept < mine:
                raise KeepError(self._trouble or "the local cloud has stopped")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted > self._kept or self._closing, timeout=_TICK_S)
                closing, wanted = self._closing, self._wanted
            began = time.monotonic()
            trouble = self._try()
            with self._changed:
                self._tried += 1
                self._trouble = "the local cloud has stopped" if closing else trouble
                if trouble is None:
                    self._kept = wanted
                self._ended = closing
                self._changed.notify_all()
                if closing:
                    return
                pause_s = min(time.monotonic() - began, _LONGEST_PAUSE_S) if trouble is None else _RETRY_S
                self._changed.wait_for(lambda: self._closing, timeout=pause_s)

    def _try(self) -> str | None:
        """Takes and writes a picture; returns why it could not be written."""
        try:
            self._objects.flush()
            payload = self._picture()
            digest = sha256(payload).digest()
            if digest != self._last:
                self._objects.sync()
                notes = {**self._notes, "unwritable": self._unwritable}
                snapshot_file.write(self._directory.snapshot, Picture(payload=payload, notes=notes))
                self._last = digest
            self._objects.sweep()
        except OSError as error:
            logger.warning("the state cannot be written", exc_info=True)
            return f"the state cannot be written: {reason(error)}"
        except Exception as error:
            logger.exception("the state cannot be written")
            return f"the state cannot be written: {type(error).__name__}: {error}"
        return None

    def _picture(self) -> bytes:
        """All parts in one pickle, so that what two of them share is one thing again when it is read.

        A part that cannot be pickled is left out, and is named when the rest is read.
        """
        parts = self._parts()
        try:
            picture, unwritable = self._pickled(parts), {}
        except Exception:
            unwritable = {name: why for name, part in parts.items() if (why := self._flaw(part)) is not None}
            picture = self._pickled({name: part for name, part in parts.items() if name not in unwritable})
        for name, why in unwritable.items():
            if name not in self._unwritable:
                logger.warning("%s cannot be kept: %s", name, why)
        self._unwritable = unwritable
        return picture

    def _pickled(self, value: Any) -> bytes:
        reducers = {**self._reducers(), **self._objects.reducers}
        for number in range(_TRIES):
            try:
                return plain.pickled(value, reducers)
            except RuntimeError as error:  # a request changed it meanwhile
                if "during iteration" not in str(error):
                    raise
                time.sleep(0.001 * number)
        return plain.pickled(value, reducers)

    def _flaw(self, part: Any) -> str | None:
        """Why a part cannot be pickled."""
        try:
            self._pickled(part)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None
