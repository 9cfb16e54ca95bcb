"""Everything that happens to a model before it takes traffic, without a socket: for a build, or a laptop.

The server's own code does it, so that its verdict and its sentence are those of `serve`: requirements are installed, a
worker is forked from the fork server, loads the model and answers the archive's example. Left out, as the first line
of the report says, are the port and the workers that only repeat the first one's load. What is loaded is looked into
after the verdict, which nothing in that can change.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import uvloop

from tidegate.inference import early_signals
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.check import report
from tidegate.inference.frontend.check.output import Output
from tidegate.inference.frontend.check.report import ArchiveReport, CheckReport, Server
from tidegate.inference.frontend.models.registry import SINGLE_MODEL, Registry
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.load_report import Caution, LoadReport
from tidegate.inference.settings import Settings


@dataclass(slots=True, kw_only=True)
class _Told:
    """What the worker has told."""

    step: Callable[[str], None]
    steps: list[str] = field(default_factory=list)
    cautions: list[Caution] = field(default_factory=list)
    load: LoadReport | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether nothing more will be told."""

    def take(self, said: Mapping[str, Any]) -> None:
        if (line := said.get("step")) is not None:
            self.steps.append(line)
            self.step(line)
        self.cautions += (Caution(**each) for each in said.get("cautions", ()))
        if (found := said.get("report")) is not None:
            self.load = LoadReport.from_plain(found)
            self.cautions += self.load.cautions
            self.over.set()
        if said.get("lost"):
            self.over.set()


def run(out: Output, model_dir: Path, settings: Settings, model: str) -> int:
    """Load `model_dir`, which was given as `model`, ask its example and report; returns the exit status.

    Raises `DeploymentError`, with the report written.
    """
    server = report.made_with()
    out.line(
        f"checking {model_dir} with Python {server.python}, torch {server.torch}, as `serve` would start it "
        "here, without a port and with one worker"
    )
    started_s = monotonic()
    check = _Check(out=out, server=server, model=model, started_s=started_s)
    early_signals.hold()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(check.run(model_dir, settings))
    finally:
        early_signals.release()


@dataclass(slots=True, kw_only=True)
class _Check:
    out: Output
    server: Server
    model: str
    started_s: float
    archive: ArchiveReport | None = None
    cautions: list[Caution] = field(default_factory=list)

    async def run(self, model_dir: Path, settings: Settings) -> int:
        loop = asyncio.get_running_loop()
        stop: asyncio.Future[int] = loop.create_future()

        def stop_by(number: int) -> None:
            if not stop.done():
                stop.set_result(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop_by, number)
        early_signals.release()
        told = _Told(step=self.out.line)
        fork_server = ForkServer(settings.log_level)
        registry = Registry(settings, fork_server, on_crash_loop=lambda _cause: None)
        registry.on_report = told.take
        fork_server.open(registry.worker_exited)
        try:
            # While the fork server imports torch.
            looking = _looking(loop, model_dir, settings)
            await asyncio.wait((looking, stop), return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                return self._stopped(told, stop.result())
            self.archive, self.cautions = looking.result()
            loading = loop.create_task(registry.load(SINGLE_MODEL, model_dir, rehearsal=True))
            await asyncio.wait((loading, stop), return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                over = loop.create_task(told.over.wait())
                await asyncio.wait((over, stop), timeout=settings.timeout_s, return_when=asyncio.FIRST_COMPLETED)
                over.cancel()
            if stop.done():
                loading.cancel()
                return self._stopped(told, stop.result())
        except DeploymentError as error:
            self._report(told, str(error))
            raise
        finally:
            await registry.close()
            fork_server.close()
        if told.load is None:
            told.cautions.append(
                Caution(
                    code="not_looked_into",
                    message="the model was loaded as a server loads it, and its worker ended, or hung, when its "
                    "example was asked again",
                    way_out="look into what was logged: the second request of a client would end like that",
                )
            )
        self._report(told, None)
        return 0

    def _stopped(self, told: _Told, number: int) -> int:
        self._report(told, f"The check was stopped by {signal.Signals(number).name}.")
        return 128 + number

    def _report(self, told: _Told, error: str | None) -> None:
        self.out.result(
            CheckReport(
                model=self.model,
                error=error,
                server=self.server,
                archive=self.archive,
                load=told.load,
                warnings=report.merged(self.cautions, told.cautions),
                steps=tuple(told.steps),
                took_s=monotonic() - self.started_s,
            )
        )


_Look = tuple[ArchiveReport | None, list[Caution]]


def _looking(loop: asyncio.AbstractEventLoop, model_dir: Path, settings: Settings) -> asyncio.Future[_Look]:
    """What a look finds, from a thread that a signal may leave behind: the loop would wait for its own at the end."""
    found: asyncio.Future[_Look] = loop.create_future()

    def run() -> None:
        try:
            told = partial(found.set_result, report.look(model_dir, settings))
        except Exception as error:
            told = partial(found.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            loop.call_soon_threadsafe(told)

    threading.Thread(target=run, name="look", daemon=True).start()
    return found
