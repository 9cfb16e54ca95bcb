"""How a training script is started: by Python, by the program that its first line names, or by sh.

The first line is read here instead of by the kernel, which needs a file that may be executed: code can lie on a
read-only disk or on one that is mounted noexec, and the SDK's archives lose the bit. The words are the kernel's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from container.entrypoint.training_failure import TrainingFailed

SHELL = "/bin/sh"
"""What runs a script without a first line of that kind, as it did under AWS's toolkit (`/bin/sh -c ./script`)."""

FIRST_BYTES = 4096
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def command(script: Path, interpreter: Path) -> list[str]:
    """The words that start `script`; a `.py` file is run by `interpreter`, whatever its first line says.

    Raises `TrainingFailed` for a first line that names no program of this container, for a script with the line ends
    or the byte order mark of Windows, and for a program that may not be executed.
    """
    if script.suffix == ".py":
        return [str(interpreter), str(script)]
    with script.open("rb") as file:
        beginning = file.read(FIRST_BYTES)
    if beginning.startswith(b"\x7fELF"):
        return [str(_executable(script))]
    first_line, newline, _ = beginning.partition(b"\n")
    if beginning.startswith(_BYTE_ORDER_MARK):
        raise TrainingFailed(f"{script.name} begins with a byte order mark; save it as UTF-8 without one.")
    if newline and first_line.endswith(b"\r"):
        # A shell takes the \r for the end of a word: `cd data\r` goes nowhere, and the job trains on nothing.
        raise TrainingFailed(f"{script.name} has the line ends of Windows (CRLF); save it with those of Linux (LF).")
    words = first_line[2:].split(None, 1) if first_line.startswith(b"#!") else []
    if not words:
        return [SHELL, str(script)]
    # All that follows the program is one argument, with its inner spaces.
    program, *argument = (os.fsdecode(word.strip()) for word in words)
    if Path(program).is_absolute() and shutil.which(program) is None:
        raise TrainingFailed(
            f"{script.name} asks in its first line for {program}, which is no program of this container; "
            "'#!/usr/bin/env NAME' finds one by its name."
        )
    return [program, *argument, str(script)]


def _executable(program: Path) -> Path:
    if not os.access(program, os.X_OK):
        with contextlib.suppress(OSError):  # said below
            program.chmod(program.stat().st_mode | 0o111)
    if not os.access(program, os.X_OK):
        raise TrainingFailed(f"{program} may not be executed, and its mode cannot be changed; pack it with chmod +x.")
    return program
