"""An archive that was replaced under its key after its model was made of it.

A model names its archive by the key alone, so a deploy changes nothing then, in silence. What can be said is asked of
the account that the CDK's command line found; without one, or without the rights, nothing is said.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import aws_cdk as cdk
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.models.model import Model

# Synthesis waits for it.
_CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2})


def warn(model: Model, *, region: str | None) -> None:
    """Warn at synthesis, and so at every deploy, if the archive of `model` is another one than it was made of."""
    archive = model.archive
    # The command line sets it where it has credentials; without them botocore would look for some for seconds.
    if archive is None or "CDK_DEFAULT_ACCOUNT" not in os.environ:
        return
    if cdk.Token.is_unresolved(archive) or cdk.Token.is_unresolved(model.name):
        return
    try:
        replaced = _replaced(model.name, archive, region or os.environ.get("CDK_DEFAULT_REGION"))
    except (ClientError, BotoCoreError):  # there is no such model or object, or nobody who may ask
        return
    if replaced is not None:
        cdk.Annotations.of(model).add_warning_v2(
            "tidegate:replaced-archive",
            f"{archive} was replaced after {model.name} was made of it ({replaced}), and this deploy changes nothing: "
            "instances go on with what they have, and those that start later take the new one; upload it under a key "
            "of its own, and give that",
        )


def _replaced(model_name: str, archive: str, region: str | None) -> str | None:
    """Which ETags the archive had when the model was made and has now, in words; None where it is the same."""
    session = botocore.session.get_session()
    made = session.create_client("sagemaker", region_name=region, config=_CONFIG).describe_model(ModelName=model_name)
    s3 = session.create_client("s3", region_name=region, config=_CONFIG)
    bucket, key = urlsplit(archive).netloc, urlsplit(archive).path.removeprefix("/")
    now = s3.head_object(Bucket=bucket, Key=key)
    if now["LastModified"] <= made["CreationTime"]:
        return None
    before = _etag_at(s3, bucket, key, made["CreationTime"])
    if before == now["ETag"]:
        return None
    return f"ETag {now['ETag']} in place of {before}" if before else f"it is of {now['LastModified']:%Y-%m-%d %H:%M:%S}"


def _etag_at(s3: Any, bucket: str, key: str, time: Any) -> str | None:
    """The ETag of the version that was there at `time`; None where the bucket, or the caller's rights, do not tell."""
    try:
        # The newest version comes first, and a key whose name this one begins comes after it.
        versions = s3.list_object_versions(Bucket=bucket, Prefix=key).get("Versions", [])
    except ClientError:
        return None
    return next((str(one["ETag"]) for one in versions if one["Key"] == key and one["LastModified"] <= time), None)
