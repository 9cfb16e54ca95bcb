"""Proving that requests may be joined: which batches are tried, with how many requests, and what comes of it.

Everything here happens when the clients have their answers. `joining` has the rule, `trial` the comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence

from tidegate.inference.body_file import BodyFile
from tidegate.inference.errors import one_line
from tidegate.inference.protocol import Progress
from tidegate.inference.worker import collate, members, trial
from tidegate.inference.worker.comparing import Evidence
from tidegate.inference.worker.device_errors import empty_cache, give_up_if_device_is_lost, is_out_of_memory
from tidegate.inference.worker.joined_calls import JoinedCalls
from tidegate.inference.worker.joining import Decision, Finding
from tidegate.inference.worker.request import Request


def prove(calls: JoinedCalls, key: Hashable, requests: Sequence[Request]) -> Iterator[Progress]:
    """See whether `requests`, which are answered, get the same answers as one batch; says that it goes on."""
    signatures = calls.signatures
    if len(requests) < 2:
        return
    if signatures.decide(key) is not Decision.PROVE:
        signatures.passed(key)
        return
    if any(request.asked_context for request in requests):
        calls.refuse(key, "predict_fn asks the context about its request")
        return
    tried = affordable(requests, calls.timeout_s / 2)
    if len(tried) < len(requests):
        signatures.limit(key, max(1, len(tried)))
    contents = [_content(request) for request in tried]
    if not signatures.promising(contents):
        signatures.unpromising(key)
        return
    yield Progress(proving=True)
    steps = trial.compare(calls, key, tried)
    while (found := _next_step(steps)) is None:
        if calls.steps.tally.slow():
            yield Progress(proving=True)
    if isinstance(found, str):
        calls.refuse(key, found)
    elif (
        signatures.agreed(key, contents, found, members.varied([request.members or {} for request in tried]))
        is Finding.PROVED
    ):
        calls.steps.tally.proved += 1


def affordable(requests: Sequence[Request], limit_s: float) -> list[Request]:
    """As many of `requests` as one call is expected to predict within `limit_s`, by the time that each took."""
    chosen, total_s = [], 0.0
    for request in requests:
        total_s += request.predict_s
        if total_s > limit_s:
            break
        chosen.append(request)
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


def _content(request: Request) -> int:
    """What is equal for two requests that hold the same."""
    body = request.received.body
    # Of a large one the digest: to hold all of it once more could be too much.
    held = hashlib.sha256(body.view()).digest() if isinstance(body, BodyFile) else bytes(body)
    return hash((request.received.content_type, held))
