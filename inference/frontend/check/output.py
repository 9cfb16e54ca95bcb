"""What a check prints. The report is all that standard output gets: what user code prints goes to standard error."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

from tidegate.inference.errors import one_line
from tidegate.inference.frontend.check.report import CheckReport, clean, made_with
from tidegate.inference.frontend.check.text import text


class Output:
    """Where the report goes: the standard output of before user code could print there."""

    def __init__(self, stream: TextIO, *, as_json: bool, model: str) -> None:
        self._stream = stream
        self._model = model
        self._as_json = as_json
        self._reported = False
        self._started_s = monotonic()
        self._width = shutil.get_terminal_size().columns if stream.isatty() else None

    def line(self, line: str) -> None:
        """A line of the text, as soon as it is true."""
        if not self._as_json:
            self._write(clean(line))

    def result(self, found: CheckReport) -> None:
        """All of it."""
        self._reported = True
        if self._as_json:
            self._write(json.dumps(found.to_plain(), indent=2))
        elif said := text(found, self._width):
            self._write(f"\n{said}")

    def failed(self, reason: str) -> None:
        """It ended before there was anything else to report."""
        if self._as_json and not self._reported:
            self.result(
                CheckReport(
                    model=self._model,
                    error=reason,
                    server=made_with(),
                    archive=None,
                    load=None,
                    warnings=(),
                    steps=(),
                    took_s=monotonic() - self._started_s,
                )
            )

    def _write(self, said: str) -> None:
        try:
            print(said, file=self._stream, flush=True)
        except BrokenPipeError:
            # Whoever reads has seen enough, as `head` has; the exit status is still true.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def output(*, as_json: bool, model: str) -> Iterator[Output]:
    """Take over standard output; whatever else is printed meanwhile, by any process, goes to standard error."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # it is closed: nobody reads a report
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
            yield Output(nowhere, as_json=as_json, model=model)
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    # A file's name may be any bytes.
    with os.fdopen(kept, "w", encoding=encoding, errors="backslashreplace") as stream:
        out = Output(stream, as_json=as_json, model=model)
        try:
            yield out
        except Exception as error:
            # A fault of the check itself; whoever reads objects gets one all the same.
            out.failed(f"The check itself failed: {type(error).__name__}: {one_line(error)}.")
            raise
        finally:
            os.dup2(kept, 1)
