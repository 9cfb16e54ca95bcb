"""The real server over a run's ModelLoader: a map goes in and a picture comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.asking import metric
from tests.contract.running import Server, running, write_files
from tests.contract.test_check import check, last_line
from tests.inference.model_loader.runs import (
    CODE,
    PAINTED_SEA,
    PAINTED_SKY,
    RUN,
    SEA,
    SKY,
    drawn,
    pixels_of,
    uri_of,
    weights,
)
from tidegate.inference.images import data_uri

SCRIPT = """
from tidegate.model_loader import functions_of

model_fn, input_fn, predict_fn, output_fn = functions_of("models.yaml")
"""
FILES: dict[str, str | bytes] = {
    "code/inference.py": SCRIPT,
    "code/painter_of_tests.py": CODE,
    "models.yaml": f"62:{RUN}  weights: net.pth\n  max_pixels: 16\n",
    "net.pth": weights(),
}
MAP = [SKY, SEA]
TOO_LARGE = [SKY] * 17
TOO_MANY_PIXELS = "The image is 17 x 1 pixels (width x height); this model takes at most 16 pixels."
PICTURE = [[list(PAINTED_SKY), list(PAINTED_SEA)]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(FILES) as started:
        yield started


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("image/avif,image/webp,image/png,*/*;q=0.8", "image/webp"),
        ("image/png;q=0.5, image/jpeg;q=0.9", "image/jpeg"),
        ("image/*", "image/png"),
        ("image/*, image/png;q=0", "image/jpeg"),
        ("text/html, application/*;q=0.1", "application/json"),
        ("*/*", "application/json"),
        ("application/json;q=0, */*", "image/png"),
    ],
)
def test_accept_is_obeyed_by_weight_and_wildcard(server: Server, accept: str, answered: str) -> None:
    for sent, content_type in ((body(uri_of(MAP)), "application/json"), (drawn(MAP), "application/x-image")):
        reply = server.post(sent, content_type, accept=accept)
        assert (reply.status, reply.headers["content-type"]) == (200, answered)


def body(uri: object) -> str:
    return json.dumps({"segmap": uri})


def test_a_data_uri_is_answered_with_one(server: Server) -> None:
    reply = server.post(body(uri_of(MAP)))
    assert reply.headers["content-type"] == "application/json"
    assert list(reply.json()) == ["image"]
    assert pixels_of(reply.json()["image"]) == PICTURE


def test_maps_and_pictures_may_be_the_bytes_themselves(server: Server) -> None:
    """As the body's type and Accept say, each for itself."""
    for sent, content_type in ((drawn(MAP), "image/png"), (body(uri_of(MAP)), "application/json")):
        for accept in ("image/png", "application/json;q=0.1, image/png"):
            reply = server.post(sent, content_type, accept=accept)
            assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
            assert pixels_of(data_uri.write(reply.body, "image/png")) == PICTURE
        assert pixels_of(server.post(sent, content_type, accept="*/*").json()["image"]) == PICTURE
    assert server.post(drawn(MAP), "image/png", accept="image/jpeg").headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("sent", "content_type", "accept", "status", "message"),
    [
        (body(uri_of([(1, 2, 3)])), "application/json", "*/*", 400, "The colour #010203 at x=0, y=0"),
        (body("data:image/jpeg" + uri_of(MAP)[14:]), "application/json", "*/*", 400, "its bytes are image/png"),
        (body(7), "application/json", "*/*", 400, 'The body must be {"segmap": "data:image/png;base64,…"}.'),
        ("[]", "application/json", "*/*", 400, 'The body must be {"segmap": "data:image/png;base64,…"}.'),
        ("{", "application/json", "*/*", 400, "The body is not JSON: "),
        ("[" * 100_000, "application/json", "*/*", 400, "The body is not JSON: "),
        (b"\xff\xfe", "application/json", "*/*", 400, "The body is not valid utf-8: "),
        (b"no image", "image/png", "*/*", 400, "not an image"),
        (body(uri_of(TOO_LARGE)), "application/json", "*/*", 400, TOO_MANY_PIXELS),
        (drawn(TOO_LARGE), "image/png", "*/*", 400, TOO_MANY_PIXELS),
        ("a,b", "text/csv", "*/*", 415, "A map comes as application/json or as an image, such as image/png; this is"),
        (body(uri_of(MAP)), "application/json", "text/html", 406, "Accept 'text/html' cannot be answered; this model"),
        ("no map", "application/json", "text/csv", 406, "this model writes application/json, image/png, image/jpeg, i"),
        (body("data:text/html" + uri_of(MAP)[14:]), "application/json", "*/*", 400, "says that it is text/html; this"),
    ],
)
def test_what_is_no_map_is_one_sentence(
    server: Server, sent: str | bytes, content_type: str, accept: str, status: int, message: str
) -> None:
    reply = server.post(sent, content_type, accept=accept)
    assert reply.status == status, reply.body
    assert message in reply.error["message"]
    assert server.post(body(uri_of(MAP))).status == 200


def test_a_run_that_cannot_be_loaded_is_the_last_line_of_check(tmp_path: Path) -> None:
    """In the configuration's own words, without a traceback of the script."""
    write_files(tmp_path, {**FILES, "models.yaml": f"62:{RUN}  weigths: net.pth\n"})
    done = check(tmp_path)
    assert done.returncode == 1
    assert "line 5, column 3: run '62' has the unknown key 'weigths'; did you mean 'weights'?" in last_line(done.stderr)
    write_files(tmp_path, FILES)
    done = check(tmp_path)
    assert done.returncode == 0, done.stderr


def test_maps_of_one_size_share_a_call_where_that_is_declared(tmp_path: Path) -> None:
    """The first call waits for the others; each client gets its own picture, or is told that its map is too large."""
    waits = tmp_path / "waits"
    said = (
        f"        import os, time\n        while os.path.exists({str(waits)!r}):\n"
        "            time.sleep(0.01)\n        print('maps:', len(labels), flush=True)\n"
    )
    slow = CODE.replace("        return self.scale", f"{said}        return self.scale", 1)
    declared = json.dumps({"format_version": 1, "files": {}, "batching": True})
    files = {**FILES, "code/painter_of_tests.py": slow, "manifest.json": declared}
    with running(files, TIDEGATE_MAX_BATCH_SIZE="8") as batching, ThreadPoolExecutor(17) as clients:
        maps = [MAP if number % 2 else MAP[::-1] for number in range(16)]
        waits.touch()
        asked = clients.map(lambda row: batching.post(body(uri_of(row))), [*maps, TOO_LARGE])
        batching.wait_until(lambda: metric(batching, "tidegate_waiting", "tidegate_in_flight") >= 16, "they are there")
        waits.unlink()
        *replies, refused = asked
        assert (refused.status, refused.error["message"]) == (400, TOO_MANY_PIXELS)
        pictures = [pixels_of(reply.json()["image"]) for reply in replies]
        assert pictures == [PICTURE if number % 2 else [PICTURE[0][::-1]] for number in range(16)]
        assert max(map(int, re.findall(r"maps: (\d+)", batching.log()))) > 1
