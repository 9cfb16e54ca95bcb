"""The input objects of a batch transform job: which they are, and their bytes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.local_cloud.sagemaker.archive import ModelDataError, split_s3_uri

_READ_BYTES = 1024 * 1024


class NoManifest(Exception):
    """What the job names as its manifest is none; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputObject:
    """One object to transform."""

    bucket: str
    key: str
    prefix: str  # the part of the job's input address that the output's place is relative to

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def input_objects(s3: Any, transform_input: Mapping[str, Any]) -> Iterator[InputObject]:
    """The objects that TransformInput names. Raises :class:`NoManifest` and what boto3 raises."""
    source = transform_input["DataSource"]["S3DataSource"]
    bucket, key = split_s3_uri(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        yield from _listed(s3, bucket, key)
        return
    for listing in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
        for item in listing.get("Contents", []):
            if not item["Key"].endswith("/"):  # the S3 console's "folders"
                yield InputObject(bucket=bucket, key=item["Key"], prefix=key)


def _listed(s3: Any, bucket: str, key: str) -> Iterator[InputObject]:
    """A manifest is a JSON list: ``{"prefix": "s3://bucket/folder/"}`` and then the objects relative to it."""
    content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        match json.loads(content):
            case [{"prefix": str(prefix)}, *names] if all(isinstance(name, str) for name in names):
                base_bucket, base_key = split_s3_uri(prefix)
            case _:
                raise ValueError("it is no list of an object with the member prefix and of names")
    except (ValueError, RecursionError, ModelDataError) as error:
        raise NoManifest(f"s3://{bucket}/{key} is not a manifest: {error}") from error
    for name in names:
        yield InputObject(bucket=base_bucket, key=f"{base_key}{name}", prefix=base_key)


def content(s3: Any, source: InputObject, *, compression: str) -> Iterator[bytes]:
    """The object's bytes, unpacked. Raises what boto3 and gzip raise."""
    body = s3.get_object(Bucket=source.bucket, Key=source.key)["Body"]
    reader: Any = gzip.GzipFile(fileobj=body) if compression == "Gzip" else body
    with body:
        while chunk := reader.read(_READ_BYTES):
            yield chunk
