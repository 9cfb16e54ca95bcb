"""Computations around toy functions, without files, sockets or processes."""

from __future__ import annotations

import json
from typing import Any

from tidegate.inference.batching import Batching
from tidegate.inference.protocol import Answer, Error, Request
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.content import Reading
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.declared.sides import Declared
from tidegate.inference.worker.handler import Functions

JSON = "application/json"


def computation(
    *,
    model: Any = None,
    context: Context | None = None,
    limit: int = 2**20,
    joins: bool | None = None,
    prove: bool = True,
    max_streams: int = 32,
    timeout_s: float = 60.0,
    declared: Declared | None = None,
    **functions: Any,
) -> Computation:
    """A computation with these functions (bound already: none takes the context) and otherwise the server's own.

    `joins` is what the archive declares about sharing a call.
    """
    return Computation(
        model=model,
        functions=Functions(**functions),
        context=context or Context(model_name="model", manifest={}, system_properties={}),
        default_accept=JSON,
        reading=Reading(max_decoded_bytes=limit),
        max_response_bytes=limit,
        declared=declared,
        batching=Batching(joins=joins),
        prove=prove,
        max_streams=max_streams,
        timeout_s=timeout_s,
    )


def request(body: Any, number: int = 1, *, content_type: str = JSON, accept: str = "", headers: bytes = b"") -> Request:
    """A request whose body is `body`, as JSON unless it is bytes already."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(number, content_type, accept, headers, memoryview(data))


def outcomes(toy: Computation, *bodies: Any) -> list[Answer | Error]:
    """What these JSON bodies are answered with, as one batch."""
    found, _ = ask(toy, [request(body, number) for number, body in enumerate(bodies)])
    assert [outcome.id for outcome in found] == list(range(len(bodies)))
    return found


def values(toy: Computation, *bodies: Any) -> list[Any]:
    """The JSON of each answer, or the status of each error."""
    return [json.loads(o.body) if isinstance(o, Answer) else o.status for o in outcomes(toy, *bodies)]


def answered(toy: Computation, item: Request) -> Answer:
    """The answer of one request, which must succeed."""
    (outcome,), _ = ask(toy, [item])
    assert isinstance(outcome, Answer), outcome
    return outcome


def refused(toy: Computation, item: Request) -> Error:
    """The error of one request, which must fail."""
    (outcome,), _ = ask(toy, [item])
    assert isinstance(outcome, Error), outcome
    return outcome
