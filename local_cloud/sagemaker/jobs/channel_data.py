"""The data of a job's input: which objects of S3 they are, on which host, and how they come to files or a pipe.

Sources: S3DataSource and Channel in the API reference; "How Amazon SageMaker AI Provides Training Information"
(your-algorithms-training-algo-running-container) and "Access Training Data" (model-access-training-data) in the
developer guide.
"""

from __future__ import annotations

import errno
import os
import random
import select
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.archive import ModelDataError, download, split_s3_uri
from tidegate.local_cloud.sagemaker.manifest_file import NoManifest, read_manifest

_READ_BYTES = 1024 * 1024
_PAUSE_S = 0.05


class NoInput(Exception):
    """The input of a job cannot be had; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelObject:
    """One object of an input, and its file's path below the input's directory."""

    bucket: str
    key: str
    path: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def objects_of(s3: Any, *, uri: str, data_type: str) -> list[ChannelObject]:
    """The objects that an S3DataSource names, sorted by key. Raises :class:`NoInput`."""
    try:
        bucket, key = split_s3_uri(uri)
        found = _listed(s3, bucket, key) if data_type == "ManifestFile" else _below(s3, bucket, key)
    except ModelDataError as error:
        raise NoInput(str(error)) from error
    except (ClientError, BotoCoreError) as error:
        raise NoInput(f"{uri} cannot be listed: {error}") from error
    for item in found:
        if any(part == ".." or "\0" in part for part in item.path.split("/")):
            raise NoInput(f"the object {item.uri} cannot be a file of the input")
    return sorted(found, key=lambda item: (item.bucket, item.key))


def _below(s3: Any, bucket: str, prefix: str) -> list[ChannelObject]:
    found = []
    for listing in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in listing.get("Contents", []):
            key = item["Key"]
            if not key.endswith("/"):  # the S3 console's "folders"
                found.append(ChannelObject(bucket=bucket, key=key, path=_relative(key, prefix)))
    return found


def _relative(key: str, prefix: str) -> str:
    """The path below the channel: what follows the folder that the prefix names; the name alone of a single object."""
    if key == prefix:
        return PurePosixPath(key).name
    folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    if not key.startswith(folder):
        folder = prefix[: prefix.rfind("/") + 1]
    return key.removeprefix(folder).lstrip("/")


def _listed(s3: Any, bucket: str, key: str) -> list[ChannelObject]:
    try:
        bucket, prefix, names = read_manifest(s3, bucket, key)
    except NoManifest as error:
        raise NoInput(str(error)) from error
    return [ChannelObject(bucket=bucket, key=f"{prefix}{name}", path=name.lstrip("/")) for name in names]


def share(objects: Sequence[ChannelObject], *, distribution: str, host: int, hosts: int) -> list[ChannelObject]:
    """What of them one of the hosts gets, counted from 0: all, or with ``ShardedByS3Key`` every ``hosts``-th."""
    return list(objects[host::hosts] if distribution == "ShardedByS3Key" else objects)


def bring(s3: Any, objects: Iterable[ChannelObject], directory: Path) -> None:
    """Makes a file of each object below ``directory``. Raises :class:`NoInput`."""
    directory.mkdir(parents=True, exist_ok=True)
    for item in objects:
        target = directory / item.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            download(s3, item.bucket, item.key, target)
        except ClientError as error:
            # The service's own sentence: https://github.com/aws/amazon-sagemaker-examples/issues/4384
            said = error.response["Error"]
            raise NoInput(f"Unable to download object {item.uri} ({said['Code']}: {said['Message']})") from error
        except (BotoCoreError, OSError) as error:
            raise NoInput(f"{item.uri} cannot be brought to {item.path}: {error}") from error


class Pipe:
    """The pipes of a channel in Pipe mode: ``CHANNEL_0`` gives all its objects once, then ``CHANNEL_1`` again, ….

    From :meth:`start` to :meth:`close` a thread feeds them. The next one is there before the one that is read ends.
    """

    def __init__(self, s3: Any, objects: Sequence[ChannelObject], place: Path, settings: Mapping[str, Any]) -> None:
        self._s3 = s3
        self._objects = list(objects)
        self._place = place
        self._gzip = settings.get("CompressionType") == "Gzip"
        self._shuffle: int | None = settings.get("ShuffleConfig", {}).get("Seed")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, name=f"pipe {place.name}", daemon=True)
        self.failure: str | None = None

    def start(self) -> None:
        self._place.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(self._fifo(0))
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _fifo(self, epoch: int) -> Path:
        return self._place.with_name(f"{self._place.name}_{epoch}")

    def _feed(self) -> None:
        epoch = 0
        try:
            while (descriptor := self._opened(epoch)) is not None:
                os.mkfifo(self._fifo(epoch + 1))
                try:
                    # A reader that closes early has had enough of this epoch.
                    with suppress(BrokenPipeError):
                        for piece in self._pieces(epoch):
                            self._write(descriptor, piece)
                finally:
                    os.close(descriptor)
                epoch += 1
        except (ClientError, BotoCoreError, OSError, zlib.error) as error:
            self.failure = f"the pipe {self._place.name} broke: {error}"

    def _opened(self, epoch: int) -> int | None:
        """Waits for a reader; None when the job ends before one comes."""
        while not self._ended.wait(_PAUSE_S):
            try:
                return os.open(self._fifo(epoch), os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
        return None

    def _pieces(self, epoch: int) -> Iterator[bytes]:
        objects = self._objects
        if self._shuffle is not None:
            objects = random.Random(f"{self._shuffle}:{epoch}").sample(objects, len(objects))  # noqa: S311 - an order
        for item in objects:
            with self._s3.get_object(Bucket=item.bucket, Key=item.key)["Body"] as body:
                unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
                while chunk := body.read(_READ_BYTES):
                    yield unpacker.decompress(chunk) if self._gzip else chunk
                if self._gzip:
                    yield unpacker.flush()

    def _write(self, descriptor: int, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            if self._ended.is_set():
                raise BrokenPipeError
            _, writable, _ = select.select([], [descriptor], [], _PAUSE_S)
            if writable:
                with suppress(BlockingIOError):
                    left = left[os.write(descriptor, left) :]
