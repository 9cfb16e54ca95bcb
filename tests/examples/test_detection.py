"""examples/detection after its training: boxes of unseen pictures, alone, in batches, and by the demonstration."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from examples.detection.code.boxes import iou, non_maximum_suppression
from examples.detection.scoring import precision_and_recall
from examples.detection.shapes import LARGEST, SMALLEST, Shapes, shapes
from tests.examples.demonstrating import demonstrated
from tests.examples.loading import loaded, other_imports
from tests.training_hooks.artifacts import mismatches

ROOT = Path(__file__).parents[2]
DETECTION = ROOT / "examples" / "detection"
UNSEEN = range(4_000_000, 4_000_060)
MAX_PIXELS_APART = 1e-3
"""Sums are taken in another order in a larger tensor."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model of the whole training, which takes half a minute."""
    work_dir = tmp_path_factory.mktemp("detection")
    subprocess.run(
        [sys.executable, str(DETECTION / "train.py"), "--model-dir", str(work_dir / "model")],
        cwd=work_dir,
        check=True,
        timeout=900,
    )
    assert mismatches(work_dir / "model") == []
    return work_dir


@pytest.fixture(scope="module")
def code() -> Iterator[ModuleType]:
    with loaded(DETECTION / "code") as module:
        yield module


@pytest.fixture(scope="module")
def model(code: ModuleType, trained: Path) -> dict[str, Any]:
    return code.model_fn(str(trained / "model"))


def png(picture: Shapes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.picture).save(buffer, "PNG")
    return buffer.getvalue()


def answers(code: ModuleType, model: dict[str, Any], pictures: list[Shapes]) -> list[dict[str, Any]]:
    """What requests with these pictures are answered that share a call."""
    inputs = [code.input_fn(png(each), "image/png") for each in pictures]
    parts = code.split_fn(code.predict_fn(code.collate_fn(inputs), model), len(inputs))
    written = [code.output_fn(part, "application/json") for part in parts]
    assert {content_type for _, content_type in written} == {"application/json"}
    return [json.loads(body) for body, _ in written]


def test_shapes_of_unseen_pictures_are_found(code: ModuleType, model: dict[str, Any]) -> None:
    """Of sixty pictures of every size: with the right label, and a box that overlaps the true one by half or more."""
    pictures = [shapes(seed) for seed in UNSEEN]
    assert len({len(each.labels) for each in pictures}) > 4  # some have none, and no two need have as many
    precision, recall = precision_and_recall((answers(code, model, [each])[0] for each in pictures), pictures)
    assert precision > 0.85
    assert recall > 0.85


def test_pictures_that_share_a_call_are_answered_as_alone(code: ModuleType, model: dict[str, Any]) -> None:
    """Whatever the sizes of the others are: the padding is no part of a picture."""
    sizes = [(64, 64), (65, 160), (160, 67), (101, 99), (8, 9), (1, 1)]
    seeds = range(5_000_000, 5_000_000 + len(sizes) - 2)
    pictures = [shapes(seed, height=high, width=wide) for seed, (high, wide) in zip(seeds, sizes, strict=False)]
    pictures += [blank(high, wide) for high, wide in sizes[-2:]]
    together = answers(code, model, pictures)
    assert sum(len(each["boxes"]) for each in together) > 4
    for picture, among in zip(pictures, together, strict=True):
        (alone,) = answers(code, model, [picture])
        assert (alone["height"], alone["width"]) == picture.picture.shape[:2]
        assert [each["label"] for each in alone["boxes"]] == [each["label"] for each in among["boxes"]]
        for one, other in zip(alone["boxes"], among["boxes"], strict=True):
            np.testing.assert_allclose(one["box"], other["box"], atol=MAX_PIXELS_APART)
            np.testing.assert_allclose(one["score"], other["score"], atol=1e-4)


def blank(height: int, width: int) -> Shapes:
    return Shapes(
        picture=np.full((height, width, 3), 90, np.uint8), boxes=np.zeros((0, 4), np.float32), labels=np.zeros(0, int)
    )


def test_a_picture_without_shapes_has_no_boxes(code: ModuleType, model: dict[str, Any]) -> None:
    assert answers(code, model, [blank(80, 120)]) == [{"width": 120, "height": 80, "boxes": []}]


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"no picture", "image/png", "The picture cannot be used"),
        (b"{}", "application/json", "not application/json"),
        (png(blank(2001, 2000)), "image/png", "more than 4000000"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(
    code: ModuleType, body: bytes, content_type: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        code.input_fn(body, content_type)


def test_the_demonstration_finds_asks_at_once_and_draws(trained: Path, tmp_path: Path) -> None:
    """It takes the model that is there; all its checks hold, and the drawing is a picture."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    said = demonstrated("detection", "--build-dir", str(trained), temporary=temporary)
    assert "is trained already" in said
    assert re.search(r"of all boxes \d\d% are right, of all shapes \d\d+% are found", said)
    (calls,) = re.findall(r"40 answers from (\d+) calls: the same boxes", said)
    assert int(calls) <= 40
    with Image.open(trained / "boxes.png") as drawing:
        assert drawing.width > drawing.height > 100


def test_the_overlap_of_boxes() -> None:
    """From 0, where they only touch, to 1."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20]])
    torch.testing.assert_close(iou(boxes, boxes), torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]))
    assert iou(boxes, boxes[:0]).shape == (3, 0)


def test_the_best_box_of_each_thing_is_kept() -> None:
    """Boxes that overlap less than is said are about something else."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [6, 0, 16, 10], [40, 40, 50, 50]])
    scores = torch.tensor([0.6, 0.9, 0.8, 0.5])
    assert non_maximum_suppression(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert non_maximum_suppression(boxes, scores, 0.95).tolist() == [1, 2, 0, 3]
    assert non_maximum_suppression(boxes[:0], scores[:0], 0.5).tolist() == []


def test_a_picture_depends_on_its_seed_alone_and_its_boxes_lie_within() -> None:
    for seed in UNSEEN[:5]:
        one, same = shapes(seed), shapes(seed)
        assert np.array_equal(one.picture, same.picture)
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        assert ((sides >= SMALLEST) & (sides <= LARGEST)).all()
        assert (one.boxes >= 0).all()
        assert (one.boxes[:, 2:] <= [one.picture.shape[1], one.picture.shape[0]]).all()


def test_the_code_of_the_archive_stands_alone() -> None:
    assert other_imports(DETECTION / "code", {"torch", "numpy", "PIL", "boxes", "detector"}) == set()
