"""A process that is killed while its file goes up, and S3 that breaks off, refuses or fails, on a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.client.table.conftest import Account
from tests.local_cloud.conftest import await_true
from tidegate.client.table.job_objects import Place
from tidegate.client.table.reading import ObjectReader, ahead, chunks, window
from tidegate.client.table.upload import Upload

# Writes 6 MiB parts for ever, each as soon as the one before is up.
WRITER = """
import signal
import boto3
from tidegate.client.table import upload
from tidegate.client.table.job_objects import Place
upload.PART_BYTES = 6 * 2**20
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
with upload.Upload(boto3.client("s3"), Place(bucket="data", key="tables/part-0.parquet")) as file:
    while True:
        file.write(bytes(2**20))
"""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="data")
    yield client
    for upload in client.list_multipart_uploads(Bucket="data").get("Uploads", []):
        client.abort_multipart_upload(Bucket="data", Key=upload["Key"], UploadId=upload["UploadId"])
    for item in client.list_objects_v2(Bucket="data").get("Contents", []):
        client.delete_object(Bucket="data", Key=item["Key"])
    client.delete_bucket(Bucket="data")
    client.close()
    server.stop()


def parts(s3: Any) -> int:
    uploads = s3.list_multipart_uploads(Bucket="data").get("Uploads", [])
    found = [s3.list_parts(Bucket="data", Key=each["Key"], UploadId=each["UploadId"]) for each in uploads]
    return sum(len(each.get("Parts", [])) for each in found)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_ends_in_the_middle_leaves_no_object(s3: Any, how: signal.Signals) -> None:
    """Ctrl-C takes the parts away as well; after a kill the bucket's lifecycle rule does."""
    process = subprocess.Popen([sys.executable, "-c", WRITER], env=dict(os.environ), stderr=subprocess.DEVNULL)
    try:
        await_true(lambda: parts(s3) > 0, "a part is up", timeout_s=200)
        process.send_signal(how)
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
    assert "Contents" not in s3.list_objects_v2(Bucket="data")
    assert (parts(s3) > 0) == (how == signal.SIGKILL)


def test_a_process_that_gets_to_its_end_leaves_one_object_of_several_parts(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.client.table.upload.PART_BYTES", 5 * 2**20)
    content = os.urandom(12 * 2**20)
    with Upload(s3, Place(bucket="data", key="whole")) as file:
        for begin in range(0, len(content), 2**20):
            file.write(memoryview(content)[begin : begin + 2**20])
        assert "Contents" not in s3.list_objects_v2(Bucket="data")
        file.commit()
    assert s3.get_object(Bucket="data", Key="whole")["Body"].read() == content
    assert parts(s3) == 0


class Cutting(BaseHTTPRequestHandler):
    """Answers a GET of any object with 100,000 bytes, and cuts each connection after 30,000 of them."""

    content = bytes(range(250)) * 400
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        rest = self.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sun, 01 Mar 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(rest[:30_000])
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


def test_a_connection_that_is_cut_is_made_again_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.client.table.reading.FIRST_CHUNK_BYTES", 7000)
    with ThreadingHTTPServer(("127.0.0.1", 0), Cutting) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            client = boto3.client(
                "s3",
                endpoint_url=f"http://127.0.0.1:{server.server_port}",
                aws_access_key_id="x",
                aws_secret_access_key="x",
                region_name="us-east-1",
                config=Config(retries={"max_attempts": 0}),
            )
            reader = ObjectReader(client, Place(bucket="data", key="a"), missing="", sleep=lambda _: None)
            assert b"".join(chunks(reader, packed=False)) == Cutting.content
            client.close()
        finally:
            server.shutdown()
            serving.join()


def test_nothing_goes_on_being_read_for_whoever_stopped(account: Account) -> None:
    """A window that is left early lets all that it began go, also what is just being read."""
    for number in range(20):
        account.put(f"in/{number}", b"x")
    readers: list[ObjectReader] = []

    def start(number: int) -> Any:
        place = Place(bucket="data", key=f"in/{number}")
        readers.append(ObjectReader(account.s3, place, missing=""))
        return ahead(chunks(readers[-1], packed=False), pool)

    with ThreadPoolExecutor(4) as pool:
        opened = window(range(20), size=5, start=start)
        next(opened)
        assert len(readers) == 6
        opened.close()
        check: Callable[[ObjectReader], bool] = lambda each: each._body is None  # noqa: E731
        assert all(check(each) for each in readers)
