"""How good an answer is: each true box is found once at most, by a box of its label that overlaps it enough."""

from collections.abc import Iterable
from typing import Any

import torch

from examples.detection.code.boxes import iou
from examples.detection.shapes import LABELS, Shapes

MIN_IOU = 0.5


def pairs(answer: dict[str, Any], true: Shapes) -> list[tuple[int, int, float]]:
    """Which box of the answer is which true one: its place, that of the true one, and their IoU."""
    told = torch.tensor([each["box"] for each in answer["boxes"]]).reshape(-1, 4)
    overlaps = iou(told, torch.from_numpy(true.boxes))
    for place, each in enumerate(answer["boxes"]):
        overlaps[place, torch.from_numpy(true.labels) != LABELS.index(each["label"])] = 0
    found = []
    for place, row in enumerate(overlaps):  # the surest first
        if len(row) and row.max() >= MIN_IOU:
            found.append((place, int(row.argmax()), row.max().item()))
            overlaps[:, row.argmax()] = 0
    return found


def precision_and_recall(answers: Iterable[dict[str, Any]], true: Iterable[Shapes]) -> tuple[float, float]:
    """The share of the boxes in the answers that are right, and the share of the true ones that are found."""
    told = found = there = 0
    for answer, picture in zip(answers, true, strict=True):
        told += len(answer["boxes"])
        found += len(pairs(answer, picture))
        there += len(picture.labels)
    return found / max(told, 1), found / max(there, 1)
