"""Records in, records out, through a real server whose functions are all its own but the model's."""

from __future__ import annotations

import gzip
import io
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.running import Reply, Server, running

SUMS = """
import torch

def model_fn(model_dir):
    net = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.BatchNorm1d(3))
    torch.nn.init.ones_(net[0].weight)
    net[1].eps = 0.0
    return net
"""
LOOKS = """
def model_fn(model_dir):
    return lambda pixels: {"shape": list(pixels.shape), "colour": pixels[0, :, 0, 0]}
"""


TYPES = ("text/csv", "application/jsonlines", "application/x-npy", "text/csv; charset=utf-16")
BATCHES = {"TIDEGATE_MAX_BATCH_SIZE": "8", "TIDEGATE_WORKERS": "1"}


@pytest.fixture(scope="module", params=[{}, BATCHES], ids=["alone", "batches"])
def sums(request):
    with running({"code/inference.py": SUMS}, **request.param) as server:
        yield server


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def written(number: int) -> tuple[str, bytes, int]:
    """A request of 1 to 4 records whose rows sum up to `number`, in one of several types."""
    count = number % 4 + 1
    rows = [[number, 0, 0, 0]] * count
    content_type = TYPES[number // 4 % 4]
    if content_type == "application/x-npy":
        return content_type, npy(np.asfortranarray(np.array(rows, ">f4"))), count
    if content_type == "application/jsonlines":
        return content_type, "\n \n".join(map(str, rows)).encode("utf-8-sig"), count
    text = "\n\n".join(",".join(map(str, row)) for row in rows) + "\n\n"
    return content_type, text.encode("utf-16" if "utf-16" in content_type else "utf-8-sig"), count


def test_every_request_has_a_line_for_each_of_its_records_whoever_else_asks(sums: Server):
    def ask(number: int) -> tuple[Reply, list[str]]:
        content_type, body, count = written(number)
        packed = {"content-encoding": "gzip"} if number % 3 == 0 else {}
        body = gzip.compress(body) if packed else body
        return sums.post(body, content_type, accept="text/csv", **packed), [f"{number}.0,{number}.0,{number}.0"] * count

    with ThreadPoolExecutor(16) as clients:
        for reply, expected in clients.map(ask, range(160)):
            assert (reply.status, reply.body.decode().split()) == (200, expected)


@pytest.mark.parametrize(
    ("coding", "body", "status", "words"),
    [
        ("gzip", gzip.compress(b"[[1, 2, 3, 4]]", mtime=0), 200, ""),
        ("deflate", zlib.compress(b"[[1, 2, 3, 4]]"), 200, ""),
        ("identity", b"[[1, 2, 3, 4]]", 200, ""),
        ("br", b"[[1, 2, 3, 4]]", 415, "Content-Encoding 'br' cannot be unpacked"),
        ("gzip", b"[[1, 2, 3, 4]]", 400, "Content-Encoding 'gzip'"),
    ],
)
def test_a_packed_body_is_unpacked_or_refused_by_the_name_of_the_header(sums: Server, coding, body, status, words):
    reply = sums.post(body, content_encoding=coding)
    assert reply.status == status
    assert words in reply.body.decode()


def test_a_bomb_costs_nothing_but_its_own_request():
    with running({"code/inference.py": SUMS}, TIDEGATE_MAX_DECODED_BYTES="1000000") as server:
        reply = server.post(gzip.compress(bytes(2**28)), content_encoding="gzip")
        assert (reply.status, reply.error["code"]) == (413, "payload_too_large")
        assert server.post(b"1,2,3,4", "text/csv", accept="text/csv").body == b"10.0,10.0,10.0\n"


def test_the_deployer_decides_how_images_are_read():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    picture.save(file, "PNG", exif=exif)
    found = []
    for orientation, background in (("obey", "white"), ("ignore", "none")):
        variables = {"TIDEGATE_IMAGE_ORIENTATION": orientation, "TIDEGATE_IMAGE_BACKGROUND": background}
        with running({"code/inference.py": LOOKS}, **variables) as server:
            found.append(server.post(file.getvalue(), "application/x-image").json())
    assert found == [
        {"shape": [1, 3, 2, 1], "colour": [1.0, 1.0, 1.0]},
        {"shape": [1, 3, 1, 2], "colour": [1.0, 0.0, 0.0]},
    ]
