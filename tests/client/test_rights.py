"""The policy that docs/client.md shows allows a caller whatever there is to call."""

from __future__ import annotations

import json
import re
from pathlib import Path

import botocore.session

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
NOT_IN_BOTOCORE = {"InvokeEndpointWithBidirectionalStream"}
"""HTTP/2 only: it has a service of its own."""


def test_the_documented_policy_names_every_call_there_is() -> None:
    """A call that AWS adds to the runtime is missed here first."""
    page = PAGE.read_text(encoding="utf-8").partition("\n## Rights\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    calls, bearer_token = json.loads(block)["Statement"]
    known = botocore.session.get_session().get_service_model("sagemaker-runtime").operation_names
    assert sorted(calls["Action"]) == sorted(f"sagemaker:{name}" for name in {*known, *NOT_IN_BOTOCORE})
    assert bearer_token["Action"] == "sagemaker:CallWithBearerToken"
