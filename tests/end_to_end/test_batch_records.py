"""Transform jobs with the real server and nothing but a model_fn: N records in, N lines out, however they are sent.

The jobs run in a role with the rights that a job takes and no more, and the cloud enforces them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.deploying import role_for
from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true, model_archive
from tidegate.local_cloud import LocalCloud

# Three classes of four features: the sum of the features, and twice and three times as much.
THREE_CLASSES = """
import torch

def model_fn(model_dir):
    net = torch.nn.Linear({features}, 3, bias=False)
    net.weight.data = torch.tensor([[1.0], [2.0], [3.0]]).expand(3, {features}).contiguous()
    return net
"""
MARK = b"\xef\xbb\xbf"
FILES = {
    "plain.csv": b"1,2,3,4\n5,6,7,8\n",
    "one.csv": b"1,2,3,4",
    "blank.csv": b"\n1,2,3,4\n \t\r\n5,6,7,8\r\n\n\n",
    "mark.csv": MARK + b'"1",2,3,4\n5,6,7,8',
    "many.csv": b"1,2,3,4\n" * 11,
}
ANSWERS = {"1,2,3,4": "10.0,20.0,30.0", "5,6,7,8": "26.0,52.0,78.0"}
STRATEGIES = pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with LocalCloud(tmp_path_factory.mktemp("records") / "state", enforce_iam=True) as cloud:
        account, iam = Account(cloud), cloud.client("iam")
        assert role_for(iam, ROLE.rpartition("/")[2], bucket=BUCKET, repository="serve") == ROLE
        yield account
        for client in (iam, account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def transformed(
    account: Account, files: dict[str, bytes], content_type: str, *, features: int = 4, **members: Any
) -> dict[str, list[str]]:
    """The lines of each file's output, by the file's name."""
    archive = model_archive({"code/inference.py": THREE_CLASSES.format(features=features)})
    model = account.model(data=account.put(f"{features}.tar.gz", archive), TIDEGATE_WORKERS="1")
    job = account.name("records")
    for name, content in files.items():
        account.put(f"{job}/in/{name}", content)
    output = {key: members.pop(key) for key in ("AssembleWith",) if key in members}
    account.sagemaker.create_transform_job(
        TransformJobName=job,
        ModelName=model,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{job}/in/"}},
            "ContentType": content_type,
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{job}/out", "Accept": content_type, **output},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **members,
    )
    described: dict[str, Any] = {}

    def ended() -> bool:
        described.update(account.sagemaker.describe_transform_job(TransformJobName=job))
        return bool(described["TransformJobStatus"] != "InProgress")

    await_true(ended, f"{job} ends", timeout_s=400)
    assert described["TransformJobStatus"] == "Completed", described
    return {name: account.get(f"{job}/out/{name}.out").decode().splitlines() for name in files}


def records_of(content: bytes) -> list[str]:
    """The records of a file of this page, as rows without quotes."""
    text = content.removeprefix(MARK).decode().replace('"', "")
    return [line.strip() for line in text.splitlines() if line.strip()]


@STRATEGIES
def test_every_record_of_csv_has_its_line(account: Account, strategy: str) -> None:
    lines = transformed(account, FILES, "text/csv", BatchStrategy=strategy, AssembleWith="Line")
    assert lines == {name: [ANSWERS[row] for row in records_of(content)] for name, content in FILES.items()}


@STRATEGIES
def test_every_record_of_csv_is_joined_with_its_own_answer(account: Account, strategy: str) -> None:
    files = {name: b"\n".join(b"id," + row.encode() for row in records_of(FILES[name])) for name in FILES}
    lines = transformed(
        account,
        files,
        "text/csv",
        BatchStrategy=strategy,
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )
    last = {row: answer.split(",")[-1] for row, answer in ANSWERS.items()}
    assert lines == {name: [f"id,{last[row]}" for row in records_of(content)] for name, content in FILES.items()}


@STRATEGIES
def test_blank_lines_and_the_mark_do_not_come_between_a_record_and_its_answer(account: Account, strategy: str) -> None:
    lines = transformed(account, FILES, "text/csv", BatchStrategy=strategy, DataProcessing={"JoinSource": "Input"})
    assert lines == {name: [f"{row},{ANSWERS[row]}" for row in records_of(content)] for name, content in FILES.items()}


@STRATEGIES
def test_a_model_of_one_feature_gets_rows_of_one(account: Account, strategy: str) -> None:
    files = {"three.csv": b"1\n2\n3\n", "one.csv": b"1", "blank.csv": b"1\n\n2\n\n"}
    lines = transformed(account, files, "text/csv", features=1, BatchStrategy=strategy, AssembleWith="Line")
    assert lines == {
        "three.csv": ["1.0,2.0,3.0", "2.0,4.0,6.0", "3.0,6.0,9.0"],
        "one.csv": ["1.0,2.0,3.0"],
        "blank.csv": ["1.0,2.0,3.0", "2.0,4.0,6.0"],
    }


@STRATEGIES
def test_every_record_of_json_lines_has_its_line(account: Account, strategy: str) -> None:
    files = {"plain.jsonl": b"[1,2,3,4]\n[5,6,7,8]\n", "marked.jsonl": MARK + b"\n[1,2,3,4]\n \n[5,6,7,8]\n\n"}
    lines = transformed(account, files, "application/jsonlines", BatchStrategy=strategy, AssembleWith="Line")
    for found in lines.values():
        assert [json.loads(line) for line in found] == [[10.0, 20.0, 30.0], [26.0, 52.0, 78.0]]
