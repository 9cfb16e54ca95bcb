"""A worker's life: load one model, answer batches, leave when the frontend hangs up."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BufferedIOBase, TextIOWrapper
from queue import Queue
from threading import Thread
from typing import cast

import numpy as np

from tidegate.inference import log_lines, protocol
from tidegate.inference.errors import DeploymentError, ModelDoesNotFit
from tidegate.inference.protocol import ModelSpec, Progress
from tidegate.inference.worker import signals
from tidegate.inference.worker.allocator import keep_freed_memory
from tidegate.inference.worker.computation import Batch, Computation
from tidegate.inference.worker.device_errors import DeviceLost
from tidegate.inference.worker.loading import load

log = logging.getLogger("tidegate.worker")


def run(channel: socket.socket) -> int:
    """Serve `channel` until it closes; returns the exit status of the process."""
    worker_pid = os.getpid()

    def send(data: bytes) -> None:
        if os.getpid() != worker_pid:
            leave(0)  # user code forked and let its child come back here; only the worker answers
        try:
            channel.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            leave(0)  # the frontend hung up while this was computed

    signals.outlive()
    # What user code prints is in the log at once, and not lost with a worker that is killed.
    for output in (sys.stdout, sys.stderr):
        cast(TextIOWrapper, output).reconfigure(line_buffering=True)
    if "numpy.random" in sys.modules:
        # Forked workers would otherwise all draw the same numbers. Where it is not there, seven MiB are not needed.
        np.random.seed()
    keep_freed_memory()
    stream = cast(BufferedIOBase, channel.makefile("rb", buffering=1 << 18))
    first = _read(stream)
    if first is None:
        return 0
    spec = ModelSpec.from_json(first[1])
    log_lines.configure(spec.log_level)
    log_lines.configure_root(spec.log_level)
    try:
        computation = load(
            spec,
            _say if spec.rehearsal else log.info,
            proving=lambda: send(protocol.progress_frame(Progress(proving=True))),
        )
    except DeploymentError as error:
        if error.__cause__ is not None:
            log.error("loading failed", exc_info=error.__cause__)
        send(protocol.failed_frame(str(error), too_large=isinstance(error, ModelDoesNotFit)))
        return 1
    gc.collect()
    gc.freeze()
    send(protocol.ready_frame(may_join=computation.may_join))
    batches = (
        _decoded_ahead(stream, computation, spec.input_threads) if spec.input_threads else _decoded(stream, computation)
    )
    try:
        for batch in batches:
            for events in computation.finish(batch):
                send(b"".join(map(protocol.event_frame, events)))
    except DeviceLost:
        log.exception("the device is lost; this worker ends")
        return 1
    return 0


def _decoded(stream: BufferedIOBase, computation: Computation) -> Iterator[Batch]:
    """Each batch, read and decoded when the one before is answered: all user code runs in this thread."""
    while (frame := _read(stream)) is not None:
        yield computation.begin(protocol.parse_compute(frame[1]))


def _decoded_ahead(stream: BufferedIOBase, computation: Computation, threads: int) -> Iterator[Batch]:
    """Each batch, decoded by `threads` threads while the one before is predicted."""
    ready: Queue[Batch | BaseException | None] = Queue(maxsize=1)

    def decode() -> None:
        try:
            with ThreadPoolExecutor(threads, thread_name_prefix="input_fn") as decoders:
                while (frame := _read(stream)) is not None:
                    ready.put(computation.begin(protocol.parse_compute(frame[1]), decoders))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    Thread(target=decode, daemon=True).start()
    while (batch := ready.get()) is not None:
        if isinstance(batch, BaseException):
            raise batch
        yield batch


def _read(stream: BufferedIOBase) -> tuple[int, bytes] | None:
    try:
        head = stream.read(protocol.FRAME.size)
        if len(head) < protocol.FRAME.size:
            return None
        length, kind = protocol.FRAME.unpack(head)
        payload = stream.read(length)
        return (kind, payload) if len(payload) == length else None
    except ConnectionResetError:
        return None


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the report of `check`


def leave(status: int) -> None:
    """End the process at once, without the parent's exit handlers, which a fork has inherited."""
    logging.shutdown()
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it is gone, or user code closed it
            output.flush()
    os._exit(status)
