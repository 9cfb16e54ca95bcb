"""Which objects a finished job has read and written: decided from plain listings, then listed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.client.addresses import split_s3
from tidegate.client.errors import TableFailed

ENDING = ".out"
# A job is said to have ended once its last object is written: what is left is how far two clocks of AWS may differ.
_SLACK = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an object lies."""

    bucket: str
    key: str

    @property
    def address(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformed:
    """An object of the input, and the one that the job wrote for it."""

    source: Place
    output: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From the moment before which no input was read to the moment after which no output was written."""

    began: datetime
    ended: datetime

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Span:
        """Of what DescribeTransformJob says."""
        began = job.get("TransformStartTime") or job["CreationTime"]
        return cls(began=began, ended=job.get("TransformEndTime") or began)

    def check_source(self, place: Place, modified: datetime) -> None:
        """Raise `TableFailed` for an input that is another one by now."""
        if modified > self.began + timedelta(seconds=1):
            raise TableFailed(
                f"{place.address} was written anew at {modified:%Y-%m-%d %H:%M:%S} UTC, after the job began to read: "
                "its lines need not be those that were answered; run a job over what is there now"
            )

    def check_output(self, place: Place, modified: datetime) -> None:
        """Raise `TableFailed` for an output that another job wrote."""
        if not self.wrote(modified):
            raise TableFailed(
                f"{place.address} is of {modified:%Y-%m-%d %H:%M:%S} UTC, and the job ran from {self.began:%H:%M:%S} "
                f"to {self.ended:%H:%M:%S} UTC of {self.ended:%Y-%m-%d}: another job wrote it; give each job an output "
                "of its own"
            )

    def wrote(self, modified: datetime) -> bool:
        """Whether something that was modified then may be of the job."""
        return self.began - timedelta(seconds=1) <= modified <= self.ended + _SLACK


def check_apart(location: str, job: Mapping[str, Any], objects: Iterable[Transformed]) -> None:
    """Raise `TableFailed` for a table at, above or below what the job reads or writes: each would be read as the other.

    `location`: the table's folder, with its slash. `objects`: what the job has read and written.
    """
    bucket, root = split_s3(location)
    described = job["TransformInput"]["DataSource"]["S3DataSource"]
    prefixes = [("writes", split_s3(job["TransformOutput"]["S3OutputPath"].rstrip("/") + "/"))]
    if described["S3DataType"] != "ManifestFile":
        prefixes.append(("reads", split_s3(described["S3Uri"])))
    for verb, (other, prefix) in prefixes:
        if bucket == other and (root.startswith(prefix) or prefix.startswith(root)):
            raise TableFailed(
                f"{location} overlaps s3://{other}/{prefix}, which the job {verb}; give the table a folder of its own"
            )
    for pair in objects:
        if pair.source.bucket == bucket and pair.source.key.startswith(root):
            raise TableFailed(
                f"{location} holds {pair.source.address}, which the job reads; give the table a folder of its own"
            )


def pairs_of_prefix(
    inputs: Mapping[str, datetime],
    outputs: Mapping[str, datetime],
    *,
    source: tuple[str, str],
    output: tuple[str, str],
    span: Span,
    needs_source: bool,
) -> list[Transformed]:
    """The pairs of a job over a prefix, in the order of their keys.

    `inputs` and `outputs`: keys and times of what is there now. `source` and `output`: bucket and folder of either.
    An input that came after the job began and has no output is none of the job's. Raises `TableFailed` for an input
    without output and, where the input is needed, for an output without input.
    """
    in_bucket, in_folder = source
    out_bucket, out_folder = output
    written = {
        f"{in_folder}{key.removeprefix(out_folder).removesuffix(ENDING)}"
        for key, modified in outputs.items()
        if key.endswith(ENDING) and span.wrote(modified)
    }
    pairs = []
    for key in sorted({*inputs, *written}):
        place = Place(bucket=in_bucket, key=key)
        made = Place(bucket=out_bucket, key=f"{out_folder}{key.removeprefix(in_folder)}{ENDING}")
        if made.key not in outputs and inputs[key] > span.began:
            continue
        if made.key not in outputs:
            raise TableFailed(f"{made.address} is missing: the job's answers to {place.address} are not there any more")
        if key not in inputs and needs_source:
            raise TableFailed(
                f"{place.address} is gone, whose answers {made.address} holds; without it there is no record beside "
                "them (a job with JoinSource writes both into its output)"
            )
        pairs.append(Transformed(source=place, output=made))
    return pairs


def transformed(s3: Any, job: Mapping[str, Any], *, needs_source: bool) -> list[Transformed]:
    """The pairs of a job, as DescribeTransformJob describes it."""
    described = job["TransformInput"]["DataSource"]["S3DataSource"]
    bucket, key = split_s3(described["S3Uri"])
    out_bucket, out_root = split_s3(job["TransformOutput"]["S3OutputPath"])
    out_folder = f"{out_root.rstrip('/')}/" if out_root else ""
    if described["S3DataType"] == "ManifestFile":
        return [
            Transformed(source=place, output=Place(bucket=out_bucket, key=f"{out_folder}{name}{ENDING}"))
            for place, name in _listed(s3, Place(bucket=bucket, key=key))
        ]
    folder = key[: key.rfind("/") + 1]
    return pairs_of_prefix(
        dict(_keys(s3, bucket, key)),
        dict(_keys(s3, out_bucket, f"{out_folder}{key.removeprefix(folder)}")),
        source=(bucket, folder),
        output=(out_bucket, out_folder),
        span=Span.of(job),
        needs_source=needs_source,
    )


def _listed(s3: Any, manifest: Place) -> Iterator[tuple[Place, str]]:
    """The objects that a manifest file names. Source: API reference, S3DataSource."""
    try:
        content = s3.get_object(Bucket=manifest.bucket, Key=manifest.key)["Body"].read()
    except (ClientError, BotoCoreError) as error:
        raise TableFailed(f"{manifest.address}, the list of the job's input, cannot be read: {error}") from error
    try:
        match json.loads(content):
            case [{"prefix": str(prefix)}, *names] if all(isinstance(name, str) for name in names):
                bucket, root = split_s3(prefix)
            case _:
                raise ValueError("it is no list of a prefix and of names")
    except (ValueError, RecursionError) as error:
        raise TableFailed(f"{manifest.address} is not the list of a job's input: {error}") from error
    for name in names:
        yield Place(bucket=bucket, key=f"{root}{name}"), name


def _keys(s3: Any, bucket: str, prefix: str) -> Iterable[tuple[str, datetime]]:
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                if not item["Key"].endswith("/"):  # the console's folders
                    yield item["Key"], item["LastModified"]
    except (ClientError, BotoCoreError) as error:
        raise TableFailed(f"s3://{bucket}/{prefix} cannot be listed: {error}") from error
