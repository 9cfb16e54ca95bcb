"""Where large bodies are kept on their way: in unnamed files below one directory, all together within a bound.

An unnamed file (O_TMPFILE, or unlinked at once) is gone with its last descriptor, however the server ends.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tidegate.inference.errors import DeploymentError, Overloaded, RequestError, SpoolFull
from tidegate.inference.frontend.queue.body import Body
from tidegate.inference.frontend.queue.budget import ByteBudget
from tidegate.inference.frontend.queue.file_body import FileBody
from tidegate.inference.settings import Settings

log = logging.getLogger("tidegate.spool")

WRITERS = 4
"""Threads that write: enough to keep a disk busy, few enough to leave the cores to the models."""


class Spool:
    """Makes bodies in files. Raises `DeploymentError` where the directory that was asked for cannot be written."""

    def __init__(self, settings: Settings, memory: ByteBudget) -> None:
        self.threshold_bytes = settings.spool_threshold_bytes
        """A larger body goes to a file."""
        self.held_bytes = 0
        self._limit_bytes = settings.max_spool_bytes
        self._memory = memory
        self._directory = self._usable(settings)
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="spool")

    def begin(self, announced_bytes: int) -> FileBody:
        """A body of which so many bytes are to come. Raises `Overloaded` or `SpoolFull` where they have no room."""
        self.reserve(announced_bytes)
        try:
            self._demand_disk(announced_bytes)
            return FileBody(self, self._directory, announced_bytes)
        except OSError as error:
            self.release(announced_bytes)
            raise self.full(error) from error
        except RequestError:
            self.release(announced_bytes)
            raise

    def take_over(self, body: Body) -> FileBody:
        """The same body in a file, which more is to come of than anybody announced. Raises as `begin` does."""
        moved = self.begin(body.size)
        moved.append(body.whole())
        body.close()
        return moved

    def close(self) -> None:
        """Write nothing more."""
        self._writers.shutdown(wait=False, cancel_futures=True)

    # --- what a file asks

    def reserve(self, size: int) -> None:
        """Hold `size` bytes more. Raises `Overloaded`, and holds nothing, where they do not fit."""
        if self.held_bytes + size > self._limit_bytes:
            raise Overloaded(
                f"The server is overloaded: bodies on their way hold the {self._limit_bytes} bytes of disk that they "
                "may (TIDEGATE_MAX_SPOOL_BYTES)."
            )
        self.held_bytes += size

    def release(self, size: int) -> None:
        """Let go of `size` bytes."""
        self.held_bytes -= size

    def hold_unwritten(self, size: int) -> None:
        """Count bytes that are still in memory, and, negative, those that are not any more."""
        self._memory.hold(size)

    def write(self, job: Callable[[], None]) -> asyncio.Future[None]:
        """Do `job` in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._writers, job)

    def full(self, error: OSError) -> RequestError:
        """The error for a body that could not be written; the log says where."""
        log.error("a body cannot be kept", extra={"directory": self._directory, "reason": str(error)})
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return Overloaded("The server is overloaded: it has no file left for the body.")
        return SpoolFull("The server has no room on its disk for the body.")

    def _demand_disk(self, size: int) -> None:
        """Raise `OSError` at once for what would only fail when most of it has been sent."""
        found = os.statvfs(self._directory)
        if size > found.f_bavail * found.f_frsize:
            raise OSError(errno.ENOSPC, f"{size} bytes are announced, {found.f_bavail * found.f_frsize} are free")

    def _usable(self, settings: Settings) -> str:
        try:
            directory = str(settings.spool_dir or tempfile.gettempdir())
            tempfile.TemporaryFile(dir=directory).close()
        except OSError as error:
            if settings.spool_dir is not None:
                raise DeploymentError(
                    f"Large bodies cannot be kept in {settings.spool_dir} (TIDEGATE_SPOOL_DIR): {error.strerror}."
                ) from None
            # A container without a writable place serves what fits into its memory, as it would without a spool.
            log.warning("all bodies stay in memory: there is no directory to write to", extra={"reason": str(error)})
            self.threshold_bytes = sys.maxsize
            return ""
        return directory
