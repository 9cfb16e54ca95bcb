"""A repository in S3, read by boto3, which is optional: `pip install 'tidegate[repository]'`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tidegate.inference.repository.beside import read_beside
from tidegate.inference.repository.listing import Entry, Listing
from tidegate.inference.repository.object_checksums import ObjectChecksum
from tidegate.inference.repository.store import ContentDamaged, EntryChanged, NotThere, StoreFailed

_CHUNK_BYTES = 128 << 10
"""What a connection that breaks takes along at most."""
_PART_BYTES = 8 << 20
READERS = 8
"""Connections to one large object, and parts of it in memory."""
_LARGE_BYTES = 2 * _PART_BYTES
"""From here on an object is read in parts."""
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 15
_TRIES = 3
"""Of botocore, with its own waits between, before our slower ones."""
_THROTTLED = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable"}


class S3Store:
    """A prefix of a bucket. An object is there as a whole or not at all, and a listing is never older than a write."""

    whole_objects = True

    def __init__(self, client: Any, bucket: str, prefix: str, readers: int = READERS) -> None:
        """`prefix` is empty or ends with a slash; so many `readers` share a large object."""
        self._client, self._bucket, self._prefix, self._readers = client, bucket, prefix, readers

    @classmethod
    def open(cls, address: str, *, connections: int, readers: int = READERS) -> S3Store:
        """The store of `s3://bucket/prefix`, for `connections` objects at a time. Raises `StoreFailed`."""
        try:
            import boto3  # noqa: PLC0415 - optional
            import botocore.session  # noqa: PLC0415
            from botocore.config import Config  # noqa: PLC0415
        except ImportError:
            raise StoreFailed(
                f"{address} needs boto3, which is not installed: pip install 'tidegate[repository]'."
            ) from None
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        config = Config(
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            max_pool_connections=connections * readers,
            tcp_keepalive=True,
        )
        with _failures(address):
            core = botocore.session.get_session()
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
            client = boto3.session.Session(botocore_session=core).client("s3", config=config)
        return cls(client, bucket, f"{prefix}/" if prefix else "", readers)

    def address(self, path: str) -> str:
        """How people call it."""
        return f"s3://{self._bucket}/{self._prefix}{path}"

    def list_all(self) -> Listing:
        """Everything below the prefix: one listing with all its pages. Raises `StoreFailed`."""
        entries: list[Entry] = []
        now_s = time.time()
        token: str | None = None
        while True:
            more = {"ContinuationToken": token} if token else {}
            with _failures(self.address("")):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, **more)
            # Something between here and S3 may answer 200 with a page of its own, which reads as an empty listing.
            if page.get("Name") != self._bucket or "IsTruncated" not in page:
                raise StoreFailed(f"{self.address('')}: the response is not a bucket listing.")
            entries += (self._entry(found) for found in page.get("Contents", ()) if found["Key"] != self._prefix)
            if not page["IsTruncated"]:
                break
            before, token = token, page.get("NextContinuationToken")
            if not token or token == before:
                raise StoreFailed(f"{self.address('')}: the listing ends in its middle.")
        with suppress(KeyError, ValueError, TypeError):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            now_s = (now if now.tzinfo is not None else now.replace(tzinfo=UTC)).timestamp()  # "-0000" says UTC, too
        entries.sort()  # directory buckets list in no order
        return Listing(entries=tuple(entries), now_s=now_s)

    def _entry(self, found: Any) -> Entry:
        tag = found["ETag"].strip('"')
        return Entry(found["Key"].removeprefix(self._prefix), found["Size"], tag, found["LastModified"].timestamp())

    def find(self, path: str) -> Entry:
        """One object by its name, without a listing and the right to it. Raises `NotThere` and `StoreFailed`."""
        name = self.address(path)
        try:
            with _failures(name):
                found = self._client.head_object(Bucket=self._bucket, Key=self._prefix + path)
        except EntryChanged:  # the answer to HEAD has no body, and does not tell what is missing
            raise NotThere(f"{name} cannot be read: there is no such object, or no such bucket.") from None
        if "ETag" not in found or "LastModified" not in found:
            raise StoreFailed(f"{name}: the answer is no object's of S3.")
        return Entry(path, found["ContentLength"], found["ETag"].strip('"'), found["LastModified"].timestamp())

    def read(self, entry: Entry, offset: int = 0) -> Generator[bytes, None, None]:
        """The content of a listed object from `offset` on, in pieces. Raises `StoreFailed`."""
        left = entry.size_bytes - offset
        if left >= _LARGE_BYTES:
            yield from self._in_parts(entry, offset)
        elif left > 0:
            yield from self._range(entry, offset, entry.size_bytes)

    def _in_parts(self, entry: Entry, offset: int) -> Generator[bytes, None, None]:
        checksum = self._checksum(entry) if not offset else None
        pieces = read_beside(
            offset,
            entry.size_bytes,
            lambda start, stop: self._range(entry, start, stop),
            part_bytes=_PART_BYTES,
            readers=self._readers,
        )
        with closing(pieces):
            for piece in pieces:
                if checksum is not None:
                    checksum.add(piece)
                yield piece
        if checksum is not None and not checksum.agrees:
            raise ContentDamaged(f"{self.address(entry.path)} came damaged: its checksum is not the one that S3 keeps.")

    def _checksum(self, entry: Entry) -> ObjectChecksum | None:
        """That of the whole object; none where the store does not tell it, whose reason the read itself will find."""
        try:
            with _failures(self.address(entry.path)):
                head = self._client.head_object(
                    Bucket=self._bucket,
                    Key=self._prefix + entry.path,
                    IfMatch=f'"{entry.tag}"',
                    ChecksumMode="ENABLED",
                )
        except StoreFailed:
            return None
        return ObjectChecksum.of(head)

    def _range(self, entry: Entry, start: int, stop: int) -> Generator[bytes, None, None]:
        """One answer: the bytes from `start` up to `stop`, the end of the object or an earlier place."""
        left = stop - start
        last = str(stop - 1) if stop < entry.size_bytes else ""
        ranged = {"Range": f"bytes={start}-{last}"} if start or last else {}
        name = self.address(entry.path)
        key = self._prefix + entry.path
        try:
            with _failures(name):
                answer = self._client.get_object(Bucket=self._bucket, Key=key, IfMatch=f'"{entry.tag}"', **ranged)
        except _Denied:
            # A role that may list this prefix alone is not told by S3 that an object is gone, but that it is forbidden.
            with _failures(name):
                found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1).get("Contents", [])
            if key not in [each["Key"] for each in found]:
                raise EntryChanged(f"{name} has gone since it was listed.") from None
            raise
        body = answer["Body"]
        try:
            if "ETag" not in answer:
                raise StoreFailed(f"{name}: the answer is no object's of S3, but perhaps a proxy's or a sign-in page.")
            if answer.get("ContentLength") != left or answer.get("ETag", "").strip('"') != entry.tag:
                raise EntryChanged(f"{name} has changed since it was listed.")
            while left:
                with _failures(name):
                    piece = body.read(min(_CHUNK_BYTES, left))
                if not piece:
                    raise StoreFailed(f"{name} ended {left} bytes early.")
                left -= len(piece)
                yield piece
            with _failures(name):
                body.read()  # botocore compares checksums at the end
        finally:
            body.close()


def _timestamp(value: Any) -> datetime:
    """The times of a listing are of one form, and two thirds of its cost if any form is looked for."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        from botocore.utils import parse_timestamp  # noqa: PLC0415 - optional

        parsed: datetime = parse_timestamp(value)
        return parsed


class _Denied(StoreFailed):
    """The role may not do it, or S3 does not tell it why not."""


@contextmanager
def _failures(name: str) -> Iterator[None]:
    """Turn what boto3 raises into one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError  # noqa: PLC0415 - optional
    from botocore.parsers import ResponseParserError  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        yield
    except FlexibleChecksumError as error:
        raise ContentDamaged(f"{name} came damaged: {error}.") from None
    except ClientError as error:
        raise _failure(name, error.response) from None
    except RecursionError:  # botocore follows what says that the bucket is elsewhere for as long as it is said
        raise StoreFailed(
            f"{name} cannot be read: what answers redirects without end; set AWS_REGION to the bucket's, or look at "
            "AWS_ENDPOINT_URL."
        ) from None
    except (BotoCoreError, ResponseParserError, HTTPError, OSError) as error:
        raise StoreFailed(f"{name} cannot be read: {' '.join(str(error).split()).rstrip('.')}.") from None


def _failure(name: str, response: Any) -> StoreFailed:
    fault = response.get("Error", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code, said = str(fault.get("Code", status)), str(fault.get("Message", "")).rstrip(".")
    if code == "NoSuchBucket":
        return StoreFailed(f"{name} cannot be read: there is no such bucket.")
    if status in (404, 412):
        return EntryChanged(f"{name} has changed or gone since it was listed.")
    if code in _THROTTLED:
        return StoreFailed(f"{name} cannot be read: S3 asks for fewer requests ({code}).")
    if status == 403:
        return _Denied(
            f"{name} cannot be read: access is denied ({code}: {said}); the role needs s3:ListBucket on the bucket and "
            "s3:GetObject below the prefix."
        )
    return StoreFailed(f"{name} cannot be read: {code}: {said}.")
