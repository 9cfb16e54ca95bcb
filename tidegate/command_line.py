"""How every command begins, with AWS_REGION read, and ends where its output cannot be written: in one sentence.

A reader that has seen enough (`… | head`) ends a command quietly; a full disk is an error that names what is full.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from tidegate.region import honour_aws_region

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _CannotWrite(Exception):
    """Standard output takes nothing more. No `OSError`: a command knows what to say of files, and not of this."""


def run(main: Callable[[], int | None]) -> int:
    """The exit status of `main`, after all that it printed has left.

    0 where the reader closed standard output, 1 with one sentence on standard error where that or a file's disk is full
    or broken, 130 after Ctrl-C.
    """
    _guard_standard_output()
    honour_aws_region(os.environ)
    try:
        try:
            status = main() or 0
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except _CannotWrite as failure:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in buffers is written when Python ends
        reason = failure.__cause__
        return 0 if isinstance(reason, BrokenPipeError) else _fail(f"standard output: {_words(reason)}")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return _fail(f"{error.filename}: {_words(error)}" if error.filename else _words(error))
    except KeyboardInterrupt:
        return 130
    return status


class _StandardOutput(io.FileIO):
    """What the descriptor 1 leads to."""

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            raise _CannotWrite from error


def _guard_standard_output() -> None:
    if sys.stdout is None:  # closed by whoever started us: nobody reads
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for as long as the process
    if sys.stdout is not sys.__stdout__ or not isinstance(sys.stdout, io.TextIOWrapper) or sys.stdout.fileno() != 1:
        return  # somebody collects it
    given = sys.stdout
    given.flush()
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_StandardOutput(1, "w", closefd=False)),
        encoding=given.encoding,
        errors="backslashreplace" if given.errors == "strict" else given.errors,  # a name may be any bytes
        line_buffering=given.line_buffering,
        write_through=given.write_through,
    )


def _words(error: BaseException | None) -> str:
    return str(getattr(error, "strerror", None) or error)


def _fail(sentence: str) -> int:
    with suppress(OSError):
        print(f"tidegate: error: {sentence}", file=sys.stderr)  # noqa: T201 - the command's answer
    return 1
