"""The manifest of a job's input, `S3DataType` `ManifestFile`: a JSON list of the objects to take.

Source: S3DataSource in the API reference.
"""

from __future__ import annotations

import json
from typing import Any

from tidegate.local_cloud.sagemaker.archive import ModelDataError, split_s3_uri


class NoManifest(Exception):
    """What the job names as its manifest is none; the text says why."""


def read_manifest(s3: Any, bucket: str, key: str) -> tuple[str, str, list[str]]:
    """Bucket and beginning of all keys, and the names that follow it: of ``{"prefix": "s3://bucket/folder/"}`` and the
    names behind it.

    Raises :class:`NoManifest` and what boto3 raises.
    """
    content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        match json.loads(content):
            case [{"prefix": str(prefix)}, *names] if all(isinstance(name, str) for name in names):
                return (*split_s3_uri(prefix), names)
            case _:
                raise ValueError("it is no list of an object with the member prefix and of names")
    except (ValueError, RecursionError, ModelDataError) as error:
        raise NoManifest(f"s3://{bucket}/{key} is not a manifest: {error}") from error
