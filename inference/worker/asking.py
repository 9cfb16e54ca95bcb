"""Ask a computation as the frontend does, from within the worker: for the self-check, and for the proof before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tidegate.inference import protocol
from tidegate.inference.protocol import Answer, Done, End, Error, Event, Part, Start
from tidegate.inference.worker.computation import Computation


def ask(computation: Computation, requests: Sequence[protocol.Request]) -> tuple[list[Answer | Error], Done]:
    """Have `requests` answered as one batch; returns the outcomes in the order of the requests.

    A stream is read to its end, and is an answer whose body is all of it.
    """
    outcomes: dict[int, Answer | Error] = {}
    streams: dict[int, tuple[Start, bytearray]] = {}
    account = Done(0.0, 0.0, 0.0)
    for event in _events(computation, requests):
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
    return [outcomes[request.id] for request in requests], account


def _events(computation: Computation, requests: Sequence[protocol.Request]) -> Iterator[Event]:
    for events in computation.events(computation.begin(requests)):
        yield from events
    streams = computation.streams
    while streams:
        yield from streams.wait() if streams.awaiting and not streams.running else streams.step()
