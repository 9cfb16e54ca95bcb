"""The life of the process: take the port, load, serve, drain, stop.

Signal handlers only set a future; `serve` reads from top to bottom what happens.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import uvloop

from tidegate.inference import early_signals, log_lines, tracing
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.http.application import Application
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.models.registry import SINGLE_MODEL, Registry
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.frontend.workers.launching import Launched
from tidegate.inference.settings import Settings

if TYPE_CHECKING:
    from tidegate.inference.frontend.repository.repository import Repository
    from tidegate.inference.span_export import Tracing

log = logging.getLogger("tidegate.server")

SWEEP_S = 0.5
QUIET_AFTER_S = 0.5
"""After SIGTERM, how long nothing may come before the server believes that nobody sends any more."""
_BACKLOG = 2048


def run(settings: Settings, model_dir: Path, launched: Launched | None = None) -> int:
    """Serve until a signal or TIDEGATE_IDLE_EXIT_S (0), or until a model cannot be kept up (1).

    One model is that of `model_dir`; `launched` is a fork server that was started before.

    Raises `DeploymentError`.
    """
    log_lines.configure(settings.log_level)
    if settings.pages:
        from tidegate.inference.frontend.http.pages import demand_loopback  # noqa: PLC0415 - on few servers

        demand_loopback(settings)
    listener = _listen(settings.host, settings.port)
    early_signals.hold()
    try:
        with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, model_dir, listener, launched))
    finally:
        early_signals.release()


def demand_port(settings: Settings) -> None:
    """Raise `DeploymentError` where the port is taken: before something that takes long, and not after it."""
    _listen(settings.host, settings.port).close()


def _warn_of_unserved(settings: Settings, model_dir: Path) -> None:
    """Say so where an archive lies beside a repository: nobody is to wonder why its script is not asked."""
    if settings.model_repository is not None and model_dir.is_dir() and any(model_dir.iterdir()):
        log.warning(
            "the archive in %s is not served, because TIDEGATE_MODEL_REPOSITORY names the models; publish it there, "
            "and set TIDEGATE_DEFAULT_MODEL to its name if it is to answer requests that choose no model",
            model_dir,
        )


async def _serve(settings: Settings, model_dir: Path, listener: socket.socket, launched: Launched | None) -> int:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()
    crashed: asyncio.Future[str] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _settle, stop, number.name)
    early_signals.release()

    _warn_of_unserved(settings, model_dir)
    # 1. The fork server imports torch; meanwhile take the port. /ping says 503.
    fork_server = ForkServer(settings.log_level)
    settings, traced = _tracing(settings)
    registry = Registry(settings, fork_server, lambda cause: _settle(crashed, cause))
    repository = _repository(settings, registry)
    application = _application(settings, registry, repository, traced)
    fork_server.open(registry.worker_exited, launched)
    server = await loop.create_server(lambda: Connection(application), sock=listener, backlog=_BACKLOG)
    log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1]})
    if settings.idle_exit_s is not None:
        log.info("the server exits when it is idle", extra={"idle_exit_s": settings.idle_exit_s})
    sweeper = loop.create_task(_sweep(application, stop))
    # Only now, while the parent imports torch on another core: what is not needed to answer the first ping.
    import_module("tidegate.inference.frontend.prometheus_text")
    try:
        # 2. Load the model and let it answer its own example. From then on /ping says 200.
        # Of many models none is loaded yet: the platform asks for each by POST /models, or clients by their requests.
        if repository is not None:
            await repository.own_cache()
            repository.open()
        first = registry.warm_up() if settings.many_models else registry.load(SINGLE_MODEL, model_dir)
        loading: asyncio.Task[object] = loop.create_task(first)
        await asyncio.wait((loading, stop), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            return 0
        pool = loading.result()
        gc.freeze()  # what is there now stays: no collection while requests are served need look through it
        log.info("ready", extra={"workers": pool.limits.workers if isinstance(pool, ModelPool) else 0})

        # 3. Serve.
        await asyncio.wait((stop, crashed), return_when=asyncio.FIRST_COMPLETED)
        if crashed.done():
            raise DeploymentError(f"The server gives up: {crashed.result()}.")

        # 4. Drain: /ping says 503, what is at hand and what still comes is answered.
        log.info("draining", extra={"cause": stop.result()})
        await _drain(application, settings.drain_timeout_s)
        return 0
    finally:
        # 5. Stop: refuse what is left, let the answers out, end the workers.
        sweeper.cancel()
        application.draining = True
        if repository is not None:
            await repository.close()
        await registry.close()
        server.close()
        await _let_answers_out(application)
        if traced is not None:
            await _send_last_spans(traced, registry)
        application.spool.close()
        fork_server.close()
        log.info("stopped")


def _tracing(settings: Settings) -> tuple[Settings, Tracing | None]:
    """What makes spans; where that is not to be had, it is not asked of the workers either."""
    begun = None
    if settings.traced:
        begun = tracing.begin("frontend", exporter=settings.traces_exporter, protocol=settings.otlp_protocol)
    return (settings if begun is not None else replace(settings, otel_disabled=True)), begun


async def _send_last_spans(traced: Tracing, registry: Registry) -> None:
    due_s = monotonic() + tracing.FLUSH_S
    traced.stop()
    await registry.gone(tracing.FLUSH_S)  # the workers have spans of their own
    traced.close(max(due_s - monotonic(), 0.0))


def _application(
    settings: Settings, registry: Registry, repository: Repository | None, traced: Tracing | None
) -> Application:
    if traced is not None:
        from tidegate.inference.frontend.http import traced as traced_http  # noqa: PLC0415 - needs packages

        kind = traced_http.LoggedTracedApplication if settings.batch_transform else traced_http.TracedApplication
        return kind(settings, registry, repository, tracing=traced)
    if settings.batch_transform:
        from tidegate.inference.frontend.http.logged import LoggedApplication  # noqa: PLC0415 - in few servers

        return LoggedApplication(settings, registry, repository)
    return Application(settings, registry, repository)


def _repository(settings: Settings, registry: Registry) -> Repository | None:
    if settings.model_repository is None:
        return None
    # Only here: a server without one starts sooner.
    from tidegate.inference.frontend.repository.repository import Repository  # noqa: PLC0415

    return Repository(settings, registry)


async def _sweep(application: Application, stop: asyncio.Future[str]) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        now_s = monotonic()
        for connection in list(application.connections):
            connection.sweep(now_s)
        if application.registry.sessions is not None:
            application.registry.sessions.sweep()
        if not stop.done() and application.idle_for_too_long(now_s):
            stop.set_result("there was no request for TIDEGATE_IDLE_EXIT_S")
        _tell_of_connections(application)


def _tell_of_connections(application: Application) -> None:
    closed, refused = application.connections_closed, application.connections_refused
    if closed or refused:
        application.connections_closed = application.connections_refused = 0
        limit = application.settings.max_connections
        log.warning(
            "there are as many connections as there may be",
            extra={"limit": limit, "idle_ones_closed": closed, "new_ones_refused": refused},
        )


async def _drain(application: Application, timeout_s: float) -> None:
    application.draining = True
    quiet_since_s = started_s = monotonic()
    while monotonic() - started_s < timeout_s:
        if application.answering:
            quiet_since_s = monotonic()
        elif monotonic() - quiet_since_s >= QUIET_AFTER_S:
            return
        await asyncio.sleep(0.05)


async def _let_answers_out(application: Application) -> None:
    for _ in range(20):
        for connection in list(application.connections):
            connection.close_if_idle()
        if not application.connections:
            return
        await asyncio.sleep(0.05)
    for connection in list(application.connections):
        connection.abort()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        what = "is in use already" if error.errno == errno.EADDRINUSE else f"cannot be taken: {error.strerror}"
        way_out = "choose others by --port and --host, or by SAGEMAKER_BIND_TO_PORT and TIDEGATE_HOST"
        raise DeploymentError(f"Port {port} on {host} {what}; {way_out}.") from None


def _settle(future: asyncio.Future[str], value: str) -> None:
    if not future.done():
        future.set_result(value)
