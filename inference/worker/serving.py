"""A worker's life: load one model, answer batches, leave when the frontend hangs up."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from io import TextIOWrapper
from queue import Queue
from threading import Thread
from typing import cast

import numpy as np

from tidegate.inference import log_lines, protocol
from tidegate.inference.errors import DeploymentError, ModelDoesNotFit
from tidegate.inference.protocol import Kind, ModelSpec, Progress
from tidegate.inference.worker import signals
from tidegate.inference.worker.allocator import keep_freed_memory
from tidegate.inference.worker.channel import Channel, HungUp, UnexpectedFrame
from tidegate.inference.worker.computation import Batch, Computation
from tidegate.inference.worker.device_errors import DeviceLost
from tidegate.inference.worker.loading import load

log = logging.getLogger("tidegate.worker")


def run(connection: socket.socket) -> int:
    """Serve `connection` until it closes; returns the exit status of the process."""
    channel = Channel(connection)
    try:
        return _serve(channel)
    except HungUp:
        return 0
    except UnexpectedFrame as error:
        log.error("this worker ends, because it cannot follow the frontend: %s", error)
    except DeviceLost:
        log.exception("the device is lost; this worker ends")
    return 1


def _serve(channel: Channel) -> int:
    signals.outlive()
    # What user code prints is in the log at once, and not lost with a worker that is killed.
    for output in (sys.stdout, sys.stderr):
        cast(TextIOWrapper, output).reconfigure(line_buffering=True)
    if "numpy.random" in sys.modules:
        # Forked workers would otherwise all draw the same numbers. Where it is not there, seven MiB are not needed.
        np.random.seed()
    keep_freed_memory()
    first = channel.next_frame(Kind.LOAD)
    if first is None:
        return 0
    spec = ModelSpec.from_json(first[1])
    log_lines.configure(spec.log_level)
    log_lines.configure_root(spec.log_level)
    try:
        computation = load(
            spec,
            _say if spec.rehearsal else log.info,
            proving=lambda: channel.send(Progress(proving=True)),
        )
    except DeploymentError as error:
        if error.__cause__ is not None:
            log.error("loading failed", exc_info=error.__cause__)
        channel.send_frame(protocol.failed_frame(str(error), too_large=isinstance(error, ModelDoesNotFit)))
        return 1
    gc.collect()
    gc.freeze()
    channel.send_frame(protocol.ready_frame(may_join=computation.may_join))
    batches = (
        _decoded_ahead(channel, computation, spec.input_threads)
        if spec.input_threads
        else _received(channel, computation)
    )
    for batch in batches:
        for events in computation.events(batch):
            channel.send(*events)
    return 0


def _received(channel: Channel, computation: Computation, decoders: Executor | None = None) -> Iterator[Batch]:
    """Each batch; without `decoders` it is decoded later, in the thread in which all user code runs."""
    while (frame := channel.next_frame(Kind.COMPUTE)) is not None:
        yield computation.begin(protocol.parse_compute(frame[1]), decoders)


def _decoded_ahead(channel: Channel, computation: Computation, threads: int) -> Iterator[Batch]:
    """Each batch, decoded by `threads` threads while the one before is predicted."""
    ready: Queue[Batch | BaseException | None] = Queue(maxsize=1)

    def decode() -> None:
        try:
            with ThreadPoolExecutor(threads, thread_name_prefix="input_fn") as decoders:
                for batch in _received(channel, computation, decoders):
                    ready.put(batch)
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    Thread(target=decode, daemon=True).start()
    while (batch := ready.get()) is not None:
        if isinstance(batch, BaseException):
            raise batch
        yield batch


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report of `check`


def leave(status: int) -> None:
    """End the process at once, without the parent's exit handlers, which a fork has inherited."""
    logging.shutdown()
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # its reader is gone, or user code closed it
            output.flush()
    os._exit(status)
