"""The repository's own process, seen from the frontend: started, told, heard, and replaced when it dies.

What it was doing when it died is lost with it; what it had fetched is not, and the next one says so (`Kept`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import cast

import tidegate
from tidegate.inference.frontend.workers.fork_server import describe_exit
from tidegate.inference.repository.messages import Event, Open, Request, line_of, message_of

log = logging.getLogger("tidegate.repository")

SILENT_S = 900.0
"""How long a listing may take beyond its interval; a process that hangs in a system call says nothing any more."""
MAX_LINE_BYTES = 16 * 1024 * 1024
CLOSE_S = 2.0
"""How long the process may take to end by itself."""
FIRST_RESTART_S = 0.1
LONGEST_RESTART_S = 30.0
STEADY_S = 60.0
"""A process that lived for so long does not add to the wait for its successor."""
_PACKAGE_ROOT = str(Path(tidegate.__file__).resolve().parents[1])
# -P: a user's folder `tidegate` in the working directory must not be imported in place of the package.
COMMAND = (sys.executable, "-P", "-m", "tidegate.inference.repository")


class RepositoryProcess:
    """Keeps one process running. `heard` is told each of its messages, `lost` that it died, before another starts."""

    def __init__(
        self,
        opening: Callable[[], Open],
        heard: Callable[[Event], None],
        lost: Callable[[], None],
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        """`opening` makes the first message for each process."""
        self._opening = opening
        self._heard = heard
        self._lost = lost
        self._command = command
        self.patience_s: float | None = SILENT_S
        """After so much silence it counts as hanging, and is replaced; None: never."""
        self._process: Process | None = None
        self._told = False
        """Whether the process has its first message."""
        self._keeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start it, and another one whenever it has died."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    def tell(self, request: Request) -> None:
        """Send a message. While there is no process it goes nowhere: `lost` has been called, or is going to be."""
        if self._told and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line_of(request))

    async def close(self) -> None:
        """Hang up; it ends by itself, or is killed."""
        if self._keeping is None:
            return
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), CLOSE_S)
            except TimeoutError:
                await _kill(process)

    async def _keep(self) -> None:
        failures = 0
        while True:
            started_s = monotonic()
            cause = await self._run()
            failures = 1 if monotonic() - started_s > STEADY_S else failures + 1
            wait_s = min(FIRST_RESTART_S * 2 ** (failures - 1), LONGEST_RESTART_S)
            log.error("the repository's process died", extra={"cause": cause, "restart_in_s": wait_s})
            self._lost()
            await asyncio.sleep(wait_s)

    async def _run(self) -> str:
        """One process from its start to its end; returns how it ended, in words."""
        path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH"))))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, "PYTHONPATH": path},
                limit=MAX_LINE_BYTES,
                # Ctrl-C at a terminal is for the frontend, which still needs this process while it drains.
                start_new_session=True,
            )
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        assert process.stdout is not None  # noqa: S101
        self._process = process
        # In a thread: there may be thousands of models to tell of.
        process.stdin.write(await asyncio.to_thread(line_of, self._opening()))
        self._told = True
        fault = await self._listen(process.stdout)
        self._told = False
        process.stdin.close()
        if not fault:
            try:  # it has closed its output: its end is near
                fault = f"it {describe_exit(await asyncio.wait_for(process.wait(), CLOSE_S))}"
            except TimeoutError:
                fault = "it hung up"
        await _kill(process)
        self._process = None  # and not before: `close` may come at any of these waits, and ends what is there
        return fault

    async def _listen(self, output: asyncio.StreamReader) -> str:
        """Hear everything; returns what was wrong with it, or nothing at its end."""
        while True:
            try:
                async with asyncio.timeout(self.patience_s):
                    line = await output.readline()
                if not line:
                    return ""
                event = message_of(line)
            except TimeoutError:
                return f"it said nothing for {self.patience_s:g} s"
            except ValueError as error:  # no message, or a line without an end
                return f"it said what cannot be understood: {error}"
            self._heard(cast(Event, event))
            await asyncio.sleep(0)  # a long listing is many lines: requests have their turn between them


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
