"""Which refusals pass by themselves, and how long to wait before the next try: rules on plain data.

An endpoint that scaled to zero refuses for minutes, a model that is being loaded for seconds, an overloaded one for
moments. In all of these cases no handler has seen the request, so that asking again is safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from itertools import chain, repeat
from typing import Any


class Reason(Enum):
    """Why a request was not answered yet; the value finishes the sentence 'the endpoint …'."""

    ASLEEP = "has no instance: it scales from zero"
    LOADING = "is loading the model"
    BUSY = "is overloaded"


def reason_to_wait(response: dict[str, Any]) -> Reason | None:
    """Why `response` (of a botocore `ClientError`) may be another one later; None where it will stay.

    Sources: API reference, InvokeEndpoint (ModelNotReadyException 429: the platform still loads the model, or
    provisions a serverless one; ThrottlingException; ServiceUnavailable); developer guide, "Scale an endpoint to zero
    instances": an inference component without a copy is a ValidationError that says "no capacity". A container that
    sheds load or is not ready says 503, which arrives as a ModelError.
    """
    code = response.get("Error", {}).get("Code", "")
    message = response.get("Error", {}).get("Message", "")
    if code in ("ValidationError", "ValidationException") and "no capacity" in message:
        return Reason.ASLEEP
    if code == "ModelNotReadyException":
        return Reason.LOADING
    if code in ("ThrottlingException", "ServiceUnavailable", "ServiceUnavailableException"):
        return Reason.BUSY
    if code == "ModelError" and response.get("OriginalStatusCode") == 503:
        # Ours says so while it fetches or loads a model of its repository.
        return Reason.LOADING if '"model_loading"' in response.get("OriginalMessage", "") else Reason.BUSY
    return None


def pauses_s(reason: Reason) -> Iterator[float]:
    """The pauses between tries, in seconds: short at first, then steady. Instances take minutes, queues moments."""
    steady_s = {Reason.ASLEEP: 15.0, Reason.LOADING: 5.0, Reason.BUSY: 2.0}[reason]
    growing = (0.25 * 2**step for step in range(10))
    return chain((pause_s for pause_s in growing if pause_s < steady_s), repeat(steady_s))
