"""Objects of S3 on disk: each content a file, and a log that says what became of each key.

PutObject writes one file and one record, however many objects there are. A record has all versions of a key with their
metadata and tags; the last record of a key counts. The log is written anew when most of it is out of date. A content
that no key has any more is deleted once the log says so.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import shutil
import struct
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from moto.s3.models import FakeBucket, FakeKey, s3_backends
from moto.s3.utils import _VersionedKeyStore

from tidegate.local_cloud.keep import plain
from tidegate.local_cloud.keep.errors import KeepError, reason
from tidegate.local_cloud.keep.kept_directory import KeptDirectory

logger = logging.getLogger(__name__)

_FRAME = struct.Struct(">II")  # the length of a record and its CRC-32
_COMPACT_BYTES = 1024 * 1024
_GRACE_S = 5.0  # an answer that is being made may still want a content that was replaced
_SPOOLED_BYTES = 5 * 1024 * 1024

_installed: KeptObjects | None = None

Place = tuple[str, str, str, str]
"""Account, partition, bucket and key."""


class KeptContent:
    """A content in a file, in the place of moto's buffer. It is opened for each use: there may be many thousands.

    Who truncates it, as moto does with the parts of a completed upload, has an empty buffer of his own.
    """

    def __init__(self, objects: KeptObjects, name: str) -> None:
        self.name: str | None = name
        self._objects = objects
        self._at = 0
        self._rest: IO[bytes] | None = None
        self._closed = False

    @property
    def path(self) -> Path:
        if self._closed or self.name is None:
            raise ValueError("I/O operation on closed file.")
        return self._objects.path_of(self.name)

    @property
    def _rolled(self) -> bool:
        """As in a SpooledTemporaryFile: whether it can be answered from its file."""
        return self._rest is None

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        with self.path.open("rb") as file:
            yield file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self._rest is not None:
            return self._rest.seek(offset, whence)
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        self._at = (self.path.stat().st_size if base is None else base) + offset
        return self._at

    def tell(self) -> int:
        return self._at if self._rest is None else self._rest.tell()

    def read(self, size: int = -1) -> bytes:
        if self._rest is not None:
            return self._rest.read(size)
        with self.path.open("rb") as file:
            file.seek(self._at)
            found = file.read(size)
        self._at += len(found)
        return found

    def truncate(self, size: int | None = None) -> int:
        if self._rest is not None:
            return self._rest.truncate(size)
        keep = self._at if size is None else size
        self._rest = SpooledTemporaryFile[bytes](_SPOOLED_BYTES)
        if keep:
            with self.path.open("rb") as file:
                self._rest.write(file.read(keep))
        self._discard()
        return keep

    def write(self, content: bytes) -> int:
        if self._rest is None:
            raise io.UnsupportedOperation("the content of an object is replaced and not changed")
        return self._rest.write(content)

    def flush(self) -> None:
        """Nothing waits in memory."""

    def close(self) -> None:
        if self._rest is not None:
            self._rest.close()
        self._closed = True
        self._discard()

    def _discard(self) -> None:
        if self.name is not None:
            self._objects.discard(self.name)
            self.name = None


class KeptObjects:
    """All objects of this cloud. :meth:`install` before moto answers, :meth:`load` when its buckets are there."""

    def __init__(self, directory: KeptDirectory) -> None:
        self._directory = directory
        self._lock = threading.Lock()  # of the log
        self._log = -1
        self._size_bytes = 0
        self._live: dict[Place, tuple[int, int]] = {}  # where the last record of a key is, and how long it is
        self._live_bytes = 0
        self._garbage: deque[tuple[float, str]] = deque()
        self._read: set[str] = set()  # the contents that were met while reading

    def install(self) -> None:
        """From now on moto's buckets note which of their keys have changed."""
        global _installed  # noqa: PLW0603 - moto's state is in the process: there can be only one
        if _installed is None:
            for name in ("__setitem__", "setlist", "pop"):
                setattr(_VersionedKeyStore, name, _noting(getattr(_VersionedKeyStore, name)))
        _installed = self

    @property
    def reducers(self) -> Mapping[type, plain.Reducer]:
        """How a picture has what belongs to this room: buckets without their keys, keys without their bytes."""
        return {_VersionedKeyStore: lambda _: (_VersionedKeyStore, ()), FakeKey: self._reduced}

    def path_of(self, name: str) -> Path:
        return self._directory.objects / name[:2] / name

    def read_content(self, name: str) -> KeptContent:
        """A content that a record or a picture names."""
        self._read.add(name)
        return KeptContent(self, name)

    def discard(self, name: str) -> None:
        """Nobody has this content any more; its file goes some time after the log has said so."""
        self._garbage.append((time.monotonic(), name))

    def touched(self, bucket_name: str, key_name: str, upload_id: str | None, part: int | None) -> None:
        """Notes that a request may have changed a key's metadata, and takes a part of an upload to its file."""
        for _, _, bucket in _buckets():
            if bucket.name != bucket_name:
                continue
            if key_name in bucket.keys:
                _note(bucket.keys, key_name)
            upload = bucket.multiparts.get(upload_id) if upload_id is not None else None
            if upload is not None and part in upload.parts:
                self._kept(upload.parts[part])

    def announces(self, bucket_name: str) -> bool:
        """Whether changes of a bucket's objects reach other services."""
        return any(
            bucket.notification_configuration is not None or bucket.logging
            for _, _, bucket in _buckets()
            if bucket.name == bucket_name
        )

    def flush(self) -> None:
        """Writes a record for each key that has changed. Raises OSError; what is not written then comes again."""
        with self._lock:
            for account, partition, bucket in _buckets():
                changed = _changed(bucket.keys)
                # Each once, though a request may note its key more than once.
                names = dict.fromkeys(changed.popleft() for _ in range(len(changed)))
                try:
                    for key_name in list(names):
                        self._append((account, partition, bucket.name, key_name), bucket)
                        del names[key_name]
                except BaseException:
                    changed.extend(names)
                    raise

    def sync(self) -> None:
        """Brings the log to the disk, and writes it anew where most of it is out of date. Raises OSError."""
        with self._lock:
            if self._size_bytes > 2 * self._live_bytes + _COMPACT_BYTES:
                self._compact()
            if self._log >= 0:
                os.fsync(self._log)

    def sweep(self) -> None:
        """Deletes contents that nobody has had for some seconds. After :meth:`flush`."""
        while self._garbage and time.monotonic() - self._garbage[0][0] > _GRACE_S:
            _, name = self._garbage.popleft()
            self.path_of(name).unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            if self._log >= 0:
                os.close(self._log)
                self._log = -1

    # reading

    def load(self) -> list[str]:
        """Fills moto's buckets, deletes contents of nobody's; returns what is lost, in sentences.

        Raises :class:`KeepError` for a log that is damaged.
        """
        path = self._directory.object_log
        try:
            content = path.read_bytes() if path.exists() else b""
            lost, homeless = self._fill(path, content)
            self._log = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
            os.ftruncate(self._log, self._size_bytes)
            for place in homeless:  # a bucket of that name may be made later
                self._write(place, [])
            self._remove_strangers()
        except OSError as error:
            raise KeepError(f"the kept objects cannot be read: {reason(error)}") from error
        return lost

    def _fill(self, path: Path, content: bytes) -> tuple[list[str], list[Place]]:
        """What is lost, and the keys whose bucket is not there."""
        last: dict[Place, bytes] = {}
        for begin, record in self._records(path, content):
            place = _place_of(record)
            if place in self._live:
                self._live_bytes -= self._live[place][1]
            self._live[place] = begin, _FRAME.size + len(record)
            self._live_bytes += _FRAME.size + len(record)
            last[place] = record
        buckets = {(account, partition, bucket.name): bucket for account, partition, bucket in _buckets()}
        lost, homeless = [], []
        for place, record in last.items():
            _, versions = plain.read(record[4 + struct.unpack_from(">I", record)[0] :])
            bucket = buckets.get(place[:3])
            if not versions:
                self._forget(place)
            elif bucket is None:
                lost.append(f"object s3://{place[2]}/{place[3]}: its bucket was not made to the end")
                homeless.append(place)
            else:
                lost += self._put(bucket, place[3], versions)
        return lost, homeless

    def _put(self, bucket: FakeBucket, key_name: str, versions: list[tuple[Any, dict[str, str]]]) -> list[str]:
        lost, whole = [], []
        backend = s3_backends[bucket.account_id][bucket.partition]
        for version, tags in versions:
            flaw = self._flaw(version)
            if flaw is not None:
                lost.append(f"object s3://{bucket.name}/{key_name} (version {version.version_id}): {flaw}")
                continue
            whole.append(version)
            if isinstance(version, FakeKey):
                backend.tagger.delete_all_tags_for_resource(version.arn)
                backend.tagger.tag_resource(version.arn, backend.tagger.convert_dict_to_tags_input(tags))
        if whole:
            dict.__setitem__(bucket.keys, key_name, whole)
        if lost:
            _note(bucket.keys, key_name)
        return lost

    def _flaw(self, version: Any) -> str | None:
        content = getattr(version, "_value_buffer", None)
        if not isinstance(content, KeptContent):
            return None
        try:
            size_bytes = content.path.stat().st_size
        except FileNotFoundError:
            return f"its content is not in {self._directory.objects}"
        if size_bytes != version.contentsize:
            return f"{size_bytes} of its {version.contentsize} bytes are in {self._directory.objects}"
        return None

    def _records(self, path: Path, content: bytes) -> Iterator[tuple[int, bytes]]:
        """The records with where they begin. One that was not written to its end was not answered, and is left out."""
        at = 0
        while at + _FRAME.size <= len(content):
            length, checksum = _FRAME.unpack_from(content, at)
            end = at + _FRAME.size + length
            if end > len(content):
                break
            record = content[at + _FRAME.size : end]
            if zlib.crc32(record) != checksum:
                if end == len(content):
                    break
                raise KeepError(
                    f"{path} is damaged at byte {at}; nothing was deleted; `tidegate cloud down --delete` removes it"
                )
            yield at, record
            at = end
        self._size_bytes = at

    def _remove_strangers(self) -> None:
        """Contents that no key has: of changes that were cut off, or that were to be deleted."""
        for folder in self._directory.objects.iterdir():
            for content in folder.iterdir():
                if content.name not in self._read:
                    content.unlink(missing_ok=True)
        self._read.clear()

    # writing

    def _append(self, place: Place, bucket: FakeBucket) -> None:
        tagger = s3_backends[bucket.account_id][bucket.partition].tagger
        versions = [
            (version, dict(tagger.get_tag_dict_for_resource(version.arn)) if isinstance(version, FakeKey) else {})
            for version in list(bucket.keys.getlist(place[3], []))
        ]
        for version, _ in versions:
            if isinstance(version, FakeKey):
                self._kept(version)
        self._write(place, versions)

    def _write(self, place: Place, versions: list[tuple[Any, dict[str, str]]]) -> None:
        name = "\0".join(place).encode("utf-8", "surrogatepass")
        record = struct.pack(">I", len(name)) + name + plain.pickled((place, versions), self.reducers)
        frame = _FRAME.pack(len(record), zlib.crc32(record)) + record
        begin = self._size_bytes
        _write_whole(self._log, frame, begin)
        self._size_bytes += len(frame)
        self._forget(place)
        if versions:
            self._live[place] = begin, len(frame)
            self._live_bytes += len(frame)

    def _forget(self, place: Place) -> None:
        self._live_bytes -= self._live.pop(place, (0, 0))[1]

    def _compact(self) -> None:
        """A log of the last records alone, put in the place of the old one."""
        draft = self._directory.object_log.with_suffix(".draft")
        moved: dict[Place, tuple[int, int]] = {}
        at = 0
        new = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_RDWR, 0o600)
        try:
            for place, (begin, length) in self._live.items():
                _write_whole(new, os.pread(self._log, length, begin), at)
                moved[place] = at, length
                at += length
            os.fsync(new)
            draft.replace(self._directory.object_log)
        except OSError:
            os.close(new)
            draft.unlink(missing_ok=True)
            raise
        os.close(self._log)
        self._log, self._live, self._size_bytes, self._live_bytes = new, moved, at, at

    def _kept(self, key: FakeKey) -> str | None:
        """The name of the file that has a key's content, which is written now if it is not; None for no content."""
        with key.lock:
            buffer: Any = key._value_buffer
            if isinstance(buffer, KeptContent) and buffer.name is not None:
                return buffer.name
            if key.disposed:
                return None
            buffer.seek(0, os.SEEK_END)
            if not buffer.tell():
                return None
            _ = key.etag  # from the buffer, before it is another one
            name = uuid.uuid4().hex
            path = self.path_of(name)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                with path.open("xb") as file:
                    buffer.seek(0)
                    shutil.copyfileobj(buffer, file, 1024 * 1024)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            key._value_buffer = KeptContent(self, name)  # type: ignore[assignment]
            buffer.close()
            return name

    def _reduced(self, key: FakeKey) -> Any:
        state = {name: value for name, value in vars(key).items() if name not in ("_value_buffer", "lock")}
        return _restored, (state, self._kept(key))


def _restored(state: dict[str, Any], content: str | None) -> FakeKey:
    key: Any = FakeKey.__new__(FakeKey)
    vars(key).update(state)
    key.lock = threading.Lock()
    if content is None or _installed is None:
        key._value_buffer = SpooledTemporaryFile(_SPOOLED_BYTES)  # noqa: SIM115 - it lives as long as the object
    else:
        key._value_buffer = _installed.read_content(content)
    restored: FakeKey = key
    return restored


def _buckets() -> Iterator[tuple[str, str, FakeBucket]]:
    for account, partition, backend in list(s3_backends.iter_backends()):
        buckets: dict[str, FakeBucket] = vars(backend)["buckets"]
        for bucket in list(buckets.values()):
            yield account, partition, bucket


def _noting(change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def changing(self: _VersionedKeyStore, key_name: str, *rest: Any) -> Any:
        try:
            return change(self, key_name, *rest)
        finally:
            _note(self, key_name)

    return changing


def _note(keys: _VersionedKeyStore, key_name: str) -> None:
    _changed(keys).append(key_name)


def _changed(keys: _VersionedKeyStore) -> deque[str]:
    changed: deque[str] = vars(keys).setdefault("changed", deque())
    return changed


def _place_of(record: bytes) -> Place:
    """Read without the pickle, so that records that are out of date cost nothing."""
    (length,) = struct.unpack_from(">I", record)
    account, partition, bucket, key_name = record[4 : 4 + length].decode("utf-8", "surrogatepass").split("\0", 3)
    return account, partition, bucket, key_name


def _write_whole(file: int, content: bytes, size_bytes: int) -> None:
    """Appends to a file of that size, or leaves it as it was. Raises OSError."""
    try:
        done = 0
        while done < len(content):  # a full disk takes a part, and refuses the rest
            done += os.write(file, content[done:])
    except OSError:
        os.ftruncate(file, size_bytes)
        raise
