"""A large object of moto's S3, behind a proxy that fails: in parts beside each other, whole, and never another's."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inference.repository.s3_proxy import S3, Fault, Proxy, once
from tidegate.inference.repository import s3_store
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.s3_store import S3Store
from tidegate.inference.repository.store import EntryChanged, StoreFailed
from tidegate.inference.repository.transfer import Transfer

CONTENT = random.Random(5).randbytes(5_000_000)  # noqa: S311 - only to differ
PART = 300_000


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as running:
        running.client().create_bucket(Bucket="models")
        yield running


@pytest.fixture
def proxy(s3: S3) -> Iterator[Proxy]:
    with Proxy(s3.port) as running:
        yield running


@pytest.fixture
def store(s3: S3, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    monkeypatch.setattr(s3_store, "_PART_BYTES", PART)
    monkeypatch.setattr(s3_store, "_LARGE_BYTES", 2 * PART)
    for name, value in proxy.environment.items():
        monkeypatch.setenv(name, value)
    client = s3.client()
    client.put_object(Bucket="models", Key="net/model.pth", Body=CONTENT)
    client.close()
    opened = S3Store.open("s3://models/net/", connections=1)
    yield opened
    opened._client.close()


def brought(store: S3Store, entry: Entry, path: Path) -> str:
    return Transfer(store, check=lambda _: None, wait=lambda _: None).bring(entry, path, None)


def gets(proxy: Proxy) -> list[str | None]:
    return [asked.range for asked in proxy.asked if asked.method == "GET" and asked.key]


def test_it_is_read_in_ranges_and_is_whole(store: S3Store, proxy: Proxy, tmp_path: Path) -> None:
    entry = store.find("model.pth")
    assert brought(store, entry, tmp_path / "model.pth") == hashlib.sha256(CONTENT).hexdigest()
    assert (tmp_path / "model.pth").read_bytes() == CONTENT
    asked = gets(proxy)
    assert len(asked) == len(set(asked)) == -(-len(CONTENT) // PART)
    assert f"bytes=0-{PART - 1}" in asked


def test_several_connections_read_at_a_time(store: S3Store, proxy: Proxy, tmp_path: Path) -> None:
    """Each answer waits until eight are asked for, of which none is asked for twice."""
    entry = store.find("model.pth")

    def fault(asked: Any) -> Fault | None:
        if asked.method == "GET" and asked.key and len(gets(proxy)) >= 8:
            proxy.release()
        return Fault(delay_s=600) if asked.method == "GET" and asked.key else None

    proxy.fault = fault
    assert brought(store, entry, tmp_path / "model.pth") == hashlib.sha256(CONTENT).hexdigest()
    assert len(set(gets(proxy)[:8])) == 8


def test_it_goes_on_from_a_cut_and_from_what_an_earlier_process_left(
    store: S3Store, proxy: Proxy, tmp_path: Path
) -> None:
    """What came before the cut, in the middle of a part, is not fetched again."""
    entry = store.find("model.pth")
    path = tmp_path / "model.pth"
    path.write_bytes(CONTENT[:100_000])
    proxy.fault = once(Fault(truncate_at=50_000), lambda asked: asked.range == f"bytes=400000-{400_000 + PART - 1}")
    assert brought(store, entry, path) == hashlib.sha256(CONTENT).hexdigest()
    assert path.read_bytes() == CONTENT
    asked = gets(proxy)
    assert asked.count(f"bytes=100000-{100_000 + PART - 1}") == 1
    assert f"bytes=450000-{450_000 + PART - 1}" in asked


def test_an_object_that_changes_between_its_parts_is_not_mixed(
    store: S3Store, proxy: Proxy, s3: S3, tmp_path: Path
) -> None:
    entry = store.find("model.pth")
    pieces = store.read(entry)
    came = [next(pieces)]
    client = s3.client()
    client.put_object(Bucket="models", Key="net/model.pth", Body=bytes(len(CONTENT)))
    client.close()
    with pytest.raises(EntryChanged):
        came.extend(pieces)
    assert CONTENT.startswith(b"".join(came))


def test_a_spoiled_part_is_found_by_the_checksum_that_s3_keeps_and_all_is_fetched_again(
    store: S3Store, proxy: Proxy, s3: S3, tmp_path: Path
) -> None:
    """Where a manifest has no SHA-256 of it."""
    client = s3.client()
    client.put_object(Bucket="models", Key="net/model.pth", Body=CONTENT, ChecksumAlgorithm="CRC32")
    client.close()
    entry = store.find("model.pth")
    proxy.fault = once(Fault(spoil_at=1000), lambda asked: asked.range == f"bytes=600000-{600_000 + PART - 1}")
    assert brought(store, entry, tmp_path / "model.pth") == hashlib.sha256(CONTENT).hexdigest()
    assert gets(proxy).count(f"bytes=0-{PART - 1}") == 2


def test_a_store_that_keeps_failing_is_one_error(store: S3Store, proxy: Proxy, tmp_path: Path) -> None:
    entry = store.find("model.pth")
    proxy.fault = lambda asked: Fault(status=403, code="AccessDenied") if asked.key else None
    with pytest.raises(StoreFailed, match="access is denied"):
        brought(store, entry, tmp_path / "model.pth")
