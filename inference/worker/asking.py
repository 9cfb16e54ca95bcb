"""Ask a computation as the frontend does, from within the worker: for the self-check, and for the proof before it."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.inference import protocol
from tidegate.inference.protocol import Answer, Done, Error
from tidegate.inference.worker.computation import Computation


def ask(computation: Computation, requests: Sequence[protocol.Request]) -> tuple[list[Answer | Error], Done]:
    """Have `requests` answered as one batch; returns the outcomes in the order of the requests."""
    outcomes: dict[int, Answer | Error] = {}
    account = Done(0.0, 0.0, 0.0)
    for events in computation.events(computation.begin(requests)):
        for event in events:
            if isinstance(event, Answer | Error):
                outcomes[event.id] = event
            elif isinstance(event, Done):
                account = event
    return [outcomes[request.id] for request in requests], account
