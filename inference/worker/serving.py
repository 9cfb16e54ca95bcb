"""A worker's life: load one model, answer batches, leave when the frontend hangs up."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import time
from collections.abc import Sized
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tidegate.inference import log_lines, protocol, tracing
from tidegate.inference.errors import DeploymentError, ModelDoesNotFit
from tidegate.inference.protocol import Kind, ModelSpec, Progress
from tidegate.inference.worker import own_gpus, signals
from tidegate.inference.worker.allocator import FreedMemory, keep_freed_memory
from tidegate.inference.worker.bidirectional import Conversations
from tidegate.inference.worker.channel import Channel, HungUp, UnexpectedFrame
from tidegate.inference.worker.computation import Batch, Computation
from tidegate.inference.worker.device_errors import DeviceLost
from tidegate.inference.worker.held_models import HeldModels
from tidegate.inference.worker.intake import DirectIntake, Intake, ThreadedIntake
from tidegate.inference.worker.known_bodies import known_bodies
from tidegate.inference.worker.leaving import leave
from tidegate.inference.worker.loading import load
from tidegate.inference.worker.rehearsal import Rehearsal

if TYPE_CHECKING:
    from tidegate.inference.worker.traced import Traced

log = logging.getLogger("tidegate.worker")


def run(connection: socket.socket) -> int:
    """Serve `connection` until it closes; returns the exit status of the process."""
    channel = Channel(connection)
    try:
        with ExitStack() as at_end:
            return _serve(channel, at_end)
    except HungUp:
        return 0
    except UnexpectedFrame as error:
        log.error("this worker ends, because it cannot follow the frontend: %s", error)
    except DeviceLost:
        log.exception("the device is lost; this worker ends")
    return 1


def _serve(channel: Channel, at_end: ExitStack) -> int:
    signals.outlive()
    # What user code prints is in the log at once, and not lost with a worker that is killed.
    for output in (sys.stdout, sys.stderr):
        cast(TextIOWrapper, output).reconfigure(line_buffering=True)
    if "numpy.random" in sys.modules:
        # Forked workers would otherwise all draw the same numbers. Where it is not there, seven MiB are not needed.
        np.random.seed()
    freed = FreedMemory(kept=keep_freed_memory())
    channel.receive(wait=True)
    first = channel.next_frame(Kind.LOAD)
    if first is None:
        return 0
    spec = ModelSpec.from_json(first[1])
    spec = replace(spec, gpu_ids=own_gpus.see_own(spec.gpu_ids))
    log_lines.configure(spec.log_level)
    log_lines.configure_root(spec.log_level)
    models = HeldModels(channel, timeout_s=spec.timeout_s) if spec.lends_models else None
    if models is not None:
        channel.taker = models.take
    rehearsal = Rehearsal(channel) if spec.rehearsal else None
    started_s = time.perf_counter()
    try:
        with rehearsal.heard if rehearsal is not None else nullcontext():
            computation = load(
                spec,
                rehearsal.step if rehearsal is not None else log.info,
                proving=lambda: channel.send(Progress(proving=True)),
                others=models,
                trace=partial(_trace, spec, at_end),
            )
    except DeploymentError as error:
        if error.__cause__ is not None:
            log.error("loading failed", exc_info=error.__cause__)
        if rehearsal is not None:
            rehearsal.failed()
        channel.send_frame(protocol.failed_frame(str(error), too_large=isinstance(error, ModelDoesNotFit)))
        return 1
    load_s = time.perf_counter() - started_s
    computation.context.turn_to()  # the example was at hand
    log_lines.name_requests(computation.context.log_fields)
    gc.collect()
    gc.freeze()
    freed.give_back()
    computation.steps.adapters.roots = [Path(each) for each in (spec.model_dir, spec.adapters_dir) if each]
    conversations = _conversations(channel, computation, spec, freed)
    channel.send_frame(
        protocol.ready_frame(
            may_join=computation.may_join,
            converses=conversations is not None,
            has_page=channel.begun_page is not None,
            gpu_bytes=computation.gpu_memory.held_by_gpu(),
            tensors=computation.tensors,
            form=computation.form,
            alone=computation.joined_calls.why_alone if spec.finds_batch_size else None,
            bodies=known_bodies(computation.steps),
        )
    )
    if rehearsal is not None:
        # After the verdict, so that nothing in this can change it.
        rehearsal.loaded(computation, spec, load_s)
    computation.serve(channel.begun_page)
    intake: Intake = (
        ThreadedIntake(channel, computation, threads=spec.input_threads, conversations=conversations)
        if spec.input_threads or conversations is not None
        else DirectIntake(channel, computation)
    )
    try:
        if models is not None:
            models.going.others_at_work = lambda: bool(computation.streams) or bool(conversations)
        work(
            channel,
            intake,
            computation,
            freed,
            models=models,
            conversations=() if conversations is None else conversations,
        )
    finally:
        computation.streams.close()
    return 0


def _trace(spec: ModelSpec, at_end: ExitStack) -> Traced | None:
    """What makes spans of the functions, where that is asked for; the last of them are sent `at_end`."""
    if not spec.traced or (begun := tracing.begin(f"worker of {spec.name}")) is None:
        return None
    from tidegate.inference.worker.traced import Traced  # noqa: PLC0415 - needs packages

    at_end.callback(begun.close, tracing.FLUSH_S)
    begun.publish()
    return Traced(begun)


def _conversations(
    channel: Channel, computation: Computation, spec: ModelSpec, freed: FreedMemory
) -> Conversations | None:
    stream_fn = computation.steps.functions.stream_fn
    if stream_fn is None:
        return None

    def send(data: bytes) -> None:
        try:
            channel.send_frame(data)
        except HungUp:
            leave(0)

    def end(reason: str) -> None:
        log.error("this worker ends: %s", reason)
        leave(1)

    return Conversations(
        stream_fn,
        computation.context,
        model=computation.steps.model,
        gpu_id=spec.gpu_ids[0] if spec.gpu_ids else None,
        limit=spec.max_streams,
        timeout_s=spec.timeout_s,
        max_frame_bytes=spec.max_frame_bytes,
        send=send,
        leave=end,
        freed=freed,
        around=computation.around_conversation,
    )


def _answer(channel: Channel, computation: Computation, batch: Batch) -> None:
    # What was sent last is not kept until there is another batch.
    for events in computation.events(batch):
        channel.send(*events)


def work(
    channel: Channel,
    intake: Intake,
    computation: Computation,
    freed: FreedMemory,
    *,
    models: HeldModels | None = None,
    conversations: Sized = (),
) -> None:
    """Compute batches, and after each of them ask one stream for its next item, until the frontend hangs up.

    `models` are those that the script gets by `context.get_model`, where there is a repository; `conversations` those
    that are open, in threads of their own.
    """
    streams = computation.streams
    while intake.batches or not intake.hung_up:
        if models is not None:
            models.going.have_break(quiet=not streams)
        quiet = not (streams.running or streams.awaiting)
        intake.look(wait=quiet)
        if quiet and not (intake.batches or intake.controls or conversations):
            freed.give_back()  # nothing has come for a while
            computation.context.turn_to()
        if models is not None:
            models.going.at_work = True
        while intake.controls:
            computation.context.turn_to()  # what is logged now is about none of them
            kind, payload = intake.controls.popleft()
            if kind is Kind.ADAPTER:
                steps = computation.steps
                steps.adapters.obey(
                    payload,
                    model=steps.model,
                    functions=steps.functions,
                    awaiting=streams.awaiting,
                    send=channel.send_frame,
                )
            else:
                streams.control(kind, protocol.parse_id(payload))
        if intake.batches:
            freed.used = True
            _answer(channel, computation, intake.batches.popleft())
        elif streams.awaiting and not streams.running:
            channel.send(*streams.wait(intake))
            continue
        if streams:
            channel.send(*streams.step())
