"""The few things that are asked of S3, and what it says where it says no.

Conditional writes: PutObject with `If-None-Match: *` answers 412 where the key has an object, with `If-Match: ETAG`
where it has another, and 409 where another write is under way at that moment
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). Reads and listings are strongly
consistent (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.exceptions
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config

from tidegate.training_hooks.errors import ArtifactError
from tidegate.training_hooks.manifest import HashingReader

from .contents import Stored
from .names import BucketAddress

_PART_BYTES = 8 << 20
_TRIES = 8
_MAX_PARTS = 9_000  # S3 takes 10,000


class Body(NamedTuple):
    """A small object."""

    data: bytes
    etag: str
    age_s: float
    """By S3's own clock."""


class Objects:
    """The objects of one bucket below one prefix; keys are relative to it."""

    def __init__(self, address: BucketAddress) -> None:
        self.address = f"s3://{address.bucket}/{address.prefix}".rstrip("/")
        self._bucket = address.bucket
        self._prefix = address.prefix
        with self._in_one_sentence():
            self._client = boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 5}))

    def stored(self, prefix: str = "") -> dict[str, Stored]:
        """Every object below a prefix, by its key without the prefix; folders that consoles make are left out."""
        found: dict[str, Stored] = {}
        for page in self._pages(Prefix=self._prefix + prefix):
            for each in page.get("Contents", []):
                key = each["Key"].removeprefix(self._prefix + prefix)
                if key and not key.endswith("/"):
                    found[key] = Stored(each["Size"], each["LastModified"])
        return found

    def names(self, prefix: str = "", *, limit: int | None = None) -> list[str]:
        """What is directly below a prefix, objects and what looks like folders."""
        found: list[str] = []
        for page in self._pages(Prefix=self._prefix + prefix, Delimiter="/"):
            keys = [each["Key"] for each in page.get("Contents", [])]
            keys += [each["Prefix"].removesuffix("/") for each in page.get("CommonPrefixes", [])]
            found += [
                name for key in keys if (name := key.removeprefix(self._prefix + prefix)) and not name.endswith("/")
            ]
            if limit is not None and len(found) >= limit:
                break
        return found

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        with self._in_one_sentence():
            answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + key, MaxKeys=1)
        return any(each["Key"] == self._prefix + key for each in answer.get("Contents", []))

    def get(self, key: str) -> Body | None:
        """A small object, None where there is none."""
        with self._in_one_sentence():
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
                with contextlib.closing(answer["Body"]) as body:
                    data = body.read()
            except self._client.exceptions.NoSuchKey:
                return None
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return Body(data, answer["ETag"], (_now(date) - answer["LastModified"]).total_seconds())

    def put_if(self, key: str, data: bytes, *, etag: str | None) -> bool:
        """Write an object where the key has none (`etag` None), or the one of this ETag; return whether it was so."""
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._in_one_sentence():
            for attempt in range(1, _TRIES + 1):
                try:
                    self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)
                except botocore.exceptions.ClientError as error:
                    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                    if status == 409 and attempt < _TRIES:
                        time.sleep(random.uniform(0.02, 0.2) * attempt)  # noqa: S311 - so that two do not meet again
                    elif status == 412 or (status == 404 and code == "NoSuchKey"):  # what should be replaced is gone
                        return False
                    else:
                        raise
                else:
                    return True
        raise AssertionError  # the last attempt has returned or raised

    def delete_if(self, key: str, *, etag: str) -> None:
        """Delete an object, unless it is another than the one of this ETag by now."""
        with self._in_one_sentence():
            try:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key, IfMatch=etag)
            except botocore.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 409, 412):
                    raise

    def put(self, key: str, data: bytes) -> None:
        """Write a small object, whatever was there."""
        with self._in_one_sentence():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def upload(
        self,
        prefix: str,
        files: Mapping[str, Path],
        on_bytes: Callable[[int], object],
        checked: Callable[[str, HashingReader], None],
    ) -> None:
        """Upload files, several at a time and large ones in parts.

        Args:
            prefix: what their keys begin with.
            files: by what their keys end with.
            on_bytes: told how much was read, from several threads.
            checked: called for each file when all of it was read and sent; what it raises is raised.
        """
        largest_bytes = max((path.stat().st_size for path in files.values()), default=0)
        config = TransferConfig(
            multipart_chunksize=max(_PART_BYTES, -(-largest_bytes // _MAX_PARTS)), preferred_transfer_client="classic"
        )
        with self._in_one_sentence(), create_transfer_manager(self._client, config) as manager:
            # What cannot seek is read once and in order, so its hash is that of the bytes that were sent.
            readers = {name: HashingReader(_OpenedLate(path), on_bytes) for name, path in files.items()}
            sent = [
                (name, reader, manager.upload(reader, self._bucket, self._prefix + prefix + name))
                for name, reader in readers.items()
            ]
            for name, reader, future in sent:
                future.result()
                checked(name, reader)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is no error."""
        pending = list(keys)
        while pending:
            some, pending = pending[:1000], pending[1000:]  # as many as one request takes
            with self._in_one_sentence():
                answer = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": self._prefix + key} for key in some], "Quiet": True},
                )
            for error in answer.get("Errors", []):
                raise ArtifactError(
                    f"s3://{self._bucket}/{error.get('Key')} could not be deleted: {error.get('Code')}: "
                    f"{error.get('Message')}"
                )

    def _pages(self, **request: Any) -> Iterator[dict[str, Any]]:
        with self._in_one_sentence():
            yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, **request)

    @contextlib.contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        try:
            yield
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, Boto3Error) as error:
            raise ArtifactError(f"{self.address} does not answer as it should: {error}") from error


class _OpenedLate:
    """A file that is opened by its first read and closed by the one that finds its end: a model may have thousands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        if self._ended:
            return b""
        if self._file is None:
            self._file = self._path.open("rb")
        data: bytes = self._file.read(size)
        if size < 0 or len(data) < size:
            self._ended = True
            self._file.close()
        return data


def _now(date: str | None) -> datetime:
    """The store's own time by its Date header; this machine's where that is none, as two in one are."""
    try:
        now = parsedate_to_datetime(date or "")
    except (ValueError, TypeError):
        return datetime.now(UTC)
    return now if now.tzinfo is not None else now.replace(tzinfo=UTC)  # "-0000" says UTC, too
