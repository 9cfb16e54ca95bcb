"""Ask a computation as the frontend does, from within the worker: for the self-check, and for the proof before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tidegate.inference import protocol
from tidegate.inference.protocol import Answer, Done, End, Error, Event, Part, Start
from tidegate.inference.worker.computation import Batch, Computation


def ask(computation: Computation, requests: Sequence[protocol.Request]) -> tuple[list[Answer | Error], Done]:
    """Have `requests` answered as one batch; returns the outcomes in the order of the requests.

    A stream is read to its end, and is an answer whose body is all of it.
    """
    return answer(computation, computation.begin(requests))


def answer(computation: Computation, batch: Batch) -> tuple[list[Answer | Error], Done]:
    """Have the requests of `batch` answered; see `ask`. What became of each on its way is in the batch."""
    outcomes: dict[int, Answer | Error] = {}
    streams: dict[int, tuple[Start, bytearray]] = {}
    account = Done(0.0, 0.0, 0.0)
    for event in _events(computation, replace(batch, looked_at=True)):
        match event:
            case Answer() | Error():
                outcomes[event.id] = event
            case Start():
                streams[event.id] = event, bytearray()
            case Part():
                streams[event.id][1].extend(event.data)
            case End():
                start, body = streams[event.id]
                outcomes[event.id] = Answer(start.id, start.status, start.content_type, start.headers, bytes(body))
            case Done():
                account = event
    return [outcomes[request.received.id] for request in batch.requests], account


def _events(computation: Computation, batch: Batch) -> Iterator[Event]:
    for events in computation.events(batch):
        yield from events
    streams = computation.streams
    while streams:
        yield from streams.wait() if streams.awaiting and not streams.running else streams.step()
