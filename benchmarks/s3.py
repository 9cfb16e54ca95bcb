"""`python -m benchmarks.s3`: a large object out of S3 onto the disk, as the server reads it and beside others.

Two stores: the local cloud's S3, and one that answers ranges from a file at 90 MB/s for each
connection, about what S3 gives to one. Each run is a process of its own and ends with the SHA-256 of what is on the
disk, which must be the object's. `one` is what the server did before: one connection, without parts. CPU is that of the
reading process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from awscrt import http, io, s3

from benchmarks import machine
from benchmarks.environments import BUILD
from tests.inference.repository.s3_proxy import ENVIRONMENT, S3
from tidegate.inference.repository import s3_store
from tidegate.inference.repository.transfer import Transfer

RESULTS = Path(__file__).parent / "results" / "s3.md"
FOLDER = BUILD / "s3"
OBJECT, COPY = FOLDER / "object", FOLDER / "copy"
BUCKET, KEY, TAG = "models", "net/model.safetensors", '"90"'
MIB = 1 << 20
BYTES_PER_S = 90_000_000
MEANT_FOR = "s3://models/net/"
STORES = {"local": "the local S3", "limited": "90 MB/s for each connection"}


def ours(path: Path) -> str:
    store = s3_store.S3Store.open(MEANT_FOR, connections=1)
    entry = store.find(KEY.rpartition("/")[2])
    return Transfer(store, check=lambda _: None, wait=time.sleep).bring(entry, path, None)


def one(path: Path) -> str:
    s3_store._LARGE_BYTES = sys.maxsize
    return ours(path)


def boto3_transfer(path: Path) -> str:
    boto3.client("s3").download_file(BUCKET, KEY, str(path))
    return _sha256(path)


def awscrt_to_file(path: Path) -> str:
    """Its own ranges and threads, written by itself; signed by botocore's URL, so that it asks whom boto3 would ask."""
    url = urlsplit(boto3.client("s3").generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": KEY}))
    loops = io.EventLoopGroup()
    client = s3.S3Client(
        bootstrap=io.ClientBootstrap(loops, io.DefaultHostResolver(loops)),
        region=ENVIRONMENT["AWS_DEFAULT_REGION"],
        tls_mode=s3.S3RequestTlsMode.DISABLED,
        part_size=8 * MIB,
        throughput_target_gbps=10,
    )
    request = http.HttpRequest("GET", f"{url.path}?{url.query}", http.HttpHeaders([("Host", url.netloc)]))
    asked = client.make_request(type=s3.S3RequestType.GET_OBJECT, request=request, recv_filepath=str(path))
    asked.finished_future.result()
    return _sha256(path)


WAYS: Mapping[str, tuple[str, Callable[[Path], str]]] = {
    "ours": ("ours: parts by boto3, in order", ours),
    "one": ("one connection", one),
    "boto3": ("boto3's transfer, then hashed", boto3_transfer),
    "awscrt": ("awscrt into a file, then hashed", awscrt_to_file),
    "control": ("ours again (control)", ours),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3", description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(_run(options.run)))
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    with OBJECT.open("wb") as file:
        for _ in range(options.mib):
            file.write(os.urandom(MIB))
    rounds: list[dict[str, dict[str, Any]]] = []
    described = machine.describe()
    with _local() as local, _limited() as limited:
        for number in range(options.repetitions):
            order = list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]
            for store, url in (("local", local), ("limited", limited)):
                rounds.append({f"{store} {way}": _measured(way, url) for way in order})
    options.output.write_text(_page(rounds, options.mib, options.repetitions, described), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))
    for path in (OBJECT, COPY):
        path.unlink(missing_ok=True)
    return 0


def _run(way: str) -> dict[str, float | str]:
    COPY.unlink(missing_ok=True)
    boto3.client("s3")  # the import and the model of the API are no part of reading
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    sha256 = WAYS[way][1](COPY)
    took_s, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"took_s": took_s, "cpu_s": cpu_s, "peak_mib": (after.ru_maxrss - before.ru_maxrss) / 1024, "sha256": sha256}


def _measured(way: str, url: str) -> dict[str, Any]:
    environment = {**os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL": url, "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "benchmarks.s3", "--run", way]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["sha256"] != _sha256(OBJECT):
        raise SystemExit(f"{way} brought something else")
    return found


def _page(rounds: list[dict[str, dict[str, Any]]], mib: int, repetitions: int, described: Mapping[str, str]) -> str:
    facts = "\n".join(f"* {name}: {value}" for name, value in described.items() if name not in ("load", "Java"))
    rows = []
    for store, where in STORES.items():
        for way, (name, _) in WAYS.items():
            runs = [each[f"{store} {way}"] for each in rounds if f"{store} {way}" in each]
            base = [each[f"{store} boto3"] for each in rounds if f"{store} {way}" in each]
            took_s = statistics.median(run["took_s"] for run in runs)
            ratio = statistics.median(b["took_s"] / run["took_s"] for run, b in zip(runs, base, strict=True))
            cpu_s = statistics.median(run["cpu_s"] for run in runs)
            peak = max(run["peak_mib"] for run in runs)
            speed = mib * MIB / took_s / 1e6
            figures = f"{took_s:.2f} s | {speed:.0f} MB/s | {ratio:.2f} | {cpu_s:.2f} s | {peak:.0f} MiB"
            rows.append(f"| {where} | {name} | {figures} |")
    columns = "store | reader | time | speed | boto3's time by it | CPU | peak beyond the imports"
    return (
        f"# Reading from S3\n\n{__doc__}\n{mib} MiB of noise; medians of {repetitions} rounds, ratios formed within a "
        f"round, the highest peak of all.\n\n{facts}\n\n| {columns} |\n| --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _local() -> Iterator[str]:
    with S3(from_files=True) as running:
        client = running.client()
        client.create_bucket(Bucket=BUCKET)
        client.upload_file(str(OBJECT), BUCKET, KEY)
        yield running.url


@contextmanager
def _limited() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Limited)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Limited(BaseHTTPRequestHandler):
    """One object, whole or in ranges."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._head(200, OBJECT.stat().st_size)

    def do_GET(self) -> None:
        size = OBJECT.stat().st_size
        first, last = 0, size - 1
        if asked := self.headers.get("Range"):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or size), size - 1)
        more = {"Content-Range": f"bytes {first}-{last}/{size}"} if asked else {}
        self._head(206 if asked else 200, last + 1 - first, **more)
        begun, sent, count = time.monotonic(), 0, last + 1 - first
        with OBJECT.open("rb") as file:
            while sent < count:
                piece = min(MIB, count - sent)
                sent += os.sendfile(self.connection.fileno(), file.fileno(), first + sent, piece)
                time.sleep(max(0.0, sent / BYTES_PER_S - (time.monotonic() - begun)))

    def _head(self, status: int, length: int, **more: str) -> None:
        self.send_response(status)
        headers = {"ETag": TAG, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Accept-Ranges": "bytes", **more}
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()


if __name__ == "__main__":
    sys.exit(main())
