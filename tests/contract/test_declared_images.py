"""The real server takes and gives pictures for a model without a script, as its manifest says."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.contract.running import Server, running, start, wait_until, write_files
from tests.contract.test_check import check

COLOURS = {"night": [0, 0, 0], "dawn": [200, 0, 0], "meadow": [0, 200, 0]}
IMAGE = {
    "input": {
        "key": "segmap",
        "as": "labels",
        "palette": {"colours": list(COLOURS.values()), "names": list(COLOURS)},
        "size": {"height": 64, "width": 64, "policy": "limit"},
    },
    "output": {"key": "image", "value_range": [-1, 1]},
}


PAINT = """
import torch

class Paint(torch.nn.Module):
    # Labels (n, height, width) to a picture whose red is the label, from -1 to 1.
    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(1))

    def forward(self, labels):
        assert labels.dtype == torch.int64, labels.dtype
        red = labels.to(torch.float32) + self.shift
        return torch.stack([red, torch.zeros_like(red), torch.full_like(red, 1.5)], 1)
"""


LOOKS = """
def model_fn(model_dir):
    return lambda pixels: {"shape": list(pixels.shape), "colour": pixels[0, :, 0, 0]}
"""


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def shown(data: bytes) -> list[Any]:
    with Image.open(io.BytesIO(data)) as picture:
        return list(np.asarray(picture).tolist())


MAP = png([list(COLOURS.values())])
WANTED = [[[0, 128, 255], [128, 128, 255], [255, 128, 255]]]


def files(image: Any, **more: Any) -> dict[str, str | bytes]:
    """A model without an inference.py: its network's code, its weights, and a manifest that says the rest."""
    state = io.BytesIO()
    torch.save({"shift": torch.tensor([-1.0])}, state)
    weights = {"file": "model.pth", "format": "state_dict", "architecture": "network:Paint"}
    manifest = {"format_version": 1, "files": {}, "weights": weights, "image": image} | more
    return {"model.pth": state.getvalue(), "code/network.py": PAINT, "manifest.json": json.dumps(manifest)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(files(IMAGE), TIDEGATE_MAX_DECODED_BYTES="1000000") as started:
        yield started


def test_a_data_uri_goes_in_and_one_comes_out(server: Server) -> None:
    reply = server.post(json.dumps({"segmap": uri(MAP)}))
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    head, _, payload = reply.json()["image"].partition(",")
    assert head == "data:image/png;base64"
    assert shown(base64.b64decode(payload, validate=True)) == WANTED


def test_bytes_go_in_and_bytes_come_out(server: Server) -> None:
    reply = server.post(MAP, "image/png", accept="image/png")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    assert shown(reply.body) == WANTED
    packed = server.post(zlib.compress(MAP), "image/png", accept="image/*", content_encoding="deflate")
    assert shown(packed.body) == WANTED


def test_lines_of_pictures_are_answered_by_lines(server: Server) -> None:
    body = b"".join(json.dumps({"segmap": uri(MAP)}).encode() + b"\n" for _ in range(3))
    reply = server.post(body, "application/jsonlines", accept="application/jsonlines")
    assert reply.status == 200
    assert [list(json.loads(line)) for line in reply.body.splitlines()] == [["image"]] * 3


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"segmap": uri(MAP, "image/jpeg")}, "says that it is image/jpeg, but its bytes are image/png."),
        ({"segmap": uri(MAP) + "\n"}, "white space at character"),
        ({"segmap": uri(MAP)[:-1]}, "with the right padding"),
        (
            {"segmap": uri(png([[[1, 2, 3]]]))},
            "The colour #010203 at x=0, y=0 is not in the palette; the nearest",
        ),
        ({"segmap": uri(png(np.zeros((65, 3, 3))))}, "this model takes at most 64 x 64."),
        ({"segmap": uri(png(np.zeros((9000, 9000))))}, "unpacks to 243000000 bytes; the limit is 1000000."),
        ({"segmap": uri(png([[0, 0, 0]])[:40])}, "The body, 'segmap': The"),
        ({"segmap": "data:image/png;base64," + "A" * 2_000_000}, "the limit is 1000000."),
        ({"map": ""}, "must be an object with a data URI under 'segmap'; it has 'map'."),
    ],
)
def test_what_is_wrong_with_a_picture_is_said_and_the_server_goes_on(server: Server, body: Any, sentence: str) -> None:
    reply = server.post(json.dumps(body))
    assert reply.status == 400
    assert sentence in reply.error["message"]
    assert server.post(MAP, "image/png").status == 200


def test_types_that_hold_no_picture_are_refused(server: Server) -> None:
    assert server.post(b"1,2", "text/csv").status == 415
    assert server.post(MAP, "image/png", accept="text/csv").status == 406


def test_tensors_by_name_are_as_without_a_declaration(server: Server) -> None:
    """The open inference protocol asks the network itself."""
    asked = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1, 2], "data": [0, 2]}]}
    reply = server.request("POST", "/v2/models/model/infer", json.dumps(asked), {"content-type": "application/json"})
    assert reply.status == 200
    (output,) = reply.json()["outputs"]
    assert (output["shape"], output["data"][:2]) == ([1, 3, 1, 2], [-1, 1])


def test_the_archives_example_is_compared_as_a_picture(tmp_path: Path) -> None:
    """Another compressor makes another file of the same picture; another picture is refused."""
    for name, pixels, ready in (("same", WANTED, True), ("other", [[[9, 9, 9]] * 3], False)):
        file = io.BytesIO()
        Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG", compress_level=9)
        example = {
            "request": {"file": "request.json", "content_type": "application/json", "accept": "application/json"},
            "response": {"file": "response.json", "content_type": "application/json"},
        }
        model = tmp_path / name / "model"
        model.mkdir(parents=True)
        write_files(model, files(IMAGE, example=example))
        (model / "request.json").write_text(json.dumps({"segmap": uri(MAP)}))
        (model / "response.json").write_text(json.dumps({"image": uri(file.getvalue())}))
        done = check(model)
        assert (done.returncode == 0) is ready, done.stdout + done.stderr
        said = done.stdout + done.stderr
        assert ready or "at $.image its pixel (x 0, y 0) is (0, 128, 255), expected was (9, 9, 9)." in said


def test_what_the_declaration_leaves_open_is_as_the_deployer_says() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGBA", (2, 1), (255, 0, 0, 0)).save(file, "PNG", exif=exif)
    manifest = {"format_version": 1, "files": {}, "image": {"input": {}}}
    shown_by = {"manifest.json": json.dumps(manifest), "code/inference.py": LOOKS}
    variables = {"TIDEGATE_IMAGE_ORIENTATION": "ignore", "TIDEGATE_IMAGE_BACKGROUND": "none"}
    with running(shown_by, **variables) as server:
        found = server.post(file.getvalue(), "image/png").json()
    assert found == {"shape": [1, 3, 1, 2], "colour": [1.0, 0.0, 0.0]}


def test_a_mistake_in_the_declaration_ends_the_start_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_files(tmp_path / "model", files({"input": {"pallete": {}}}))
    server = start(tmp_path, {})
    wait_until(lambda: server.process.poll() is not None, "the end", log=server.log)
    assert server.process.returncode == 1
    assert "manifest.json: image.input has the key 'pallete', which is unknown; did you mean palette?" in server.log()
