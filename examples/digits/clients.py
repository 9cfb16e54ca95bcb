"""What a user of the deployed model writes: single requests with plain boto3, which knows nothing of Tidegate or the
local cloud, and the batch with `client`, which does what every caller of a transform job writes again."""

import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from PIL import Image

from tidegate.client import BatchFailed, BatchJob

POLL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The endpoint's answer to one digit, and how long it took."""

    prediction: dict[str, Any]
    latency_s: float


def upload(archive: Path, *, bucket: str, key: str) -> str:
    """Put the archive into S3 and return its address."""
    boto3.client("s3").upload_file(str(archive), bucket, key)
    return f"s3://{bucket}/{key}"


def ask(endpoint: str, images: Sequence[np.ndarray], on_answer: Callable[[], object]) -> list[Answered]:
    """Send each digit in a request of its own: every third as an npy array, the others as PNG pictures."""
    runtime = boto3.client("sagemaker-runtime")
    answers = []
    for index, image in enumerate(images):
        body, content_type = (as_npy(image), "application/x-npy") if index % 3 == 2 else (as_png(image), "image/png")
        began = time.perf_counter()
        response = runtime.invoke_endpoint(
            EndpointName=endpoint, Body=body, ContentType=content_type, Accept="application/json"
        )
        answer = json.loads(response["Body"].read())
        answers.append(Answered(prediction=answer["predictions"][0], latency_s=time.perf_counter() - began))
        on_answer()
    return answers


def transform(
    model: str, images: Sequence[np.ndarray], *, bucket: str, objects: int, on_poll: Callable[[str], object]
) -> list[dict[str, Any]]:
    """Run a batch transform job over the digits, as JSON Lines in several objects; return one prediction per digit.

    Raises `BatchFailed` where the job does not complete, or answers other than line by line.
    """
    s3 = boto3.client("s3")
    name = f"digits-{time.time_ns() // 1_000_000}"
    keys = [f"part-{number}.jsonl" for number in range(objects)]
    parts = np.array_split(np.arange(len(images)), objects)
    for key, rows in zip(keys, parts, strict=True):
        lines = [json.dumps({"image": images[row].astype(int).tolist()}) for row in rows]
        s3.put_object(Bucket=bucket, Key=f"batch/input/{name}/{key}", Body=("\n".join(lines) + "\n").encode())
    job = BatchJob.submit(
        name=name,
        model=model,
        input_location=f"s3://{bucket}/batch/input/{name}/",
        output_location=f"s3://{bucket}/batch/output/{name}/",
        content_type="application/jsonlines",
        max_payload_mib=1,
        max_concurrent=2,
    )
    job.wait(poll_s=POLL_S, on_poll=lambda _: on_poll(name))
    predictions = []
    with tempfile.TemporaryDirectory() as directory:
        job.fetch(Path(directory))
        for key, rows in zip(keys, parts, strict=True):
            lines = Path(directory, f"{key}.out").read_text().splitlines()
            if len(lines) != len(rows):
                raise BatchFailed(f"{key}.out has {len(lines)} lines for {len(rows)} digits")
            predictions += [json.loads(line) for line in lines]
    return predictions


def empty(bucket: str) -> None:
    """Delete every version of every object: CloudFormation does not delete a bucket that holds any."""
    s3 = boto3.client("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if versions:
            objects = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in versions]
            s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


def as_npy(image: np.ndarray) -> bytes:
    """Return one digit as an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()


def as_png(image: np.ndarray) -> bytes:
    """Return one digit as a picture of 64 x 64 grey pixels."""
    grey = np.round(image * 255 / 16).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()
