"""Run a program to its end, and leave nothing of it where it is not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT_BYTES = 512 * 1024
"""How much of the end of the output is kept."""


async def run(
    words: Sequence[str],
    *,
    directory: Path | None = None,
    variables: Mapping[str, str] | None = None,
    errors_too: bool = False,
) -> tuple[int, bytes]:
    """The exit status of a program and the end of its standard output; `errors_too`: of its standard error as well.

    Cancelled, it kills the program with all that it started, and waits until the program is gone: its transport must
    not outlive the loop. Raises `OSError` where the program cannot be started.
    """
    starting = asyncio.ensure_future(
        asyncio.get_running_loop().subprocess_exec(
            _Output,
            *words,
            cwd=directory,
            env=variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if errors_too else None,
            start_new_session=True,  # a group to kill, with git and compilers in it, and no terminal to ask on
        )
    )
    try:
        # Cancelled while it starts, asyncio would kill the program alone, which may have started others by then.
        transport, output = await asyncio.shield(starting)
        await output.closed
    except BaseException:
        transport, output = await starting
        with contextlib.suppress(ProcessLookupError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        transport.close()
        await output.exited
        raise
    status = transport.get_returncode()
    transport.close()
    return (0 if status is None else status), bytes(output.kept)


class _Output(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.kept = bytearray()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        """The program has ended, and so has its output, which what it started may hold open for longer."""

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - standard output's
        self.kept += data
        del self.kept[:-KEPT_BYTES]

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - there is none
        if not self.closed.done():
            self.closed.set_result(None)
