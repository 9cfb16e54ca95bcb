"""Proving that requests may be joined: which batches are tried, with how many requests, and what comes of it.

Everything here happens when the clients have their answers. `joining` has the rule, `trial` the comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

from tidegate.inference.protocol import Progress
from tidegate.inference.worker import collate, members, trial
from tidegate.inference.worker.comparing import Evidence, Tolerance
from tidegate.inference.worker.device_errors import empty_cache, give_up_if_device_is_lost, is_out_of_memory
from tidegate.inference.worker.job import Job
from tidegate.inference.worker.joining import Decision, Finding, Signatures
from tidegate.inference.worker.tally import Tally
from tidegate.inference.worker.user_code import one_line

log = logging.getLogger("tidegate.worker")

_WAY_OUT = (
    "define collate_fn and split_fn in the script, or say by save_model(batching=True) that joining is right, "
    "or by save_model(batching=False) that it is not"
)


class Road(trial.Road, Protocol):
    """A computation with what it knows about joining."""

    signatures: Signatures
    tally: Tally
    timeout_s: float

    @property
    def tolerance(self) -> Tolerance: ...


def prove(road: Road, key: Hashable, jobs: Sequence[Job]) -> Iterator[Progress]:
    """See whether `jobs`, which are answered, would have got the same answers as one batch; says that it goes on."""
    signatures = road.signatures
    if len(jobs) < 2:
        return
    if signatures.decide(key) is not Decision.PROVE:
        signatures.passed(key)
        return
    if any(job.asked_context for job in jobs):
        refuse(road, key, "predict_fn asks the context about its request")
        return
    tried = affordable(jobs, road.timeout_s / 2)
    if len(tried) < len(jobs):
        signatures.limit(key, max(1, len(tried)))
    contents = [hash((job.item.content_type, bytes(job.item.body))) for job in tried]
    if not signatures.promising(contents):
        signatures.unpromising(key)
        return
    yield Progress(proving=True)
    steps = trial.compare(road, key, tried, road.tolerance)
    while (found := _next_step(steps)) is None:
        if road.tally.slow():
            yield Progress(proving=True)
    if isinstance(found, str):
        refuse(road, key, found)
    elif signatures.agreed(key, contents, found, members.varied([job.members for job in tried])) is Finding.PROVED:
        road.tally.proved += 1


def refuse(road: Road, key: Hashable, reason: str) -> None:
    """Requests of this signature are not joined any more; the log says so once for the model."""
    road.tally.refused += 1
    log.log(
        logging.WARNING if road.signatures.refuse(key) else logging.DEBUG,
        "requests are not joined into one call from now on, because joined they are not answered as alone: %s; %s",
        reason,
        _WAY_OUT,
        extra={"signature": str(key)[:300]},
    )


def affordable(jobs: Sequence[Job], limit_s: float) -> list[Job]:
    """As many of `jobs` as one call may be expected to predict within `limit_s`, going by how long each took alone."""
    chosen, total_s = [], 0.0
    for job in jobs:
        total_s += job.predict_s
        if total_s > limit_s:
            break
        chosen.append(job)
    return chosen


def _next_step(steps: Iterator[Evidence | None]) -> Evidence | str | None:
    """The next step of a comparison: None where there are more, else what it says, or why it says no."""
    try:
        return next(steps)
    except (trial.Unlike, collate.NotSplittable) as error:
        return str(error)
    except BaseException as error:
        give_up_if_device_is_lost(error)
        if not is_out_of_memory(error):
            return f"{type(error).__name__}: {one_line(error)}"
    empty_cache()
    return Evidence.NONE
