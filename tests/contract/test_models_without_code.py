"""A classifier of pictures, a model of tables and one of plain tensors: saved, checked and served without any code.

Their archives hold the network's class and no inference.py. What the server answers is held against an oracle that is
written here from the published rules, with Pillow and numpy, and shares no line with either side.
"""

from __future__ import annotations

import base64
import io
import json
import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.contract.running import Server, running
from tests.contract.test_check import check
from tidegate.training_hooks import ArtifactError, save_model

LABELS = ["cat", "dog", "newt", "owl"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SHORTER, SIDE = 28, 24
SIZE = {"height": SIDE, "width": SIDE, "policy": "crop", "shorter_side": SHORTER}
JSON_LINES, NPY = "application/jsonlines", "application/x-npy"

NETWORKS = """
import torch
from torch import nn


class Seer(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
            nn.Linear(72, 4),
        )


class Pricer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weigh = nn.Linear(3, 1, bias=False)

    def forward(self, rows):
        return self.weigh(rows)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 2)

    def forward(self, named):
        return (self.table(named["ids"]) * named["mask"][..., None]).sum(1)
"""


def network(name: str) -> Any:
    """One of the networks, with weights that are the same in each run."""
    made: dict[str, Any] = {}
    exec(NETWORKS, made)  # noqa: S102 - the source that the archive carries
    torch.manual_seed(7)
    net = made[name]()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return net.eval()


def save(root: Path, name: str, **said: Any) -> Path:
    (root / "code").mkdir(parents=True)
    (root / "code/networks.py").write_text(NETWORKS)
    directory = root / "model"
    save_model(network(name), model_dir=directory, code_dir=root / "code", architecture=f"networks:{name}", **said)
    return directory


def files_of(directory: Path) -> dict[str, str | bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# --- pictures


def noise(mode: str = "RGB", height: int = 37, width: int = 52, seed: int = 3) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)


def written(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def see_through() -> Image.Image:
    """Half of it is transparent."""
    picture = noise("RGBA")
    picture.putalpha(Image.fromarray(np.where(np.arange(37 * 52).reshape(37, 52) % 2, 255, 0).astype(np.uint8)))
    return picture


def sideways(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return written(noise(), "JPEG", exif=exif, quality=95)


DEEP = np.random.default_rng(5).integers(0, 65536, (37, 52), dtype=np.uint16)

PICTURES = {
    "colours": written(noise()),
    "upright": written(noise(height=60, width=31)),
    "small": written(noise(height=9, width=14)),
    "grey": written(noise("L")),
    "grey of 16 bits": written(Image.fromarray(DEEP)),
    "palette": written(noise().convert("P", palette=Image.Palette.ADAPTIVE)),
    "transparent": written(see_through()),
    "CMYK": written(noise("CMYK"), "JPEG", quality=95),
    "turned right": sideways(6),
    "turned left": sideways(8),
    "mirrored": sideways(2),
}


def pixels_of(data: bytes) -> Image.Image:
    """RGB as a person sees it: upright by EXIF, transparent parts on white, greys of 16 bits as the nearest of 8."""
    picture = Image.open(io.BytesIO(data))
    orientation = picture.getexif().get(0x0112, 1)
    if picture.mode.startswith("I"):
        grey = np.rint(np.asarray(picture, np.float64) / 65535 * 255).astype(np.uint8)
        return Image.fromarray(np.stack([grey] * 3, -1))
    if picture.mode == "RGBA":
        values = np.asarray(picture)
        return Image.fromarray(np.where(values[..., 3:] == 255, values[..., :3], np.uint8(255)))
    array = np.asarray(picture.convert("RGB"))
    array = {1: array, 2: array[:, ::-1], 6: np.rot90(array, -1), 8: np.rot90(array, 1)}[orientation]
    return Image.fromarray(np.ascontiguousarray(array))


def oracle(data: bytes) -> list[tuple[str, float]]:
    """As torchvision documents Resize (of the shorter side, the other cut off), CenterCrop and Normalize."""
    picture = pixels_of(data)
    width, height = picture.size
    if width <= height:
        picture = picture.resize((SHORTER, int(SHORTER * height / width)), Image.Resampling.BILINEAR)
    else:
        picture = picture.resize((int(SHORTER * width / height), SHORTER), Image.Resampling.BILINEAR)
    width, height = picture.size
    left, top = round((width - SIDE) / 2.0), round((height - SIDE) / 2.0)
    picture = picture.crop((left, top, left + SIDE, top + SIDE))
    numbers = (np.asarray(picture, np.float64) / 255 - MEAN) / STD
    with torch.no_grad():
        scores = network("Seer")(torch.tensor(numbers.transpose(2, 0, 1)[np.newaxis], dtype=torch.float32))[0].tolist()
    powers = [math.exp(score - max(scores)) for score in scores]
    named = [(label, power / sum(powers)) for label, power in zip(LABELS, powers, strict=True)]
    return sorted(named, key=lambda pair: -pair[1])[:2]


def demand_alike(found: Any, data: bytes) -> None:
    wanted = oracle(data)
    assert [each["label"] for each in found] == [label for label, _ in wanted]
    assert [each["score"] for each in found] == pytest.approx([score for _, score in wanted], rel=1e-3, abs=1e-4)


SEER: dict[str, Any] = {
    "labels": LABELS,
    "mean": MEAN,
    "std": STD,
    "size": SIZE,
    "top_k": 2,
    "batching": {"max_batch_size": 4, "max_wait_ms": 20},
}


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("seer"), "Seer", example=noise(), **SEER)


@pytest.fixture(scope="module")
def server(seer: Path) -> Iterator[Server]:
    with running(files_of(seer), TIDEGATE_MAX_DECODED_BYTES="10000000") as started:
        yield started


def test_the_archive_is_checked_and_its_example_is_what_the_oracle_says(seer: Path) -> None:
    manifest = json.loads((seer / "manifest.json").read_text())
    assert not (seer / "code/inference.py").exists()
    assert manifest["classes"] == {"top_k": 2}
    demand_alike(json.loads((seer / "example/response.json").read_bytes()), PICTURES["colours"])
    done = check(seer)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the archive's example is answered as expected" in done.stdout


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_answered_by_its_labels(server: Server, name: str) -> None:
    data = PICTURES[name]
    kind = "jpeg" if data[:2] == b"\xff\xd8" else "png"
    reply = server.post(data, f"image/{kind}")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), reply.body
    demand_alike(reply.json(), data)
    demand_alike(server.post(json.dumps({"image": uri(data, kind)})).json(), data)


def test_lists_and_lines_are_answered_in_their_order(server: Server) -> None:
    several = [PICTURES["colours"], PICTURES["grey"], PICTURES["palette"]]
    records = [{"image": uri(data)} for data in several]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    for found in (
        server.post(json.dumps(records)).json(),
        [json.loads(line) for line in server.post(lines, JSON_LINES, accept=JSON_LINES).body.splitlines()],
    ):
        for answer, data in zip(found, several, strict=True):
            demand_alike(answer, data)
    (alone,) = server.post(json.dumps(records[:1])).json()
    demand_alike(alone, several[0])
    table = server.post(lines, JSON_LINES, accept="text/csv").body.decode().splitlines()
    assert [line.split(",")[0] for line in table] == [oracle(data)[0][0] for data in several]
    array = np.load(io.BytesIO(server.post(lines, JSON_LINES, accept=NPY).body))
    assert array.shape == (3, 4)
    assert array.sum(axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert [LABELS[best] for best in array.argmax(1)] == [oracle(data)[0][0] for data in several]


def test_clients_who_share_a_call_get_their_own_labels(server: Server) -> None:
    pictures = [written(noise(seed=seed)) for seed in range(12)]
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda data: server.post(data, "image/png"), pictures))
    for reply, data in zip(replies, pictures, strict=True):
        demand_alike(reply.json(), data)


def test_the_open_inference_protocol_gives_the_networks_own_scores(server: Server) -> None:
    shape = [1, 3, SIDE, SIDE]
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": [0.5] * math.prod(shape)}
    reply = server.request("POST", "/v2/models/model/infer", json.dumps({"inputs": [tensor]}))
    with torch.no_grad():
        wanted = network("Seer")(torch.full(shape, 0.5))[0].tolist()
    assert reply.json()["outputs"][0]["data"] == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (written(noise())[:99], "image/png", "The image cannot be read"),
        (json.dumps({"image": uri(written(noise())) + "\n"}), "application/json", "white space at character"),
        (json.dumps({"image": uri(written(noise()))[:-1]}), "application/json", "with the right padding"),
        (json.dumps({"image": uri(written(noise()), "jpeg")}), "application/json", "but its bytes are image/png"),
        ("[" * 100_000, "application/json", "nested too deeply"),
        (written(Image.new("1", (20_000, 20_000))), "image/png", "the limit is 10000000."),
    ],
)
def test_what_is_wrong_with_a_picture_is_400(server: Server, body: Any, content_type: str, sentence: str) -> None:
    reply = server.post(body, content_type)
    assert reply.status == 400
    assert sentence in reply.error["message"]


def test_labels_that_are_not_as_many_as_the_scores_are_found_at_the_save(tmp_path: Path) -> None:
    said = SEER | {"labels": LABELS[:3]}
    with pytest.raises(ArtifactError, match=r"the model gives 4 scores, and there are 3 labels"):
        save(tmp_path, "Seer", example=noise(), **said)
    assert not (tmp_path / "model/manifest.json").exists()


def test_labels_that_are_not_as_many_as_the_scores_are_found_at_the_load_and_in_each_answer(
    seer: Path, tmp_path: Path
) -> None:
    shutil.copytree(seer, tmp_path / "model")
    manifest = json.loads((seer / "manifest.json").read_text()) | {"files": {}}
    (tmp_path / "model/manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "model/labels.json").write_text('["cat", "dog", "newt"]')
    done = check(tmp_path / "model")
    assert done.returncode == 1
    assert "answered with 500: The model gives 4 scores, and there are 3 labels." in done.stdout + done.stderr
    del manifest["example"]
    (tmp_path / "model/manifest.json").write_text(json.dumps(manifest))
    with running(files_of(tmp_path / "model")) as server:
        reply = server.post(PICTURES["grey"], "image/png")
    assert (reply.status, reply.error["message"]) == (500, "The model gives 4 scores, and there are 3 labels.")


# --- tables


COLUMNS = ["rooms", {"name": "area", "missing": 80.5}, {"name": "year", "missing": 1990}]


def test_a_table_is_read_by_its_columns(tmp_path: Path) -> None:
    """With and without a header, in any order, from CSV and JSON; N records are N lines."""
    directory = save(tmp_path, "Pricer", columns=COLUMNS, example={"rooms": 2, "area": None, "year": 2001})
    weights = network("Pricer").weigh.weight.detach().double().numpy()[0]
    wanted = [float(np.dot(weights, row)) for row in ([2, 80.5, 2001], [3, 100, 1990])]
    with running(files_of(directory)) as server:
        for body, content_type in (
            ("2,,2001\n3,100,\n", "text/csv"),
            ("year,rooms,area\n2001,2,\n,3,100\n", "text/csv; charset=utf-8"),
            ('{"rooms": 2, "area": null, "year": 2001}\n{"year": null, "rooms": 3, "area": 100}\n', JSON_LINES),
            ("[[2, null, 2001], [3, 100, null]]", "application/json"),
        ):
            reply = server.post(body, content_type, accept="text/csv")
            assert [float(line) for line in reply.body.splitlines()] == pytest.approx(wanted, rel=1e-4), reply.body
        for body, sentence in (
            ('{"rooms": 2, "area": 3}', "The body lacks the column 'year'; this model takes 'rooms', 'area', 'year'."),
            ('{"rooms": 2, "area": 3, "years": 4}', "has the column 'years', which this model does not know; did you"),
            ("[[null, 1, 2]]", "Entry 0 of the list has no value for 'rooms', which this model requires."),
        ):
            reply = server.post(body)
            assert (reply.status, sentence in reply.error["message"]) == (400, True), reply.body


# --- tensors


def test_plain_tensors_are_checked_before_the_model_sees_them(tmp_path: Path) -> None:
    said = [
        {"name": "ids", "dtype": "int64", "shape": ["batch", "sequence"]},
        {"name": "mask", "dtype": "float32", "shape": ["batch", "sequence"]},
    ]
    body = {"ids": [[1, 2, 9]], "mask": [[1, 1, 0]]}
    directory = save(tmp_path, "Reader", tensors=said, activation="none", example=body)
    rows = network("Reader").table.weight.detach()
    wanted = sorted((rows[1] + rows[2]).tolist(), reverse=True)
    with running(files_of(directory)) as server:
        (found,) = server.post(json.dumps(body)).json()
        assert [each["score"] for each in found] == pytest.approx(wanted, rel=1e-5)
        odd = server.post(json.dumps(body | {"ids": [[1, 2.5, 9]]}))
        assert (odd.status, odd.error["message"]) == (
            400,
            "The tensor 'ids' holds 2.5 at [0, 1], which int64 cannot hold.",
        )
        longer = server.post(json.dumps(body | {"mask": [[1, 1]]}))
        assert "The tensor 'mask' has the shape (1, 2), and 'ids' another length" in longer.error["message"]
        known = server.request("GET", "/v2/models/model").json()["inputs"]
    assert known == [
        {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "mask", "datatype": "FP32", "shape": [-1, -1]},
    ]
