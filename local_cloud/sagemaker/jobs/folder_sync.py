"""Keeps a prefix of S3 up to date with a folder of a running job: checkpoints, and outputs that go out as written.

Files are copied when they are new or have changed; nothing is deleted in S3. Source: "Checkpoints in Amazon SageMaker
AI" (model-checkpoints) in the developer guide.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidegate.local_cloud.sagemaker.archive import split_s3_uri
from tidegate.local_cloud.sagemaker.jobs.artifacts import UPLOAD_ERRORS, files_below, key_below

logger = logging.getLogger(__name__)

_PAUSE_S = 0.5


class FolderSync:
    """From :meth:`start` to :meth:`close`, which copies once more. ``failure`` says what could not be copied."""

    def __init__(self, s3: Any, directory: Path, uri: str) -> None:
        self._s3 = s3
        self._directory = directory
        self._bucket, self._prefix = split_s3_uri(uri)
        self._copied: dict[Path, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"sync {directory.name}", daemon=True)
        self.failure: str | None = None
        for path in files_below(directory):  # what came from there is there
            self._copied[path] = _state(path)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._copy()

    def _keep(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            self._copy()

    def _copy(self) -> None:
        self.failure = None
        try:
            for path in files_below(self._directory):
                with suppress(FileNotFoundError):  # it went, as an older checkpoint does
                    state = _state(path)
                    if self._copied.get(path) != state:
                        name = path.relative_to(self._directory).as_posix()
                        self._s3.upload_file(str(path), self._bucket, key_below(self._prefix, name))
                        self._copied[path] = state
        except UPLOAD_ERRORS as error:
            self.failure = f"s3://{self._bucket}/{self._prefix} cannot be written: {error}"
            logger.warning("%s", self.failure)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
