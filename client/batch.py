"""Transform jobs: submit, wait, fetch. Up to three steps of one program, or of three."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import boto3

from client.addresses import split_s3
from client.content_types import is_in_lines
from client.errors import BatchFailed, GaveUpWaiting

POLL_S = 5.0
_RUNNING = ("InProgress", "Stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is: answers appear object by object."""

    status: str
    objects_done: int
    objects_total: int
    waited_s: float


class BatchJob:
    """One transform job, by its name."""

    def __init__(self, name: str, *, session: boto3.Session | None = None) -> None:
        self.name = name
        session = session or boto3.Session()
        self._sagemaker = session.client("sagemaker")
        self._s3 = session.client("s3")

    @classmethod
    def submit(
        cls,
        *,
        model: str,
        input_location: str,
        output_location: str,
        content_type: str,
        accept: str | None = None,
        instance_type: str = "ml.m5.large",
        instance_count: int = 1,
        name: str | None = None,
        max_payload_mib: int = 6,
        max_concurrent: int | None = None,
        tags: Mapping[str, str] | None = None,
        session: boto3.Session | None = None,
    ) -> BatchJob:
        """Start a job over every object whose name begins with `input_location` (`s3://bucket/key or prefix`).

        Content in lines (CSV, JSON Lines) is cut into requests of many lines and put together again line by line, so
        that an output has a line for each line of its input; of anything else an object is one request.
        `max_payload_mib` bounds a request; `max_concurrent` None leaves the number to the container.
        `tags` are what budgets and bills know the job by; they need the right to `sagemaker:AddTags`.
        Raises `ValueError` for an address that is none, and botocore's `ClientError` for what AWS refuses.
        """
        for address in (input_location, output_location):
            split_s3(address)
        in_lines = is_in_lines(content_type)
        job = cls(name or _name(model), session=session)
        output: dict[str, Any] = {"S3OutputPath": output_location, "Accept": accept or content_type}
        job._sagemaker.create_transform_job(
            TransformJobName=job.name,
            ModelName=model,
            **({"BatchStrategy": "MultiRecord"} if in_lines else {}),
            MaxPayloadInMB=max_payload_mib,
            **({"MaxConcurrentTransforms": max_concurrent} if max_concurrent is not None else {}),
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": input_location}},
                "ContentType": content_type,
                "SplitType": "Line" if in_lines else "None",
            },
            TransformOutput=output | ({"AssembleWith": "Line"} if in_lines else {}),
            TransformResources={"InstanceType": instance_type, "InstanceCount": instance_count},
            **({"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]} if tags else {}),
        )
        return job

    def wait(
        self,
        *,
        timeout_s: float = 24 * 3600.0,
        on_poll: Callable[[Progress], object] | None = None,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Return when the job is completed. Raises `BatchFailed` with SageMaker's reason, and `GaveUpWaiting`."""
        began_s = clock()
        wanted: set[str] | None = None
        while True:
            job = self._describe()
            status = str(job["TransformJobStatus"])
            waited_s = clock() - began_s
            if on_poll is not None:
                wanted = self._wanted(job) if wanted is None else wanted
                done = sum(1 for _ in self._outputs(job, wanted))
                on_poll(Progress(status=status, objects_done=done, objects_total=len(wanted), waited_s=waited_s))
            if status == "Completed":
                return
            if status not in _RUNNING:
                reason = job.get("FailureReason", "no reason is given")
                raise BatchFailed(f"transform job {self.name} is {status}: {reason}")
            if waited_s >= timeout_s:
                raise GaveUpWaiting(f"transform job {self.name} was still {status} after {waited_s:.0f} s")
            sleep(min(poll_s, timeout_s - waited_s))

    def fetch(self, directory: Path, *, on_file: Callable[[Path], object] | None = None) -> list[Path]:
        """Download what the job has written, as it lies in S3, below `directory`; return the files.

        A file appears under its name only when it is whole.
        """
        job = self._describe()
        bucket, root = _output_folder(job)
        files = []
        for key in self._outputs(job, self._wanted(job)):
            # S3 allows any key; one with `..` must not leave the directory.
            parts = [part for part in PurePosixPath(key.removeprefix(root)).parts if part not in ("..", "/")]
            target = directory.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.part")
            self._s3.download_file(bucket, key, str(partial))
            partial.replace(target)
            files.append(target)
            if on_file is not None:
                on_file(target)
        return files

    def stop(self) -> None:
        """Have the job stopped; what it has written stays."""
        self._sagemaker.stop_transform_job(TransformJobName=self.name)

    def _describe(self) -> dict[str, Any]:
        job: dict[str, Any] = self._sagemaker.describe_transform_job(TransformJobName=self.name)
        return job

    def _wanted(self, job: dict[str, Any]) -> set[str]:
        """The names, below the output path, of what the job writes: others may write there too."""
        bucket, prefix = split_s3(job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"])
        folder = prefix[: prefix.rfind("/") + 1]
        return {f"{key.removeprefix(folder)}.out" for key in self._keys(bucket, prefix) if not key.endswith("/")}

    def _outputs(self, job: dict[str, Any], wanted: set[str]) -> Iterator[str]:
        bucket, root = _output_folder(job)
        for key in self._keys(bucket, root):
            if key.removeprefix(root) in wanted:
                yield key

    def _keys(self, bucket: str, prefix: str) -> Iterator[str]:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"]


def _output_folder(job: dict[str, Any]) -> tuple[str, str]:
    bucket, root = split_s3(job["TransformOutput"]["S3OutputPath"])
    return bucket, f"{root.rstrip('/')}/" if root else ""


def _name(model: str) -> str:
    """A name of at most 63 characters that no other job has. Source: API reference, CreateTransformJob."""
    unique = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return f"{model[: 62 - len(unique)].rstrip('-')}-{unique}"
