"""The policy that docs/client.md shows is what writing a table calls, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.client.table.conftest import BUCKET, Account
from tidegate.client import TableFailed

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
# Source: service authorization reference, Amazon S3: these calls need a right of another name.
OTHERWISE = {
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
}


def test_the_documented_policy_names_every_call_and_no_other(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is written whole, one that is given up in the middle, and the list of one object."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Tables\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    granted: set[str] = set()
    for statement in json.loads(block)["Statement"]:
        actions = statement["Action"]
        granted.update([actions] if isinstance(actions, str) else actions)
    account.table({"x": "bigint", "y": "bigint"})
    value = {"database": "results", "table": "predictions", "location": f"s3://{BUCKET}/tables/predictions/"}
    account.session.client("ssm").put_parameter(Name="/tidegate/dev/table", Value=json.dumps(value), Type="String")
    good = [account.job({"a.csv": b"1\n"}, {"a.csv": b"2\n"}, listed=listed) for listed in (False, True)]
    names = [f"{number:02}.csv" for number in range(12)]
    bad = account.job(dict.fromkeys(names, b"1\n"), dict.fromkeys(names, b"2\n") | {names[-1]: b"x\n"})
    called: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        call = f"{model.service_model.service_name}:{model.name}"
        called.add(OTHERWISE.get(call, call))

    account.session.events.register("before-call.*.*", note)
    try:
        for job in good:
            job.table(stage="dev")
        monkeypatch.setattr("tidegate.client.table.upload.PART_BYTES", 1)
        monkeypatch.setattr("tidegate.client.table.job_table._ROW_GROUP_BYTES", 1)
        with pytest.raises(TableFailed):
            bad.table(stage="dev")
    finally:
        account.session.events.unregister("before-call.*.*", note)
    assert called == granted
