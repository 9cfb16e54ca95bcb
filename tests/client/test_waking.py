"""Which refusals pass by themselves: those that no handler has seen."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from tidegate.client.waking import Reason, pauses_s, reason_to_wait


def response(code: str, message: str = "", **further: Any) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": message}, **further}


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (
            response("ValidationError", "Inference Component has no capacity to process this request."),
            Reason.ASLEEP,
        ),
        (response("ModelNotReadyException", "still loading"), Reason.LOADING),
        (response("ThrottlingException", "Rate exceeded"), Reason.BUSY),
        (response("ModelError", OriginalStatusCode=503), Reason.BUSY),
        (
            response("ModelError", OriginalStatusCode=503, OriginalMessage='{"error": {"code": "model_loading"}}'),
            Reason.LOADING,
        ),
        (response("ModelError", OriginalStatusCode=500), None),
        (response("ModelError", OriginalStatusCode=400), None),
        (response("ValidationError", "Endpoint gone of account 123456789012 not found."), None),
        (response("AccessDeniedException", "no"), None),
        ({}, None),
    ],
)
def test_only_what_passes_by_itself_is_waited_for(refused: dict[str, Any], reason: Reason | None) -> None:
    assert reason_to_wait(refused) is reason


@pytest.mark.parametrize("reason", list(Reason))
def test_the_pauses_grow_to_a_steady_one(reason: Reason) -> None:
    found = list(islice(pauses_s(reason), 20))
    assert found == sorted(found)
    assert found[0] == 0.25
    assert found[-1] == found[-2]
