"""A batch that was answered one by one, computed once more as one batch, to see whether the answers are the same.

Everything is done again from the bodies: a script may keep something in a global between input_fn and output_fn, or
change its input in place. The clients have their answers already, so whatever happens here is nobody's mistake.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

from tidegate.inference.protocol import Answer, Request
from tidegate.inference.worker import collate
from tidegate.inference.worker.comparing import Evidence, Likeness, Tolerance, evidence, likeness
from tidegate.inference.worker.job import Job


class Unlike(Exception):
    """The batch is not what its requests are one by one; the text says where."""


class Road(Protocol):
    """What leads a request to its answer. Each step raises what user code raises."""

    def job(self, item: Request) -> Job: ...
    def decode(self, job: Job) -> None: ...
    def predict_together(self, jobs: Sequence[Job]) -> None: ...
    def encode(self, job: Job) -> None: ...


def compare(road: Road, signature: Hashable, jobs: Sequence[Job], tolerance: Tolerance) -> Iterator[Evidence | None]:
    """Compute `jobs` as one batch and hold it against the answers that they have.

    Yields None after each step, and at the end what it says that they are equal. Raises `Unlike`, or what user code
    raises.
    """
    again = []
    for job in jobs:
        twin = road.job(job.item)
        road.decode(twin)
        if collate.signature(twin.data) != signature:
            raise Unlike("input_fn makes something else of the same body at the second time")
        twin.records = job.records
        again.append(twin)
        yield None
    road.predict_together(again)
    yield None
    for job, twin in zip(jobs, again, strict=True):
        if likeness(job.kept, twin.prediction, tolerance) is Likeness.DIFFERENT:
            raise Unlike("the predictions differ")
    found = evidence([job.kept for job in jobs], [job.records for job in jobs], tolerance)
    for job, twin in zip(jobs, again, strict=True):
        road.encode(twin)
        if not _same_answer(job, twin):
            # A small difference may have changed a digit that output_fn rounds: is it the same for the same numbers?
            twin.prediction = job.kept
            road.encode(twin)
            if not _same_answer(job, twin):
                raise Unlike("output_fn makes another answer of the same prediction")
        yield None
    yield found


def _same_answer(job: Job, twin: Job) -> bool:
    one, other = job.outcome, twin.outcome
    if not isinstance(one, Answer) or not isinstance(other, Answer):
        return False
    if one[1:-1] != other[1:-1]:
        raise Unlike("the answer has another status, content type or headers")
    return one.body == other.body
