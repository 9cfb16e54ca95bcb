"""examples/paint after a short training: as a job, as a library, and behind the real server."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from examples.paint.scenes import CLASSES, scene
from tests.contract.running import Server, running
from tests.processes import started
from tests.training_hooks.artifacts import manifest_of, mismatches

ROOT = Path(__file__).parents[2]
PAINT = ROOT / "examples" / "paint"
COLOURS = [
    tuple(bytes.fromhex(colour[1:]))
    for colour in yaml.safe_load((PAINT / "code" / "models.yaml").read_text())["paint"]["palette"]["colours"].values()
]
PNG, JSON = "image/png", "application/json"
MAX_LEVELS = 2
"""Of 255, between two processes or two batches: sums are taken in another order."""


def environment(work_dir: Path) -> dict[str, str]:
    """That of a training job whose /opt/ml is the work directory."""
    return os.environ | {"SM_MODEL_DIR": str(work_dir / "model"), "SM_OUTPUT_DIR": str(work_dir / "output")}


def python(*arguments: str, work_dir: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(work_dir),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The short training, and what it printed."""
    work_dir = tmp_path_factory.mktemp("paint")
    done = python(str(PAINT / "train.py"), "--quick", "--threads", "1", work_dir=work_dir, cwd=work_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return work_dir, done.stdout


@pytest.fixture(scope="module")
def files(trained: tuple[Path, str]) -> dict[str, bytes]:
    model_dir = trained[0] / "model"
    return {
        path.relative_to(model_dir).as_posix(): path.read_bytes() for path in model_dir.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def server(files: dict[str, bytes]) -> Iterator[Server]:
    """With the run that is served by itself, and calls that are joined."""
    with running(files, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_MAX_WAIT_MS="20") as server:
        yield server


@pytest.fixture(scope="module")
def strict(files: dict[str, bytes]) -> Iterator[Server]:
    """The same weights under the other run id, and no call that is joined."""
    with running(files, PAINT_RUN_ID="paint-strict", TIDEGATE_MAX_BATCH_SIZE="1") as server:
        yield server


def drawn(seed: int = 11, *, side: int = 64, mode: str = "RGB") -> Image.Image:
    """An unseen map in the colours of the palette."""
    labels = scene(4_000_000 + seed, height=side, width=side).labels
    return Image.fromarray(np.asarray(COLOURS, np.uint8)[labels]).convert(mode)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def request(image: bytes, media_type: str = PNG) -> str:
    return json.dumps({"segmap": f"data:{media_type};base64,{base64.b64encode(image).decode()}"})


def levels(image: bytes) -> Any:
    with Image.open(io.BytesIO(image)) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture).astype(int)


def picture_of(body: bytes) -> bytes:
    """The picture in a JSON answer."""
    answer = json.loads(body)
    assert answer.keys() == {"image"}
    beginning, _, data = answer["image"].partition(",")
    assert beginning == "data:image/png;base64"
    return base64.b64decode(data, validate=True)


def test_the_training_writes_an_artifact_that_paints_in_the_right_colours(trained: tuple[Path, str]) -> None:
    """One line of metrics an epoch, a verified artifact, and nine in ten regions of the held-out maps."""
    work_dir, printed = trained
    shares = re.findall(r"^epoch=\d .* validation_regions=([\d.]+)$", printed, re.MULTILINE)
    assert len(shares) == 5
    assert float(shares[-1]) >= 0.9, shares
    assert mismatches(work_dir / "model") == []
    manifest = manifest_of(work_dir / "model")
    assert manifest["metrics"]["validation_regions"] == pytest.approx(float(shares[-1]), abs=1e-4)
    assert {"code/inference.py", "code/generator.py", "code/models.yaml", "preprocessing.json"} <= set(
        manifest["files"]
    )
    assert json.loads((work_dir / "model" / "preprocessing.json").read_text())["mean_colours"].keys() == set(CLASSES)
    assert not (work_dir / "output" / "failure").exists()


def test_nine_in_ten_regions_of_unseen_maps_are_right_as_a_library_paints_them(trained: tuple[Path, str]) -> None:
    """By data URIs and without a server; the true pictures stand beside, and so does chance."""
    done = python("-m", "examples.paint.measure", str(trained[0] / "model"), work_dir=trained[0])
    assert done.returncode == 0, done.stdout + done.stderr
    shares = {
        name: float(share)
        for name, share in re.findall(
            r"^([\w ]+) pictures: .* regions are right: ([\d.]+)%$", done.stdout, re.MULTILINE
        )
    }
    assert shares["painted"] >= 90
    assert shares["true"] > 97
    assert shares["of other maps"] < 60


def test_the_demo_gets_the_same_picture_from_the_library_and_from_a_server(trained: tuple[Path, str]) -> None:
    """It takes the model that is there, asks both ways, and leaves the map and the picture."""
    done = python("-m", "examples.paint.demo", "--build-dir", str(trained[0]), work_dir=trained[0])
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "is trained already",
        "as a data URI: the library's picture",
        "as PNG in and out: the library's picture",
    ):
        assert line in done.stdout
    assert levels((trained[0] / "map.png").read_bytes()).shape == (256, 256, 3)
    assert levels((trained[0] / "picture.png").read_bytes()).shape == (256, 256, 3)


def test_the_server_takes_and_gives_data_uris_and_pictures(server: Server) -> None:
    """All four ways are the same picture, of the map's size."""
    image = png(drawn(side=50))
    pictures = []
    for body, content_type in ((request(image), JSON), (image, PNG)):
        for accept in (JSON, PNG):
            reply = server.post(body, content_type, accept=accept)
            assert (reply.status, reply.headers["content-type"]) == (200, accept), reply.body
            pictures.append(levels(picture_of(reply.body) if accept == JSON else reply.body))
    assert pictures[0].shape == (50, 50, 3)
    assert all(np.array_equal(pictures[0], each) for each in pictures)


def softened(picture: Image.Image) -> Image.Image:
    """Its edges as a browser draws them: mixtures of two colours."""
    return picture.resize((96, 96), Image.Resampling.BILINEAR)


def unpainted(picture: Image.Image) -> Image.Image:
    """The upper half as a canvas has it where nobody has drawn: transparent black."""
    canvas = picture.convert("RGBA")
    canvas.paste((0, 0, 0, 0), (0, 0, canvas.width, canvas.height // 2))
    return canvas


def test_soft_edges_and_unpainted_canvas_are_taken(server: Server) -> None:
    """Mixed colours are the nearest class's, and what nobody has painted is sky."""
    assert server.post(request(png(softened(drawn())))).status == 200
    bare = server.post(request(png(unpainted(drawn()))))
    assert bare.status == 200, bare.body
    as_sky = drawn()
    as_sky.paste(COLOURS[0], (0, 0, 64, 32))
    assert np.array_equal(levels(picture_of(bare.body)), levels(picture_of(server.post(request(png(as_sky))).body)))


def test_the_strict_run_names_the_colour_and_its_place(strict: Server) -> None:
    """Another colour, and transparency, are mistakes of the client."""
    assert strict.post(request(png(drawn()))).status == 200
    spotted = drawn()
    spotted.putpixel((7, 3), (255, 0, 255))
    reply = strict.post(request(png(spotted)))
    assert reply.status == 400
    assert "#ff00ff" in reply.error["message"]
    assert re.search(r"\b7\b.*\b3\b", reply.error["message"])
    assert strict.post(request(png(softened(drawn())))).status == 400
    assert strict.post(request(png(unpainted(drawn())))).status == 400


def test_a_map_of_too_many_pixels_is_refused(server: Server) -> None:
    """Painting takes memory by the pixel: 1024 x 1024 is the most, as `models.yaml` says."""
    reply = server.post(png(Image.new("RGB", (1024, 1025), COLOURS[0])), PNG)
    assert reply.status == 400
    assert (
        "The image is 1024 x 1025 pixels (width x height); this model takes at most 1048576" in reply.error["message"]
    )


@pytest.mark.parametrize(
    ("body", "content_type", "word"),
    [
        (request(b"\xff\xd8\xff\xe0 no png"), JSON, "image/png"),
        ('{"segmap": "data:image/png;base64,AA A="}', JSON, "base64"),
        ('{"segmap": "iVBORw0KGgo="}', JSON, "data"),
        ('{"image": "data:,"}', JSON, "segmap"),
        ("[1]", JSON, "segmap"),
        ("{", JSON, "JSON"),
        (b"\x89PNG\r\n\x1a\n", PNG, "image"),
    ],
)
def test_what_is_no_map_is_a_clients_mistake(server: Server, body: str | bytes, content_type: str, word: str) -> None:
    """One sentence, and the next map is painted."""
    reply = server.post(body, content_type)
    assert reply.status == 400, reply.body
    assert word in reply.error["message"]
    assert server.post(request(png(drawn()))).status == 200


def calls_and_requests(server: Server) -> tuple[float, float]:
    """How many calls the network had, and for how many requests: of those that its worker is done with."""
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(server.request("GET", "/metrics").body.decode())
        for sample in family.samples
    }
    return samples.get("tidegate_batch_size_count", 0.0), samples.get("tidegate_batch_size_sum", 0.0)


@pytest.mark.parametrize("asked", ["server", "strict"])
def test_many_clients_at_once_get_the_pictures_of_their_own_maps(asked: str, request: pytest.FixtureRequest) -> None:
    """Fifty requests with maps of two sizes, joined or not: each answer is what the map alone becomes."""
    maps = [png(drawn(seed, side=(32, 40)[seed % 2])) for seed in range(10)]
    server: Server = request.getfixturevalue(asked)
    alone = [levels(server.post(image, PNG, accept=PNG).body) for image in maps]
    calls_before, requests_before = calls_and_requests(server)
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda number: server.post(maps[number % 10], PNG, accept=PNG), range(50)))
    for number, reply in enumerate(replies):
        assert reply.status == 200, reply.body
        got = levels(reply.body)
        assert got.shape == alone[number % 10].shape
        assert np.abs(got - alone[number % 10]).max() <= MAX_LEVELS

    def all_are_counted() -> tuple[float, float] | None:
        # A worker says that it is done with a call after it has said its answers.
        calls, requests = calls_and_requests(server)
        return (calls, requests) if requests - requests_before >= len(replies) else None

    calls, requests = server.wait_until(all_are_counted, "all are counted")
    assert (requests - requests_before > calls - calls_before) is (asked == "server")


def test_an_unknown_run_id_keeps_the_server_from_starting(files: dict[str, bytes]) -> None:
    """The log says in one sentence which runs there are, and /ping never says yes."""
    with running(files, wait=False, PAINT_RUN_ID="monet") as server:
        server.wait_until(lambda: "There is no run 'monet'" in server.log(), "the run id was refused")
        assert "paint, paint-strict" in server.log()
        assert server.ended() == 1


def test_the_artifact_passes_the_check_and_is_packed(trained: tuple[Path, str], tmp_path: Path) -> None:
    model_dir = str(trained[0] / "model")
    done = python("-m", "tidegate", "check", model_dir, work_dir=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    archive = tmp_path / "model.tar.gz"
    done = python("-m", "tidegate", "pack", model_dir, "--output", str(archive), work_dir=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert archive.stat().st_size > 100_000


def test_a_stopped_job_saves_what_it_has(tmp_path: Path) -> None:
    """SIGTERM, as Spot interruptions send it, ends the job in the middle of an epoch, with a model."""
    with started(
        [
            sys.executable,
            str(PAINT / "train.py"),
            "--scenes",
            "32",
            "--batch-size",
            "8",
            "--epochs",
            "100000",
            "--threads",
            "1",
        ],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch=1 "):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "asked to stop" in rest
    assert mismatches(tmp_path / "model") == []


def test_a_resumed_job_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    """After losing its last epoch the job ends with the same weights."""
    import torch

    size = ("--scenes", "16", "--batch-size", "8", "--epochs", "2", "--threads", "1")
    arguments = (*size, "--checkpoint-dir", str(tmp_path / "checkpoints"))
    first = python(str(PAINT / "train.py"), *arguments, work_dir=tmp_path, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    expected = torch.load(tmp_path / "model" / "model.pth", weights_only=True)
    (tmp_path / "checkpoints" / "checkpoint-000000000002.pth").unlink()
    second = python(str(PAINT / "train.py"), *arguments, work_dir=tmp_path, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "resuming after epoch 1" in second.stdout
    resumed = torch.load(tmp_path / "model" / "model.pth", weights_only=True)
    torch.testing.assert_close(resumed, expected)


IN_ONE_PROCESS = """
import os, runpy, sys

script, *asked = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
for each in asked:
    sys.argv = [script, *each.split("=")]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print(each, end.code, flush=True)
"""
"""Runs a script once for each argument; importing torch takes longer than what is looked at."""


def test_odd_hyperparameters_are_refused(tmp_path: Path) -> None:
    """With the usual message of a command, before anything is made."""
    named = ("--batch-size 2", "number of scenes", "--seed must be", "--epochs and")
    arguments = ("--batch-size=1", "--scenes=8", "--seed=999999", "--epochs=-1")
    done = python("-c", IN_ONE_PROCESS, str(PAINT / "train.py"), *arguments, work_dir=tmp_path, cwd=tmp_path)
    assert done.stdout.splitlines() == [f"{each} 2" for each in arguments], done.stderr
    errors = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert [words in error for words, error in zip(named, errors, strict=True)] == [True] * 4, errors
    assert not (tmp_path / "model").exists()
