"""A batch that was answered one by one, computed once more as one batch: are the answers the same?

Everything is done again from the bodies: a script may keep something in a global between input_fn and output_fn, or
change its input in place. The clients have their answers already, so what fails here fails no request.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from tidegate.inference.protocol import Answer
from tidegate.inference.worker import collate
from tidegate.inference.worker.comparing import Evidence, Likeness, evidence, likeness
from tidegate.inference.worker.joined_calls import JoinedCalls
from tidegate.inference.worker.request import Request


class Unlike(Exception):
    """The batch is not what its requests are one by one; the text says where."""


def compare(calls: JoinedCalls, signature: Hashable, requests: Sequence[Request]) -> Iterator[Evidence | None]:
    """Compute `requests` as one batch and compare that with the answers that they have.

    Yields None after each step, and at the end what it says that they are equal. Raises `Unlike`, or what user code
    raises.
    """
    steps, tolerance = calls.steps, calls.tolerance
    again = []
    for request in requests:
        twin = steps.receive(request.received)
        steps.decode(twin)
        if collate.signature(twin.data) != signature:
            raise Unlike("input_fn makes something else of the same body at the second time")
        twin.records = request.records
        again.append(twin)
        yield None
    calls.predict_together(again)
    yield None
    for request, twin in zip(requests, again, strict=True):
        if likeness(request.kept, twin.prediction, tolerance) is Likeness.DIFFERENT:
            raise Unlike("the predictions differ")
    found = evidence([request.kept for request in requests], [request.records for request in requests], tolerance)
    for request, twin in zip(requests, again, strict=True):
        steps.encode(twin)
        if not _same_answer(request, twin):
            # A small difference may have changed a digit that output_fn rounds: is it the same for the same numbers?
            twin.prediction = request.kept
            steps.encode(twin)
            if not _same_answer(request, twin):
                raise Unlike("output_fn makes another answer of the same prediction")
        yield None
    yield found


def _same_answer(request: Request, twin: Request) -> bool:
    one, other = request.outcome, twin.outcome
    if not isinstance(one, Answer) or not isinstance(other, Answer):
        return False
    if one[1:-1] != other[1:-1]:
        raise Unlike("the answer has another status, content type or headers")
    return one.body == other.body
