"""Everything that happens to a model before it takes traffic, without a socket: for a build, or a laptop.

The server's own code does it, so that its verdict and its sentence are those of `serve`: requirements are installed, a
worker is forked from the fork server, loads the model and answers the archive's example. Left out, as the first line
of the report says, are the port and the workers that only repeat the first one's load.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import uvloop

from tidegate.inference.frontend.models.registry import SINGLE_MODEL, Registry
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.settings import Settings


def run(model_dir: Path, settings: Settings) -> int:
    """Load `model_dir`, ask its example and print a line per step; returns 0. Raises `DeploymentError`."""
    _say(
        f"checking {model_dir} with Python {sys.version.split()[0]}, torch {version('torch')}, as serve would start "
        "here; left out: its port, and workers beyond the first"
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_check(model_dir, settings))


async def _check(model_dir: Path, settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def stop_by(number: int) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_by, number)
    fork_server = ForkServer(settings.log_level)
    registry = Registry(settings, fork_server, on_crash_loop=lambda _cause: None)
    fork_server.open(registry.worker_exited)
    try:
        loading = loop.create_task(registry.load(SINGLE_MODEL, model_dir, rehearsal=True))
        await asyncio.wait((loading, stop), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            return 128 + stop.result()
        loading.result()
    finally:
        await registry.close()
        fork_server.close()
    _say("this model may take traffic")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report is what the command is for
