"""What a cloud that remembers writes, file by file: pictures, records of objects, the journal; and a full disk."""

from __future__ import annotations

import errno
import io
import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto.s3.models import FakeBucket, FakeKey, s3_backends
from moto.s3.utils import _VersionedKeyStore

from tidegate.local_cloud.keep import kept_objects, plain, snapshot_file
from tidegate.local_cloud.keep.errors import KeepError
from tidegate.local_cloud.keep.journal import Journal, unanswered
from tidegate.local_cloud.keep.kept_directory import KeptDirectory
from tidegate.local_cloud.keep.kept_objects import KeptObjects
from tidegate.local_cloud.keep.memory import Memory
from tidegate.local_cloud.keep.moto_calls import read_call
from tidegate.local_cloud.keep.snapshot_file import Picture
from tidegate.local_cloud.metrics.kept_metrics import KeptMetrics
from tidegate.local_cloud.metrics.store import MetricStore, Series

ACCOUNT, BUCKET = "123456789012", "bucket-of-keep-files"


@pytest.fixture(scope="module", autouse=True)
def _moto_goes_on_as_before() -> Iterator[None]:
    """What is installed here into the moto of this process is taken out again: other files have moto, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_objects, "_installed", None)
        for name in ("__setitem__", "setlist", "pop"):
            patch.setattr(_VersionedKeyStore, name, getattr(_VersionedKeyStore, name))
        yield


@pytest.fixture
def kept(tmp_path: Path) -> KeptDirectory:
    directory = KeptDirectory(tmp_path / "kept")
    directory.make()
    return directory


@pytest.fixture
def bucket() -> Iterator[FakeBucket]:
    """A bucket of the moto of this process, empty."""
    buckets = s3_backends[ACCOUNT]["aws"].buckets
    buckets[BUCKET] = FakeBucket(BUCKET, ACCOUNT, "us-east-1")
    yield buckets[BUCKET]
    del buckets[BUCKET]


def opened(kept: KeptDirectory) -> KeptObjects:
    objects = KeptObjects(kept)
    objects.install()
    assert objects.load() == []
    return objects


def put(bucket: FakeBucket, name: str, content: bytes) -> None:
    key = FakeKey(name, content, account_id=ACCOUNT, region_name="us-east-1", bucket_name=BUCKET)
    bucket.keys.setlist(name, [key])


def reopened(kept: KeptDirectory, bucket: FakeBucket) -> tuple[dict[str, bytes], list[str]]:
    """What another process finds, and what it says is lost."""
    dict.clear(bucket.keys)
    objects = KeptObjects(kept)
    objects.install()
    lost = objects.load()
    found = {name: versions[-1].value for name, versions in bucket.keys.iterlists()}
    objects.close()
    return found, lost


def test_an_object_is_one_file_and_one_record_however_many_there_are(kept: KeptDirectory, bucket: FakeBucket) -> None:
    objects = opened(kept)
    sizes = []
    for number in range(300):
        put(bucket, f"key {number}", b"content")
        objects.flush()
        sizes.append(kept.object_log.stat().st_size)
    grown = [after - before for before, after in itertools.pairwise(sizes)]
    assert max(grown) - min(grown) <= 10, "a record does not grow with the number of objects"
    objects.close()
    found, lost = reopened(kept, bucket)
    assert lost == []
    assert found == {f"key {number}": b"content" for number in range(300)}


def test_the_log_is_written_anew_when_most_of_it_is_out_of_date(kept: KeptDirectory, bucket: FakeBucket) -> None:
    objects = opened(kept)
    for number in range(2000):
        put(bucket, "overwritten", b"%d" % number)
        objects.flush()
    put(bucket, "other", b"other")
    objects.flush()
    before = kept.object_log.stat().st_size
    objects.sync()
    assert kept.object_log.stat().st_size < before / 100
    put(bucket, "after", b"after")
    objects.flush()
    objects.close()
    found, lost = reopened(kept, bucket)
    assert (found, lost) == ({"overwritten": b"1999", "other": b"other", "after": b"after"}, [])
    contents = [path for path in kept.objects.rglob("*") if path.is_file()]
    assert len(contents) == 3, "contents of nobody are gone"


def test_a_record_that_was_cut_off_is_left_out_and_the_others_are_there(
    kept: KeptDirectory, bucket: FakeBucket
) -> None:
    objects = opened(kept)
    put(bucket, "whole", b"whole")
    objects.flush()
    whole = kept.object_log.stat().st_size
    put(bucket, "cut off", b"cut off")
    objects.flush()
    objects.close()
    content = kept.object_log.read_bytes()
    kept.object_log.write_bytes(content[: (whole + len(content)) // 2])
    assert reopened(kept, bucket) == ({"whole": b"whole"}, [])
    assert kept.object_log.stat().st_size == whole


def test_a_log_that_is_damaged_in_its_midst_is_refused_and_nothing_is_deleted(
    kept: KeptDirectory, bucket: FakeBucket
) -> None:
    objects = opened(kept)
    for name in ("a", "b"):
        put(bucket, name, b"content")
        objects.flush()
    objects.close()
    content = bytearray(kept.object_log.read_bytes())
    content[20] ^= 0xFF
    kept.object_log.write_bytes(content)
    before = sorted(kept.path.rglob("*"))
    with pytest.raises(KeepError, match="damaged at byte 0"):
        reopened(kept, bucket)
    assert sorted(kept.path.rglob("*")) == before
    assert kept.object_log.read_bytes() == content


def test_a_content_that_is_not_on_disk_is_named_and_left_out(kept: KeptDirectory, bucket: FakeBucket) -> None:
    objects = opened(kept)
    put(bucket, "short", b"0123456789")
    objects.flush()
    (short,) = [path for path in kept.objects.rglob("*") if path.is_file()]
    put(bucket, "whole", b"whole")
    objects.flush()
    objects.close()
    short.write_bytes(b"01234")
    found, lost = reopened(kept, bucket)
    assert found == {"whole": b"whole"}
    assert lost == [f"object s3://{BUCKET}/short (version null): 5 of its 10 bytes are in {kept.objects}"]


def test_a_picture_is_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    assert snapshot_file.read(path) is None
    snapshot_file.write(path, Picture(payload=b"state", notes={"region": "us-east-1"}))
    assert snapshot_file.read(path) == Picture(payload=b"state", notes={"region": "us-east-1"})
    whole = path.read_bytes()
    for damaged, said in (
        (whole[:-1], "has 4 of 5 bytes"),
        (whole.replace(b"state", b"stale").replace(b'"stale of', b'"state of'), "not those that were written"),
        (b"", "does not begin as"),
        (b"{}\n", "does not begin as"),
        (whole.replace(b'"python": "', b'"python": "2.', 1), "was written by"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(KeepError, match=said):
            snapshot_file.read(path)
    path.write_bytes(whole)
    draft_fails = Picture(payload=b"new", notes={"region": object()})
    with pytest.raises(TypeError):
        snapshot_file.write(path, draft_fails)
    assert path.read_bytes() == whole


def test_what_is_alive_is_written_as_fresh() -> None:
    class_of_lambda: defaultdict[str, Any] = defaultdict(lambda: defaultdict(dict))
    class_of_lambda["a"]["b"]["c"] = 1
    is_set = threading.Event()
    is_set.set()
    state = {
        "lambda": class_of_lambda,
        "lock": threading.Lock(),
        "event": is_set,
        "thread": threading.current_thread() if type(threading.current_thread()) is threading.Thread else None,
    }
    read = plain.read(plain.pickled(state, {}))
    assert read["lambda"] == {"a": {"b": {"c": 1}}}
    assert read["lambda"]["new"] == {}
    assert read["lock"].acquire(blocking=False)
    assert read["event"].is_set()
    assert read["thread"] is None


def test_the_journal_names_what_was_begun_and_not_answered(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert unanswered(path) == []
    journal = Journal(path)
    answered = journal.begin("CreateModel", "a")
    journal.begin("DeleteModel", "b")
    journal.end(answered)
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"begun": 3, "oper')  # cut off
    assert unanswered(path) == ["DeleteModel b"]


def test_a_full_disk_refuses_changes_until_there_is_room(kept: KeptDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"value": 1}
    memory = Memory(
        kept, objects=opened(kept), parts=lambda: {"state": state}, reducers=dict, notes={"region": "us-east-1"}
    )
    memory.start()
    write = snapshot_file.write

    def full(_path: Path, _picture: Picture) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshot_file, "write", full)
    with pytest.raises(KeepError, match="No space left on device"), memory.changing("PutThing", "thing"):
        state["value"] = 2
    reached = False
    with pytest.raises(KeepError, match="No space left on device"), memory.changing("PutThing", "thing"):
        reached = True
    assert not reached, "nothing new is begun"
    monkeypatch.setattr(snapshot_file, "write", write)
    done = threading.Event()
    while not done.is_set():
        try:
            with memory.changing("PutThing", "other"):
                state["value"] = 3
            done.set()
        except KeepError:
            done.wait(0.05)
    memory.close()
    picture = snapshot_file.read(kept.snapshot)
    assert picture is not None
    assert plain.read(picture.payload) == {"state": {"value": 3}}
    with pytest.raises(KeepError, match="has stopped"), memory.changing("PutThing", "late"):
        pass


def test_a_part_that_cannot_be_written_is_named_and_the_others_are_written(kept: KeptDirectory) -> None:
    shared = ["shared"]
    parts = {"good": [shared], "bad": [shared, (number for number in ())], "better": [shared]}
    memory = Memory(kept, objects=opened(kept), parts=lambda: parts, reducers=dict, notes={"region": "us-east-1"})
    memory.start()
    memory.close()
    picture = snapshot_file.read(kept.snapshot)
    assert picture is not None
    state = plain.read(picture.payload)
    assert set(state) == {"good", "better"}
    assert state["good"][0] is state["better"][0]
    assert "generator" in picture.notes["unwritable"]["bad"]


def test_a_folder_that_others_can_enter_is_not_read(kept: KeptDirectory) -> None:
    kept.check()
    kept.path.chmod(0o750)
    with pytest.raises(KeepError, match="open to other users"):
        kept.check()


def call_of(method: str, path: str, *, body: bytes = b"", target: str = "", query: str = "", kind: str = "") -> Any:
    return read_call(
        {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": kind,
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_X_AMZ_TARGET": target,
            "wsgi.input": io.BytesIO(body),
        }
    )


def test_whether_a_request_changes_something_is_read_off_its_protocol() -> None:
    form = "application/x-www-form-urlencoded; charset=utf-8"
    item = json.dumps({"TableName": "t"}).encode()
    told = [
        call_of("PUT", "/b/k"),
        call_of("GET", "/b/k"),
        call_of("POST", "/b", query="delete="),
        call_of("PUT", "/b", query="versioning"),
        call_of("PUT", "/b/k", query="partNumber=1&uploadId=u"),
        call_of("POST", "/", target="DynamoDB_20120810.PutItem", body=item),
        call_of("POST", "/", target="DynamoDB_20120810.BatchGetItem", body=item),
        call_of("POST", "/", body=b"Action=CreateRole&RoleName=r", kind=form),
        call_of("POST", "/", body=b"Action=ListRoles", kind=form),
        call_of("POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData"),
    ]
    assert [(call.operation, call.resource, call.reads, call.objects_only) for call in told] == [
        ("PutObject", "s3://b/k", False, True),
        ("GetObject", "s3://b/k", True, True),
        ("DeleteObjects", "s3://b", False, True),
        ("PutBucketVersioning", "s3://b", False, False),
        ("UploadPart", "s3://b/k", False, False),
        ("PutItem", "t", False, False),
        ("BatchGetItem", "t", True, False),
        ("CreateRole", "r", False, False),
        ("ListRoles", "", True, False),
        ("PutMetricData", "", False, False),
    ]


def test_metrics_are_read_as_they_were_written_last(tmp_path: Path) -> None:
    path, series = tmp_path / "metrics", Series.of("n", "m", {"a": "b"})
    moment = datetime(2026, 1, 20, tzinfo=UTC)
    old, store = KeptMetrics(path, MetricStore()), MetricStore()
    old.load(moment)
    old.store.add(series, moment - timedelta(days=16), 1.0)
    old.store.add(series, moment, 1.0)
    old.write()
    old.store.add(series, moment, 3.0)
    old.write()
    old.write()
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3, "only what has changed is written"
    with path.open("a", encoding="utf-8") as file:
        file.write('{"series": ["cut')
    store.add(series, moment, 5.0)
    KeptMetrics(path, store).load(moment)
    tally = store.between(series, moment - timedelta(days=20), moment + timedelta(minutes=1))
    assert [tally.statistic(name) for name in ("SampleCount", "Sum", "Minimum", "Maximum")] == [3, 9, 1, 5]
    assert tally.statistic("p100") == pytest.approx(5, rel=0.01)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1, "what is too old is gone"


def test_metrics_that_cannot_be_written_come_with_the_next_minute(tmp_path: Path) -> None:
    path, series, moment = tmp_path / "there" / "metrics", Series.of("n", "m", {}), datetime(2026, 1, 20, tzinfo=UTC)
    kept = KeptMetrics(path, MetricStore())
    kept.load(moment)
    kept.store.add(series, moment, 1.0)
    kept.write()
    path.parent.mkdir()
    kept.write()
    again = MetricStore()
    KeptMetrics(path, again).load(moment)
    assert again.between(series, moment, moment + timedelta(minutes=1)).total == 1
