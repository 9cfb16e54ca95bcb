"""Which refusals pass by themselves: those that no handler has seen."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from tidegate.client.__main__ import main
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


@pytest.mark.parametrize(
    "words",
    [
        ["invoke", "digits", "x.csv", "--wake-timeout=-1"],
        ["invoke", "digits", "x.csv", "--wake-timeout=nan"],
        ["async", "digits", "x.csv", "--upload", "s3://b/x", "--timeout=0"],
        ["batch", "wait", "job", "--timeout=1e400"],
        ["batch", "wait", "job", "--poll=0"],
    ],
)
def test_a_time_that_cannot_be_waited_is_no_argument(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)

    option, _, value = words[-1].partition("=")
    assert ended.value.code == 2
    assert f"argument {option}: '{value}' is not a number of seconds above 0" in capsys.readouterr().err
