"""The input objects of a batch transform job: which they are, and their bytes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.local_cloud.sagemaker.archive import split_s3_uri
from tidegate.local_cloud.sagemaker.manifest_file import read_manifest

_READ_BYTES = 1024 * 1024


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
    """The objects that TransformInput names. Raises :class:`.NoManifest` and what boto3 raises."""
    source = transform_input["DataSource"]["S3DataSource"]
    bucket, key = split_s3_uri(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        bucket, prefix, names = read_manifest(s3, bucket, key)
        for name in names:
            yield InputObject(bucket=bucket, key=f"{prefix}{name}", prefix=prefix)
        return
    for listing in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
        for item in listing.get("Contents", []):
            if not item["Key"].endswith("/"):  # the S3 console's "folders"
                yield InputObject(bucket=bucket, key=item["Key"], prefix=key)


def content(s3: Any, source: InputObject, *, compression: str) -> Iterator[bytes]:
    """The object's bytes, unpacked. Raises what boto3 and gzip raise."""
    body = s3.get_object(Bucket=source.bucket, Key=source.key)["Body"]
    reader: Any = gzip.GzipFile(fileobj=body) if compression == "Gzip" else body
    with body:
        while chunk := reader.read(_READ_BYTES):
            yield chunk
