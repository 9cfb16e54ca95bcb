"""Asynchronous invocations with large bodies: to the container and back, and never in memory as a whole.

`LARGE_BODY_MIB=1024 python -m pytest -s tests/local_cloud/test_large_bodies.py` does it with AWS's largest.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, await_true
from tidegate.local_cloud import LocalCloud

pytestmark = pytest.mark.timeout(1200)

MIB = 1024 * 1024
SIZE_MIB = int(os.environ.get("LARGE_BODY_MIB", "160"))
ALLOWED_MIB = 64
ECHO = (sys.executable, str(Path(__file__).parent / "echo_container.py"))
BUCKET = "large"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    directory = tmp_path_factory.mktemp("large") / "state"
    limits = {"async_body_bytes": max(SIZE_MIB, 512) * MIB}
    with LocalCloud(directory, container_command=ECHO, limits=limits) as cloud:
        sagemaker, s3 = cloud.client("sagemaker"), cloud.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "echo"})
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failed"}
        sagemaker.create_endpoint_config(
            EndpointConfigName="c", ProductionVariants=[variant], AsyncInferenceConfig={"OutputConfig": output}
        )
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        await_true(
            lambda: sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService", "it is in service"
        )
        yield cloud
        for client in (sagemaker, s3):
            client.close()


@pytest.fixture
def s3(cloud: LocalCloud) -> Iterator[Any]:
    client = cloud.client("s3")
    yield client
    client.close()


def supervisor(cloud: LocalCloud) -> Path:
    record = cloud.record()
    assert record is not None
    return Path(f"/proc/{record.process_id}")


def memory_mib(process: Path, what: str) -> float:
    """`VmRSS`, or `VmHWM`: the highest that it was since it was reset."""
    (line,) = (line for line in (process / "status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def written(path: Path, size_bytes: int, first: bytes = b"") -> str:
    """A file that nothing can compress or share; its digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        left = size_bytes
        while left:
            block = (first + os.urandom(MIB))[: min(MIB, left)]
            first = b""
            digest.update(block)
            left -= file.write(block)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ask(cloud: LocalCloud, key: str) -> dict[str, Any]:
    runtime = cloud.client("sagemaker-runtime")
    answer: dict[str, Any] = runtime.invoke_endpoint_async(EndpointName="e", InputLocation=f"s3://{BUCKET}/{key}")
    runtime.close()
    return answer


def key_of(location: str) -> str:
    return location.removeprefix(f"s3://{BUCKET}/")


def is_there(s3: Any, key: str) -> bool:
    try:
        s3.head_object(Bucket=BUCKET, Key=key)
    except ClientError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_body_goes_there_and_back_in_little_memory(cloud: LocalCloud, s3: Any, tmp_path: Path) -> None:
    digest = written(tmp_path / "in", SIZE_MIB * MIB)
    process = supervisor(cloud)
    s3.put_object(Bucket=BUCKET, Key="small", Body=b"small")
    small = key_of(ask(cloud, "small")["OutputLocation"])
    await_true(lambda: is_there(s3, small), "what a first request imports is imported")
    before_mib = memory_mib(process, "VmRSS")
    (process / "clear_refs").write_text("5")  # the highest so far is forgotten
    s3.upload_file(str(tmp_path / "in"), BUCKET, "in", ExtraArgs={"ContentType": "application/x-npy"})
    uploaded_mib = memory_mib(process, "VmHWM")
    (process / "clear_refs").write_text("5")
    key = key_of(ask(cloud, "in")["OutputLocation"])
    await_true(lambda: is_there(s3, key), "the answer comes", timeout_s=300)
    answered_mib = memory_mib(process, "VmHWM")
    (process / "clear_refs").write_text("5")
    s3.download_file(BUCKET, key, str(tmp_path / "out"))
    fetched_mib = memory_mib(process, "VmHWM")
    assert digest_of(tmp_path / "out") == digest
    assert s3.head_object(Bucket=BUCKET, Key=key)["ContentType"] == "application/x-npy"
    beyond = {"answer": answered_mib, "upload": uploaded_mib, "download": fetched_mib}
    beyond = {what: round(highest_mib - before_mib) for what, highest_mib in beyond.items()}
    sys.stdout.write(f"\n{SIZE_MIB} MiB there and back: MiB of memory beyond {before_mib:.0f}: {beyond}\n")
    assert beyond["answer"] <= ALLOWED_MIB
    assert beyond["upload"] <= 3 * ALLOWED_MIB, "boto3 sends ten parts at a time"
    assert beyond["download"] <= 3 * ALLOWED_MIB


def test_an_answer_that_breaks_off_is_a_failure_and_leaves_no_object(
    cloud: LocalCloud, s3: Any, tmp_path: Path
) -> None:
    written(tmp_path / "in", 40 * MIB, first=b"break")
    s3.upload_file(str(tmp_path / "in"), BUCKET, "broken")
    answer = ask(cloud, "broken")
    await_true(lambda: is_there(s3, key_of(answer["FailureLocation"])), "the failure comes")
    failure = s3.get_object(Bucket=BUCKET, Key=key_of(answer["FailureLocation"]))["Body"].read()
    assert b"the container gave no answer: the answer broke off" in failure
    assert not is_there(s3, key_of(answer["OutputLocation"]))
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_a_body_that_the_container_refuses_unread_is_a_failure_with_its_sentence(
    cloud: LocalCloud, s3: Any, tmp_path: Path
) -> None:
    written(tmp_path / "in", 40 * MIB, first=b"refuse")
    s3.upload_file(str(tmp_path / "in"), BUCKET, "refused")
    answer = ask(cloud, "refused")
    await_true(lambda: is_there(s3, key_of(answer["FailureLocation"])), "the failure comes")
    failure = s3.get_object(Bucket=BUCKET, Key=key_of(answer["FailureLocation"]))["Body"].read()
    assert failure == b'ClientError: Received client error (413) from primary with message "too much"'


def test_an_object_is_read_in_ranges_overwritten_and_copied_as_its_bytes_are(s3: Any) -> None:
    content = os.urandom(6 * MIB)
    s3.put_object(Bucket=BUCKET, Key="ranged", Body=content)
    for wanted, expected in {
        "bytes=0-0": content[:1],
        "bytes=5000000-5999999": content[5_000_000:6_000_000],
        "bytes=-7": content[-7:],
        "bytes=6291450-": content[6_291_450:],
    }.items():
        found = s3.get_object(Bucket=BUCKET, Key="ranged", Range=wanted)
        assert found["Body"].read() == expected
        assert found["ContentLength"] == len(expected)
    reading = s3.get_object(Bucket=BUCKET, Key="ranged")["Body"]
    assert reading.read(10) == content[:10]
    s3.copy_object(Bucket=BUCKET, Key="copied", CopySource=f"{BUCKET}/ranged")
    s3.put_object(Bucket=BUCKET, Key="ranged", Body=b"other")
    assert reading.read() == content[10:], "what is being read stays as it was"
    assert s3.get_object(Bucket=BUCKET, Key="copied")["Body"].read() == content
    assert s3.get_object(Bucket=BUCKET, Key="ranged")["Body"].read() == b"other"


def test_an_upload_in_parts_is_refused_as_before(s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
    where = {"Bucket": BUCKET, "Key": "parts", "UploadId": upload}
    tags = [s3.upload_part(**where, PartNumber=number, Body=b"x" * MIB)["ETag"] for number in (1, 2)]
    parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, start=1)]
    with pytest.raises(ClientError, match="EntityTooSmall"):
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    with pytest.raises(ClientError, match="InvalidPart"):
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [{"PartNumber": 3, "ETag": tags[0]}]})
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts[1:]})
    assert s3.get_object(Bucket=BUCKET, Key="parts")["Body"].read() == b"x" * MIB
