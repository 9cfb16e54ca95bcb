"""Pictures of shapes, made up, with the boxes around them. A picture depends on its seed alone."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

LABELS = ("circle", "square", "triangle")
SMALLEST, LARGEST = 14, 44  # pixels that a shape is wide and high
MOST = 6
FINE = 4  # shapes are drawn so many times as large, for smooth edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """A picture, uint8 of shape (height, width, 3); its boxes, float32 (N, 4); their labels, int64 (N,)."""

    picture: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def shapes(seed: int, *, height: int | None = None, width: int | None = None) -> Shapes:
    """Make up a picture with up to six shapes, which may touch but hardly hide each other; of any size if not given."""
    chance = np.random.default_rng(seed)
    height = height or int(chance.integers(64, 161))
    width = width or int(chance.integers(64, 161))
    ground = chance.integers(40, 216, size=3)
    canvas = Image.new("RGB", (width * FINE, height * FINE), tuple(ground.tolist()))
    boxes, labels = [], []
    for _ in range(chance.integers(0, MOST + 1)):
        side = int(chance.integers(SMALLEST, LARGEST + 1))
        left, top = int(chance.integers(0, width - side + 1)), int(chance.integers(0, height - side + 1))
        box = (left, top, left + side, top + side)
        colour = chance.integers(0, 256, size=3)
        label = int(chance.integers(len(LABELS)))
        if np.abs(colour - ground).max() < 60 or any(overlaps(box, other) for other in boxes):
            continue
        draw(canvas, label, box, tuple(colour.tolist()))
        boxes.append(box)
        labels.append(label)
    small = np.asarray(canvas.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    noisy = small + chance.normal(0, 6, small.shape)
    return Shapes(
        picture=np.clip(noisy + 0.5, 0, 255).astype(np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
    )


def draw(canvas: Image.Image, label: int, box: tuple[int, int, int, int], colour: tuple[int, ...]) -> None:
    """Fill a shape that touches all edges of its box."""
    left, top, right, bottom = (FINE * edge for edge in box)
    brush = ImageDraw.Draw(canvas)
    match LABELS[label]:
        case "circle":
            brush.ellipse((left, top, right - 1, bottom - 1), fill=colour)
        case "square":
            brush.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        case "triangle":
            brush.polygon([(left, bottom - 1), (right - 1, bottom - 1), ((left + right) // 2, top)], fill=colour)


def overlaps(box: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two boxes share more than a tenth of the smaller one."""
    wide, high = (min(box[side + 2], other[side + 2]) - max(box[side], other[side]) for side in (0, 1))
    smaller = min((each[2] - each[0]) * (each[3] - each[1]) for each in (box, other))
    return max(wide, 0) * max(high, 0) > smaller / 10
