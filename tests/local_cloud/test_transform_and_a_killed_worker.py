"""A transform job over many lines by the real server, one of whose workers is killed in the midst of it."""

from __future__ import annotations

import os
import signal
import zlib
from pathlib import Path

import pytest

from tests.local_cloud import test_transform_jobs as transform
from tests.local_cloud.conftest import BUCKET, Account, await_true, model_archive
from tidegate.local_cloud import LocalCloud

pytestmark = pytest.mark.timeout(1200)  # each wait has its own limit

OBJECTS, LINES = 50, 400
"""Objects, and lines of each: 20,000 in all."""
HELD = 25
"""The object at which workers wait until the gate is open."""
HANDLERS = f"""
import os, time, zlib
from pathlib import Path

PLACE = Path(os.environ["PLACE"])

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return (body.decode() if isinstance(body, bytes) else body).splitlines()

def predict_fn(lines, model):
    if lines[0].startswith("{HELD}-"):
        (PLACE / f"worker-{{os.getpid()}}").touch()
        while not (PLACE / "gate").exists():
            time.sleep(0.01)
    return lines

def output_fn(lines, accept):
    return "".join(f"{{line}},{{zlib.crc32(line.encode())}}\\n" for line in lines), "text/csv"
"""


def test_not_a_line_is_wrong_missing_or_doubled_when_a_worker_is_killed_with_some_in_its_hands(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with LocalCloud(tmp_path / "state") as cloud:
        account = Account(cloud)
        given = {
            f"{number:02d}.csv": [f"{number}-{line},{number * line}" for line in range(LINES)]
            for number in range(OBJECTS)
        }
        for name, lines in given.items():
            account.put(f"in/{name}", "".join(f"{line}\n" for line in lines).encode())
        data = account.put("handlers.tar.gz", model_archive({"code/inference.py": HANDLERS}))
        model = account.model(data=data, PLACE=str(place), TIDEGATE_WORKERS="2", TIDEGATE_MAX_BATCH_SIZE="1")
        job = transform.start(
            account,
            model,
            f"s3://{BUCKET}/in/",
            output="out",
            ContentType="text/csv",
            SplitType="Line",
            Accept="text/csv",
            AssembleWith="Line",
            MaxConcurrentTransforms=4,
        )

        def waiting() -> list[int]:
            """The workers that have come to the gate; none of them goes on before it is open."""
            return [int(path.name.partition("-")[2]) for path in place.glob("worker-*")]

        def is_over() -> bool:
            described = account.sagemaker.describe_transform_job(TransformJobName=job)
            return bool(described["TransformJobStatus"] != "InProgress")

        await_true(lambda: bool(waiting()) or is_over(), "a worker has the object in its hands", timeout_s=600)
        assert waiting(), account.sagemaker.describe_transform_job(TransformJobName=job)
        (victim,) = waiting()
        os.kill(victim, signal.SIGKILL)
        await_true(lambda: len(waiting()) == 2 or is_over(), "another worker has it", timeout_s=600)
        (place / "gate").touch()
        ended = transform.ended(account, job)
        assert ended["TransformJobStatus"] == "Completed", ended
        assert account.keys("out/") == [f"out/{name}.out" for name in given]
        for name, lines in given.items():
            answers = account.get(f"out/{name}.out").decode().splitlines()
            assert answers == [f"{line},{zlib.crc32(line.encode())}" for line in lines], name
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()
