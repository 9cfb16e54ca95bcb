"""`tidegate serve s3://…` and `check`: moto's S3 behind a proxy that refuses, cuts, stalls and sends elsewhere."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.contract.models import DOUBLE
from tests.contract.running import free_port, wait_until
from tests.contract.test_command_line import ENVIRONMENT, TIDEGATE, refusal, serving
from tests.inference.repository.files import archive_of, published
from tests.inference.repository.s3_proxy import BROKEN, FORBIDDEN, S3, Asked, Fault, Proxy, always

BUCKET = "models"
FILES = {"code/inference.py": DOUBLE.encode(), "weights.bin": bytes(range(256)) * 4096}
ARCHIVE = archive_of(published(FILES))
Put = Callable[[Mapping[str, bytes]], str]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as running:
        running.client().create_bucket(Bucket=BUCKET)
        yield running


@pytest.fixture
def proxy(s3: S3) -> Iterator[Proxy]:
    with Proxy(s3.port) as running:
        yield running


_prefixes = itertools.count()


@pytest.fixture
def put(s3: S3) -> Iterator[Put]:
    """Writes objects below a new prefix; returns its address."""
    client, prefix = s3.client(), f"job-{next(_prefixes)}"

    def write(files: Mapping[str, bytes]) -> str:
        for name, content in files.items():
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=content)
        return f"s3://{BUCKET}/{prefix}"

    yield write
    client.close()


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def serves(proxy: Proxy, tmp_path: Path, temporary: Path) -> Callable[[str], None]:
    """Serves what is at an address, asks it, and looks that nothing is left."""

    def serve(address: str) -> None:
        port = free_port()
        environment = {**proxy.environment, "TMPDIR": str(temporary)}
        with serving(address, f"--port={port}", cwd=tmp_path, port=port, **environment) as server:
            assert server.post(b"[[1]]").json() == [[2.0]]
            assert '"host": "127.0.0.1"' in server.log()
            assert server.terminate() == 0
        assert list(temporary.iterdir()) == []

    return serve


@pytest.fixture
def refuses(proxy: Proxy, tmp_path: Path, temporary: Path) -> Callable[..., str]:
    """The sentence about what cannot be served; nothing of it is left."""

    def refuse(address: str, **environment: str) -> str:
        environment = {**proxy.environment, "TMPDIR": str(temporary), "AWS_MAX_ATTEMPTS": "1", **environment}
        status, line = refusal("serve", address, cwd=tmp_path, **environment)
        assert status == 1
        assert list(temporary.iterdir()) == []
        assert line.startswith("tidegate: error: ")
        return line.removeprefix("tidegate: error: ")

    return refuse


def gets(asked: Asked) -> bool:
    """Whether it asks for the content of an object."""
    return asked.method == "GET" and not asked.lists


# --- what is served


def test_an_archive_is_served_without_the_right_to_list(put: Put, proxy: Proxy, serves: Callable[[str], None]) -> None:
    proxy.fault = always(FORBIDDEN, lambda asked: asked.lists)
    serves(f"{put({'model.tar.gz': ARCHIVE})}/model.tar.gz")


def test_an_archive_of_any_name_is_served(put: Put, serves: Callable[[str], None]) -> None:
    serves(f"{put({'packed': ARCHIVE})}/packed")


@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_is_served_as_the_directory_that_it_is(put: Put, serves: Callable[[str], None], end: str) -> None:
    serves(f"{put(published(FILES))}{end}")


def test_what_a_training_job_left_is_served_by_the_jobs_prefix(put: Put, serves: Callable[[str], None]) -> None:
    address = put({"output/model.tar.gz": ARCHIVE, "profiler-output/system.json": b"{}", "debug-output/": b""})
    serves(f"{address}/")


def test_a_download_that_breaks_is_gone_on_with(put: Put, proxy: Proxy, serves: Callable[[str], None]) -> None:
    left = [Fault(truncate_at=400_000), Fault(truncate_at=300_000)]
    proxy.fault = lambda asked: left.pop() if left and gets(asked) and asked.key.endswith("weights.bin") else None
    serves(f"{put(published(FILES))}/")
    ranges = [asked.range for asked in proxy.asked if gets(asked) and asked.key.endswith("weights.bin")]
    assert ranges[0] is None
    assert all(each is not None for each in ranges[1:])
    assert len(ranges) == 3


# --- what is not


def test_an_object_that_is_not_there_is_said(put: Put, refuses: Callable[..., str]) -> None:
    address = put({"other.tar.gz": ARCHIVE})
    said = f"{address}/model.tar.gz cannot be read: there is no such object, or no such bucket."
    assert refuses(f"{address}/model.tar.gz") == said
    assert refuses(f"{address}/nothing/") == f"{address}/nothing/ holds nothing."
    assert refuses(f"{address}/nothing") == f"{address}/nothing/ holds nothing."
    assert refuses("s3://no-such-bucket/a/") == "s3://no-such-bucket/a/ cannot be read: there is no such bucket."


def test_a_role_that_may_not_read_is_told_what_it_needs(put: Put, proxy: Proxy, refuses: Callable[..., str]) -> None:
    address = put({"model.tar.gz": ARCHIVE})
    proxy.fault = always(FORBIDDEN)
    for end in ("/model.tar.gz", "/"):
        said = refuses(f"{address}{end}")
        assert said.startswith(f"{address}{end} cannot be read: access is denied (")
        assert said.endswith("the role needs s3:ListBucket on the bucket and s3:GetObject below the prefix.")


def test_a_download_that_always_breaks_ends_with_the_reason(
    put: Put, proxy: Proxy, refuses: Callable[..., str]
) -> None:
    address = put({"model.tar.gz": ARCHIVE})
    proxy.fault = always(Fault(truncate_at=0), gets)
    assert refuses(f"{address}/model.tar.gz").startswith(f"{address}/model.tar.gz ")
    proxy.fault = always(BROKEN, gets)
    assert "InternalError" in refuses(f"{address}/model.tar.gz")


def test_a_store_that_sends_elsewhere_for_ever_is_one_sentence(
    put: Put, proxy: Proxy, refuses: Callable[..., str]
) -> None:
    """As it is with a bucket of another region behind an address that knows one alone."""
    address = put({"model.tar.gz": ARCHIVE})
    proxy.fault = always(Fault(status=301, code="PermanentRedirect"))
    assert refuses(f"{address}/model.tar.gz").startswith(f"{address}/model.tar.gz cannot be read: ")


def test_what_is_no_archive_there_is_refused_as_it_is_here(put: Put, refuses: Callable[..., str]) -> None:
    address = put({"model.tar.gz": b"<html>", "spoiled.tar.gz": ARCHIVE[:-100]})
    assert refuses(f"{address}/model.tar.gz") == f"{address}/model.tar.gz is an HTML page, not a gzipped tar archive."
    assert refuses(f"{address}/spoiled.tar.gz").startswith(f"{address}/spoiled.tar.gz is no readable gzipped tar ")


def test_a_model_that_is_too_large_is_not_fetched(put: Put, proxy: Proxy, refuses: Callable[..., str]) -> None:
    address = put(published(FILES))
    said = refuses(f"{address}/", TIDEGATE_MAX_DISK_BYTES="1000")
    assert said.startswith(f"{address}/ needs ")
    assert " bytes on the disk or more, and 1000 are left for it in " in said
    assert not any(gets(asked) for asked in proxy.asked)


def test_a_manifest_is_held_to(put: Put, refuses: Callable[..., str]) -> None:
    files = {**published(FILES), "weights.bin": b"another"}
    assert "weights.bin has 7 bytes; the manifest says 1048576." in refuses(f"{put(files)}/")


def test_what_holds_several_models_asks_for_one(put: Put, refuses: Callable[..., str]) -> None:
    address = put({"1/model.pth": b"", "2/model.pth": b""})
    assert refuses(f"{address}/") == (
        f"{address}/ holds versions, not one model: name one of them (1/, 2/), or serve them all by "
        "TIDEGATE_MODEL_REPOSITORY."
    )


@pytest.mark.parametrize("bucket", ["A_bucket", "b", "-bucket", "bucket-", "x" * 64])
def test_what_no_bucket_is_called_is_said_of_the_bucket(refuses: Callable[..., str], bucket: str) -> None:
    assert refuses(f"s3://{bucket}/model.tar.gz").startswith(
        f"s3://{bucket}/model.tar.gz: no bucket of S3 is called '{bucket}': names have 3 to 63 characters, "
    )


@pytest.mark.parametrize("address", ["s3://", "s3:///key"])
def test_what_is_no_address_is_refused(refuses: Callable[..., str], address: str) -> None:
    assert refuses(address) == f"{address} must be s3://bucket/key.tar.gz or s3://bucket/prefix/."


def test_a_signal_while_it_is_fetched_leaves_nothing(put: Put, proxy: Proxy, tmp_path: Path, temporary: Path) -> None:
    longer_than_that = {**FILES, "weights.bin": os.urandom(1_000_000)}  # which gzip cannot shorten
    address = put({"model.tar.gz": archive_of(published(longer_than_that))})
    proxy.fault = always(Fault(stall_at=100_000), gets)
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 0)):
        process = subprocess.Popen(
            [*TIDEGATE, "serve", f"{address}/model.tar.gz", "--port", str(free_port())],
            cwd=tmp_path,
            env={**ENVIRONMENT, **proxy.environment, "TMPDIR": str(temporary)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: list(temporary.glob("*/archive/*")), "it is fetched")
        process.send_signal(number)
        assert process.wait(timeout=60) == status
        assert list(temporary.iterdir()) == []
