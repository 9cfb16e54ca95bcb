"""A handler class behind a real server: one item, several, pictures, shared calls, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.contract.asking import metric
from tests.contract.running import Server, running
from tests.tidegate import handler_guide
from tidegate import handler
from tidegate.training_hooks import pack
from tidegate.training_hooks.archive import PackedArchive

ROWS = """
import torch
from tidegate_handler import functions_of


class Rows(torch.nn.Linear):
    def __init__(self, model_dir):
        torch.manual_seed(0)
        super().__init__(4, 3)
        self.sizes = []

    def preprocess(self, item):
        if item == "sizes":
            return torch.full((4,), float("nan"))
        if len(item["x"]) > 4:
            raise ValueError("x has more than four numbers")
        return torch.tensor(item["x"], dtype=torch.float32)

    def forward(self, batch):
        self.sizes.append(len(batch))
        return torch.relu(super().forward(batch))

    def postprocess(self, output):
        return {"sizes": self.sizes} if output.isnan().any() else output.tolist()


model_fn, input_fn, predict_fn, output_fn = functions_of(Rows)
"""
COLOURS = """
import torch
from tidegate_handler import functions_of, read_image


class Colours:
    def __init__(self, model_dir): ...

    def preprocess(self, item):
        picture = read_image(item["picture"]) if isinstance(item, dict) else item
        return torch.tensor(picture.convert("RGB").getpixel((0, 0)), dtype=torch.float32)

    def forward(self, batch):
        return batch

    def postprocess(self, output):
        return output.int().tolist()


model_fn, input_fn, predict_fn, output_fn = functions_of(Colours)
"""
BATCHES = {"TIDEGATE_MAX_BATCH_SIZE": "8", "TIDEGATE_MAX_WAIT_MS": "50", "TIDEGATE_WORKERS": "1"}


@pytest.fixture(scope="module", params=["proved", "declared"])
def rows(request: pytest.FixtureRequest) -> Iterator[Server]:
    """With the file in the archive, and without it."""
    files: dict[str, Any] = {"code/inference.py": ROWS}
    if request.param == "declared":
        files["manifest.json"] = json.dumps({"format_version": 1, "files": {}, "batching": True})
        files["code/tidegate_handler.py"] = Path(handler.__file__).read_text(encoding="utf-8")
    with running(files, **BATCHES) as server:
        yield server


def row(number: int) -> dict[str, list[float]]:
    return {"x": [number / 7, 1 - number / 11, number % 5, 2.0]}


def test_requests_of_several_clients_share_a_call_and_are_answered_as_alone(rows: Server) -> None:
    """One item or several, in one call with those of others, after proofs or a declaration."""
    bodies = [json.dumps(row(number) if number % 3 else [row(number), row(number + 1)]) for number in range(24)]
    alone = [rows.post(body).json() for body in bodies]
    assert [isinstance(answer[0], list) for answer in alone] == [number % 3 == 0 for number in range(24)]

    def some_have_shared_a_call() -> bool:
        for answer, reply in zip(alone, clients.map(rows.post, bodies), strict=True):
            assert reply.status == 200, reply.body
            assert flat(reply.json()) == pytest.approx(flat(answer), rel=1e-4, abs=1e-5)
        joined = metric(rows, "tidegate_batch_joins_total", result="joined")
        return joined > 0 and max(rows.post('"sizes"').json()["sizes"]) > 2

    with ThreadPoolExecutor(24) as clients:
        rows.wait_until(some_have_shared_a_call, "some of those who ask have shared a call")


def flat(value: Any) -> list[float]:
    return [number for each in value for number in flat(each)] if isinstance(value, list) else [value]


def test_who_sends_something_wrong_is_told_which_item_it_is(rows: Server) -> None:
    reply = rows.post(json.dumps([row(1), {"y": 1}]))
    assert (reply.status, reply.error["message"]) == (400, "item 1: it has no 'x'")
    reply = rows.post(json.dumps([row(1), {"x": [1] * 5}]))
    assert (reply.status, reply.error["message"]) == (400, "item 1: x has more than four numbers")
    assert rows.post("{").status == 400
    assert rows.post(b"%PDF", "application/pdf").status == 415
    assert rows.post(json.dumps(row(1)), accept="image/png").status == 406
    assert rows.post('"sizes"', accept="application/x-npy").status == 406
    for accept in ("text/html, */*;q=0.1", "image/png, application/json"):
        assert rows.post(json.dumps([row(1)]), accept=accept).json() == rows.post(json.dumps([row(1)])).json()
    assert rows.post(json.dumps([row(1), row(2)]), accept="text/csv").body.count(b"\n") == 2
    assert rows.post("[]").json() == []


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(file, "PNG")
    return file.getvalue()


def test_pictures_are_items_as_bytes_and_as_data_uris(tmp_path: Path) -> None:
    """Out of an archive that `pack` wrote."""
    source = tmp_path / "source" / "code"
    source.mkdir(parents=True)
    (source / "inference.py").write_text(COLOURS)
    archive: PackedArchive = pack(source.parent, tmp_path / "model.tar.gz")
    assert "code/tidegate_handler.py" in archive.files
    files = {"code/inference.py": COLOURS, "code/tidegate_handler.py": Path(handler.__file__).read_text("utf-8")}
    with running(files) as server:
        assert server.post(png((1, 2, 3)), "image/png").json() == [1, 2, 3]
        uris = [f"data:image/png;base64,{base64.b64encode(png(each)).decode()}" for each in ((4, 5, 6), (7, 8, 9))]
        assert server.post(json.dumps(uris)).json() == [[4, 5, 6], [7, 8, 9]]
        assert server.post(json.dumps({"picture": uris[0]})).json() == [4, 5, 6]
        reply = server.post(json.dumps([uris[0], "data:image/png;base64,?"]))
        assert reply.status == 400
        assert "base64" in reply.error["message"]
        assert server.post(b"no picture", "image/png").status == 400


def test_the_guides_archive_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its script saved it: the server verifies it and asks its example."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text(handler_guide.INFERENCE)
    monkeypatch.chdir(tmp_path)
    exec(compile(handler_guide.TRAIN, "train.py", "exec"), {})  # noqa: S102 - the page is ours
    model = tmp_path / "model"
    files = {str(path.relative_to(model)): path.read_bytes() for path in sorted(model.rglob("*")) if path.is_file()}
    with running(files) as server:
        item = {"sepal": [5.1, 3.5], "petal": [1.4, 0.2]}
        assert server.post(json.dumps(item)).json()["label"] in {"setosa", "versicolor", "virginica"}
        assert len(server.post(json.dumps([item, item])).json()) == 2
        assert server.post(json.dumps([item, {"sepal": [1, 2]}])).error["message"] == "item 1: it has no 'petal'"
        assert "the archive's example is answered as expected" in server.log()
