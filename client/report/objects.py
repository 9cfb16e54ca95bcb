"""The objects that a job reads, and which of their outputs are there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from tidegate.client.addresses import split_s3

MOST_OBJECTS = 100_000
"""Of a job with more objects these are looked at."""
_SLACK = timedelta(seconds=1)  # S3 says times in whole seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class InputObject:
    """An object of the input. `size_bytes` is None where only a list names it."""

    bucket: str
    key: str
    name: str
    size_bytes: int | None

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """What a job reads and has written. `cut` says that there are more than were looked at."""

    inputs: list[InputObject]
    output_bytes: int
    unwritten: list[str]
    cut: bool

    @property
    def written(self) -> int:
        return len(self.inputs) - len(self.unwritten)

    @property
    def input_bytes(self) -> int | None:
        """All of them together; None where the sizes are not known."""
        sizes = [each.size_bytes for each in self.inputs if each.size_bytes is not None]
        return sum(sizes) if len(sizes) == len(self.inputs) else None


def objects_of(s3: Any, job: Mapping[str, Any]) -> Objects:
    """Of what DescribeTransformJob says. Raises what boto3 raises, and `ValueError` for a list that is none."""
    found = list(islice(_inputs(s3, job), MOST_OBJECTS + 1))
    cut = len(found) > MOST_OBJECTS
    inputs = found[:MOST_OBJECTS]
    bucket, root = split_s3(job["TransformOutput"]["S3OutputPath"])
    folder = f"{root.rstrip('/')}/" if root else ""
    wanted = {f"{each.name}.out": each.address for each in inputs}
    output_bytes = 0
    for item in _listed(s3, bucket, folder):
        # What lay there before the job began is of another one.
        if _modified(item) >= job["CreationTime"] - _SLACK and wanted.pop(item["Key"].removeprefix(folder), None):
            output_bytes += item["Size"]
    return Objects(inputs=inputs, output_bytes=output_bytes, unwritten=list(wanted.values()), cut=cut)


def _inputs(s3: Any, job: Mapping[str, Any]) -> Iterator[InputObject]:
    source = job["TransformInput"]["DataSource"]["S3DataSource"]
    bucket, key = split_s3(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        with s3.get_object(Bucket=bucket, Key=key)["Body"] as stream:
            match json.loads(stream.read()):
                case [{"prefix": str(prefix)}, *names] if all(isinstance(name, str) for name in names):
                    bucket, root = split_s3(prefix)
                case _:
                    raise ValueError(f"s3://{bucket}/{key} is not the list of a job's input")
        alone = len(names) == 1  # as the client submits an object
        for name in names:
            size = _size(s3, bucket, f"{root}{name}") if alone else None
            yield InputObject(bucket=bucket, key=f"{root}{name}", name=name, size_bytes=size)
        return
    folder = key[: key.rfind("/") + 1]
    for item in _listed(s3, bucket, key):
        if not item["Key"].endswith("/"):  # the console's folders
            yield InputObject(
                bucket=bucket, key=item["Key"], name=item["Key"].removeprefix(folder), size_bytes=item["Size"]
            )


def _size(s3: Any, bucket: str, key: str) -> int | None:
    return next((item["Size"] for item in _listed(s3, bucket, key) if item["Key"] == key), None)


def _listed(s3: Any, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def _modified(item: Mapping[str, Any]) -> datetime:
    moment: datetime = item["LastModified"]
    return moment
