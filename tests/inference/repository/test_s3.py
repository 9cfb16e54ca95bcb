"""The real process and moto's S3 behind a proxy that fails: what it lists, fetches and goes on from."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.inference.repository.driving import Driven
from tests.inference.repository.files import archive_of, published, read
from tests.inference.repository.s3_proxy import (
    BROKEN,
    CAPTIVE_PORTAL,
    EMPTY_LISTING,
    FORBIDDEN,
    S3,
    SLOW_DOWN,
    Fault,
    Proxy,
    always,
    no_fault,
    of_weights,
    once,
)
from tidegate.inference.repository.catalogue import VersionState
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.messages import Fetched, FetchFailed, Kept, Listed, ListingFailed, Remove
from tidegate.inference.repository.s3_store import S3Store
from tidegate.inference.repository.store import NotThere, StoreFailed

BUCKET = "models"
WEIGHTS = bytes(range(256)) * (4 << 10)  # 1 MiB
FILES = {"model.pth": WEIGHTS, "code/inference.py": b"# four functions"}
PAGES = Fault(page_keys=2)
Put = Callable[[str, Mapping[str, bytes]], None]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as running:
        running.client().create_bucket(Bucket=BUCKET)
        yield running


@pytest.fixture
def proxy(s3: S3) -> Iterator[Proxy]:
    with Proxy(s3.port) as running:
        yield running


@pytest.fixture
def client(s3: S3) -> Iterator[Any]:
    made = s3.client()
    yield made
    made.close()


_prefixes = itertools.count()


@pytest.fixture
def prefix() -> str:
    return f"repository-{next(_prefixes)}"


@pytest.fixture
def put(client: Any, prefix: str) -> Put:
    def write(below: str, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{below}{name}", Body=content)

    return write


@pytest.fixture
def drive(proxy: Proxy, prefix: str, tmp_path: Path) -> Iterator[Callable[..., Driven]]:
    started: list[Driven] = []

    def start(**arguments: Any) -> Driven:
        started.append(
            Driven(f"s3://{BUCKET}/{prefix}", tmp_path / "cache", environment=proxy.environment, **arguments)
        )
        return started[-1]

    yield start
    proxy.release()
    for driven in started:
        if driven.process.poll() is None:
            driven.close()


def test_a_version_is_listed_and_fetched(drive: Callable[..., Driven], put: Put, tmp_path: Path) -> None:
    """By its manifest, at the first listing; the objects beside the prefix are none of it."""
    put("net/3/", published(FILES))
    driven = drive(interval_s=3600)
    fetched = driven.fetch(driven.await_version("net", 3))
    assert isinstance(fetched, Fetched)
    assert read(Path(fetched.directory)) == published(FILES)
    assert list(driven.models) == ["net"]


def test_an_archive_is_there_at_once_because_an_object_is_never_half_there(
    drive: Callable[..., Driven], put: Put
) -> None:
    put("", {"net.tar.gz": archive_of(FILES)})
    driven = drive(interval_s=3600)
    fetched = driven.fetch(driven.await_version("net", 1))
    assert isinstance(fetched, Fetched)
    assert read(Path(fetched.directory)) == FILES


def test_a_listing_of_many_pages_is_asked_for_once_an_interval(
    drive: Callable[..., Driven], put: Put, proxy: Proxy
) -> None:
    """And manifests are read once, as long as they are the same."""
    put("", {f"net{number}/1/x": b"x" for number in range(5)})
    put("a/1/", published(FILES))
    proxy.fault = always(PAGES, lambda asked: asked.lists)
    driven = drive(interval_s=0.3)
    driven.await_true(lambda: len(driven.all(Listed)) >= 3, "three listings")
    driven.close()
    assert len(driven.models) == 6
    listings = [asked for asked in proxy.asked if asked.is_first_page]
    assert len(driven.all(Listed)) <= len(listings) <= len(driven.all(Listed)) + 1
    assert sum(asked.lists for asked in proxy.asked) >= 4 * len(driven.all(Listed))
    assert sum(asked.key.endswith("manifest.json") for asked in proxy.asked) == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (FORBIDDEN, "access is denied"),
        (BROKEN, "InternalError"),
        (SLOW_DOWN, "asks for fewer requests"),
        (EMPTY_LISTING, "is empty, and there were 1 models before"),
        (CAPTIVE_PORTAL, ""),
        (Fault(truncate_at=200), ""),
    ],
    ids=["403", "500", "throttled", "empty", "not S3", "truncated"],
)
def test_a_listing_that_fails_changes_nothing_and_the_next_good_one_does(
    drive: Callable[..., Driven], put: Put, proxy: Proxy, fault: Fault, sentence: str
) -> None:
    put("net/1/", published(FILES))
    driven = drive(interval_s=0.1)
    driven.await_version("net", 1)
    proxy.fault = always(fault, lambda asked: asked.lists)
    driven.await_true(lambda: bool(driven.all(ListingFailed)), "a failure")
    assert sentence in driven.all(ListingFailed)[-1].reason
    put("net/2/", published(FILES))
    proxy.fault = no_fault
    driven.await_version("net", 2)
    assert driven.version("net", 1) is not None


def test_redirects_without_end_are_one_sentence() -> None:
    """botocore follows them until Python's stack ends."""

    class Redirected:
        def list_objects_v2(self, **_: object) -> None:
            self.list_objects_v2()

    with pytest.raises(StoreFailed, match=r"^s3://models/ cannot be read: what answers redirects without end; set AWS"):
        S3Store(Redirected(), "models", "").list_all()


def test_manifests_that_cannot_be_read_are_not_taken_for_versions_that_are_not_there(
    drive: Callable[..., Driven], put: Put, proxy: Proxy
) -> None:
    """The first listing waits for them for a while; then what can be read is told, and they are read later."""
    put("net/1/", published(FILES))
    put("other/1/", published(FILES))
    proxy.fault = always(FORBIDDEN, lambda asked: asked.key.endswith("net/1/manifest.json"))
    driven = drive(interval_s=0.05)
    driven.await_true(lambda: bool(driven.all(ListingFailed)), "a listing that failed")
    assert not driven.models
    assert "1 of 2 manifests and labels could not be read" in driven.all(ListingFailed)[0].reason
    driven.await_version("other", 1)
    assert driven.models["net"].versions[0].state == VersionState.UNREAD
    proxy.fault = no_fault
    driven.await_version("net", 1)


def test_a_second_page_that_fails_fails_the_listing(drive: Callable[..., Driven], put: Put, proxy: Proxy) -> None:
    """Half a listing would remove the other half."""
    put("", {f"net{number}/1/x": b"x" for number in range(5)})
    proxy.fault = always(PAGES, lambda asked: asked.lists)
    driven = drive(interval_s=0.1)
    driven.await_true(lambda: len(driven.models) == 5, "all of them")
    proxy.fault = lambda asked: (PAGES if asked.is_first_page else FORBIDDEN) if asked.lists else None
    driven.await_true(lambda: len(driven.all(ListingFailed)) >= 3, "three failures")
    assert len(driven.models) == 5


@pytest.mark.parametrize(
    "fault", [Fault(truncate_at=300_000), BROKEN, SLOW_DOWN, FORBIDDEN], ids=["truncated", "500", "throttled", "403"]
)
def test_a_download_that_fails_once_is_gone_on_with(
    drive: Callable[..., Driven], put: Put, proxy: Proxy, fault: Fault
) -> None:
    put("net/1/", published(FILES))
    driven = drive()
    revision = driven.await_version("net", 1)
    proxy.fault = once(fault, of_weights)
    fetched = driven.fetch(revision)
    assert isinstance(fetched, Fetched)
    assert read(Path(fetched.directory)) == published(FILES)
    if fault.truncate_at:
        assert [asked.range for asked in proxy.asked if of_weights(asked)][1:] == ["bytes=300000-"]


def test_an_object_that_is_gone_is_told_from_one_that_is_forbidden(
    drive: Callable[..., Driven], put: Put, proxy: Proxy
) -> None:
    """S3 says 404 only to a role that may list the whole bucket, and ours may list one prefix of it."""
    put("net/1/", published(FILES))
    driven = drive(interval_s=3600)
    revision = driven.await_version("net", 1)
    proxy.fault = lambda asked: FORBIDDEN if of_weights(asked) else EMPTY_LISTING if asked.lists else None
    failed = driven.fetch(revision)
    assert isinstance(failed, FetchFailed)
    assert "has gone since it was listed" in failed.reason
    assert sum(of_weights(asked) for asked in proxy.asked) == 1


def test_every_answer_is_truncated_and_all_of_it_comes(drive: Callable[..., Driven], put: Put, proxy: Proxy) -> None:
    """Each try goes on from where the last one was cut."""
    put("net/1/", published(FILES))
    driven = drive()
    revision = driven.await_version("net", 1)
    proxy.fault = always(Fault(truncate_at=200_000), of_weights)
    fetched = driven.fetch(revision)
    assert isinstance(fetched, Fetched)
    assert read(Path(fetched.directory)) == published(FILES)


@pytest.mark.parametrize("fault", [FORBIDDEN, SLOW_DOWN], ids=["403", "throttled"])
def test_a_download_that_keeps_failing_is_a_passing_failure_and_the_next_one_succeeds(
    drive: Callable[..., Driven], put: Put, proxy: Proxy, fault: Fault, tmp_path: Path
) -> None:
    put("net/1/", published(FILES))
    driven = drive()
    revision = driven.await_version("net", 1)
    proxy.fault = always(fault, of_weights)
    failed = driven.fetch(revision)
    assert isinstance(failed, FetchFailed)
    assert failed.passing
    assert not (tmp_path / "cache" / "net").exists()
    proxy.fault = no_fault
    assert isinstance(driven.fetch(revision), Fetched)


def test_what_comes_spoiled_is_not_served(drive: Callable[..., Driven], put: Put, proxy: Proxy) -> None:
    """A byte that is another: the manifest's SHA-256 tells, and it is fetched once more."""
    put("net/1/", published(FILES))
    driven = drive()
    revision = driven.await_version("net", 1)
    proxy.fault = once(Fault(spoil_at=1000), of_weights)
    fetched = driven.fetch(revision)
    assert isinstance(fetched, Fetched)
    assert read(Path(fetched.directory)) == published(FILES)


def test_an_object_that_changes_during_its_download_is_not_mixed(
    drive: Callable[..., Driven], put: Put, proxy: Proxy
) -> None:
    """If-Match: the second half of another object is no half of this one."""
    put("net/1/", {"model.pth": WEIGHTS})
    driven = drive(interval_s=0.3)
    revision = driven.await_version("net", 1)
    proxy.fault = once(Fault(stall_at=100_000), of_weights)
    number = driven.begin_fetch(revision)
    driven.await_listings(2)
    changed = {"model.pth": bytes(len(WEIGHTS))}
    put("net/1/", changed)
    proxy.release()
    failed = driven.end_fetch(number)
    assert isinstance(failed, FetchFailed)
    assert failed.passing
    fetched = driven.fetch(driven.await_version("net", 1, other_than=revision.digest))
    assert isinstance(fetched, Fetched)
    assert read(Path(fetched.directory)) == changed


def test_sigkill_in_mid_download_leaves_what_is_gone_on_with(
    drive: Callable[..., Driven], put: Put, proxy: Proxy, tmp_path: Path
) -> None:
    put("net/1/", published(FILES))
    driven = drive()
    revision = driven.await_version("net", 1)
    proxy.fault = always(Fault(stall_at=600_000), of_weights)
    driven.begin_fetch(revision)
    partial = tmp_path / "cache" / ".partial" / "net" / f"1-{revision.digest}" / "content" / "model.pth"
    driven.await_true(lambda: partial.exists() and partial.stat().st_size > 0, "some of it")
    driven.kill()
    have = partial.stat().st_size
    assert 0 < have <= 600_000
    assert not (tmp_path / "cache" / "net").exists()

    proxy.fault = no_fault
    proxy.asked.clear()
    again = drive()
    assert again.await_version("net", 1) == revision
    fetched = again.fetch(revision)
    assert isinstance(fetched, Fetched)
    assert read(Path(fetched.directory)) == published(FILES)
    ranges = [asked.range for asked in proxy.asked if of_weights(asked)]
    assert ranges == [f"bytes={have}-"]


def test_no_more_downloads_at_once_than_allowed_and_one_can_be_cancelled(
    drive: Callable[..., Driven], put: Put, proxy: Proxy
) -> None:
    for number in range(1, 5):
        put(f"net/{number}/", published(FILES))
    driven = drive(max_downloads=2)
    revisions = [driven.await_version("net", number) for number in range(1, 5)]
    proxy.fault = always(Fault(delay_s=600), of_weights)
    numbers = [driven.begin_fetch(revision) for revision in revisions]
    driven.await_true(lambda: sum(map(of_weights, proxy.asked)) == 2, "two of them")
    driven.await_listings(2)
    assert sum(map(of_weights, proxy.asked)) == 2
    driven.cancel(numbers[3])
    proxy.release()
    assert all(isinstance(driven.end_fetch(number), Fetched) for number in numbers[:3])
    cancelled = driven.end_fetch(numbers[3])
    assert isinstance(cancelled, FetchFailed)
    assert cancelled.passing


def test_slow_answers_hold_up_neither_the_reader_nor_what_is_on_the_disk(
    drive: Callable[..., Driven], put: Put, proxy: Proxy
) -> None:
    for number in (1, 2):
        put(f"net/{number}/", published(FILES))
    driven = drive(max_downloads=1)
    first, second = (driven.await_version("net", number) for number in (1, 2))
    assert isinstance(driven.fetch(first), Fetched)
    proxy.fault = always(Fault(delay_s=600))
    slow = driven.begin_fetch(second)
    assert isinstance(driven.fetch(first), Fetched)
    proxy.release()
    assert isinstance(driven.end_fetch(slow), Fetched)


def test_sigkill_at_any_moment_leaves_nothing_that_is_wrong(
    drive: Callable[..., Driven], put: Put, tmp_path: Path
) -> None:
    """In the middle of downloads, of unpacking, of renaming, of removing: what is told as whole is whole."""
    contents = {number: {"model.pth": bytes([number]) * 200_000, "code/a.py": b"a" * number} for number in range(1, 9)}
    for number, files in contents.items():
        put("net/", {f"{number}.tar.gz": archive_of(files)}) if number % 2 else put(f"net/{number}/", published(files))

    def check(directory: str) -> None:
        number = int(Path(directory).name.partition("-")[0])
        wanted = contents[number] if number % 2 else published(contents[number])
        assert read(Path(directory)) == dict(sorted(wanted.items()))

    chance = random.Random(7)  # noqa: S311 - only to choose
    for _ in range(6):
        driven = drive(interval_s=3600)
        revisions = [driven.await_version("net", number) for number in contents]
        for kept in driven.all(Kept):
            check(kept.directory)
        for revision in chance.sample(revisions, 4):
            driven.begin_fetch(revision)
        driven.await_true(lambda driven=driven: len(driven.all(Fetched)) >= 2, "some of them")  # type: ignore[misc]
        for fetched in driven.all(Fetched):
            check(fetched.directory)
            if chance.random() < 0.3:
                driven.send(Remove(directory=fetched.directory))
        driven.kill()
    driven = drive(interval_s=3600)
    for number in contents:
        last = driven.fetch(driven.await_version("net", number))
        assert isinstance(last, Fetched)
        check(last.directory)
    left = [path.name for path in (tmp_path / "cache" / ".trash").iterdir()]
    assert not left


def test_a_bucket_that_is_not_there_is_named(proxy: Proxy, tmp_path: Path) -> None:
    with Driven("s3://nobodys-bucket/x", tmp_path / "cache", environment=proxy.environment) as driven:
        driven.await_true(lambda: bool(driven.all(ListingFailed)), "a failure")
        assert driven.all(ListingFailed)[0].reason == (
            "s3://nobodys-bucket/x/ cannot be read: there is no such bucket."
        )


def test_without_boto3_there_is_one_sentence(tmp_path: Path) -> None:
    """A module of that name that cannot be imported stands for a package that is not there.

    What it prints, as libraries do, comes between no messages.
    """
    (tmp_path / "boto3.py").write_text(
        "import os\nprint('a word', flush=True)\nos.write(1, b'one more')\nraise ImportError('not here')\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
    with Driven(f"s3://{BUCKET}/x", tmp_path / "cache", environment=environment) as driven:
        driven.await_true(lambda: bool(driven.all(ListingFailed)), "a failure")
        assert driven.all(ListingFailed)[0].reason == (
            "s3://models/x needs boto3, which is not installed: pip install 'tidegate[repository]'."
        )


def found_by_name(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, key: str, bucket: str = BUCKET) -> Entry:
    """What the store says of one object, which it does not list."""
    for name, value in proxy.environment.items():
        monkeypatch.setenv(name, value)
    return S3Store.open(f"s3://{bucket}", connections=1).find(key)


def test_an_object_is_found_by_its_name_without_a_listing(
    put: Put, proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("", {"a//model.pth": WEIGHTS})
    entry = found_by_name(proxy, monkeypatch, f"{prefix}/a//model.pth")
    assert (entry.path, entry.size_bytes) == (f"{prefix}/a//model.pth", len(WEIGHTS))
    assert not [asked for asked in proxy.asked if asked.lists]


@pytest.mark.parametrize("bucket", [BUCKET, "no-such-bucket"])
def test_an_object_that_is_not_there_is_said_to_be_missing(
    proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    with pytest.raises(NotThere, match=rf"^s3://{bucket}/{prefix}/x cannot be read: there is no such object, or no "):
        found_by_name(proxy, monkeypatch, f"{prefix}/x", bucket)


def test_an_object_that_may_not_be_looked_at_is_not_said_to_be_missing(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.fault = always(Fault(status=403, body=b""))
    with pytest.raises(StoreFailed, match=r"access is denied .*s3:GetObject") as raised:
        found_by_name(proxy, monkeypatch, "x")
    assert not isinstance(raised.value, NotThere)
