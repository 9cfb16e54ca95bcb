"""Landscapes, made up: a map that says what is where, and a picture of it. Every class has a texture of its own.

A scene depends on its seed alone, so that "unseen" means a seed that no training used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CLASSES = ("sky", "cloud", "mountain", "forest", "meadow", "water", "sand", "brick")
SKY, CLOUD, MOUNTAIN, FOREST, MEADOW, WATER, SAND, BRICK = range(len(CLASSES))
GROUNDS = (MEADOW, WATER, SAND)
DOODLE_SHARE = 0.3  # people do not always draw the sky above

Random = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The classes, uint8 of shape (height, width), and the picture, uint8 of shape (height, width, 3)."""

    labels: np.ndarray
    picture: np.ndarray


def scene(seed: int, *, height: int = 64, width: int = 64) -> Scene:
    """Make up a landscape, or in some cases a doodle, whose areas lie anywhere."""
    chance = np.random.default_rng(seed)
    drawn = doodle if chance.random() < DOODLE_SHARE else landscape
    labels = drawn(chance, height, width)
    light = chance.uniform(0.88, 1.12) + chance.uniform(-0.03, 0.03, size=3)  # the hour, the weather
    picture = np.zeros((height, width, 3))
    for number, texture in enumerate(TEXTURES):
        inside = labels == number
        if inside.any():
            picture[inside] = texture(chance, height, width)[inside]
    return Scene(labels=labels, picture=np.clip(picture * light + 0.5, 0, 255).astype(np.uint8))


def landscape(chance: Random, height: int, width: int) -> np.ndarray:
    """Sky with clouds, mountains or a forest along the horizon, two grounds with a shore, and at times a castle."""
    rows = np.arange(height)[:, None] / height
    horizon = chance.uniform(0.35, 0.6) + 0.03 * curve(chance, width, 3)
    labels = np.full((height, width), SKY, np.uint8)
    clouds = noise(chance, height, width, cells=4)
    labels[(clouds > chance.uniform(0.55, 0.8)) & (rows < horizon - 0.1)] = CLOUD
    if chance.random() < 0.7:
        ridge = horizon - chance.uniform(0.1, 0.3) * (0.6 + 0.4 * curve(chance, width, 5))
        labels[rows > ridge] = MOUNTAIN
    if chance.random() < 0.7:
        trees = horizon - chance.uniform(0.02, 0.12) * (0.7 + 0.5 * curve(chance, width, 12))
        labels[rows > trees] = FOREST
    near, far = chance.choice(GROUNDS, size=2, replace=False)
    labels[rows > horizon] = far
    shore = horizon + chance.uniform(0.1, 0.35) + 0.15 * curve(chance, width, 3)
    labels[(rows > shore) & (rows > horizon)] = near
    if chance.random() < 0.4:
        build_castle(chance, labels, foot=int(height * min(0.95, float(np.mean(horizon)) + chance.uniform(0.05, 0.3))))
    return labels


def build_castle(chance: Random, labels: np.ndarray, *, foot: int) -> None:
    """Put a wall with two towers and battlements on the map."""
    height, width = labels.shape
    left = int(width * chance.uniform(0.05, 0.5))
    right = min(width, left + int(width * chance.uniform(0.25, 0.45)) + 1)
    wall, tower = (int(height * chance.uniform(*span)) for span in ((0.12, 0.22), (0.28, 0.45)))
    thick = max(1, (right - left) // 4)
    for begin, end, tall in ((left, right, wall), (left, left + thick, tower), (right - thick, right, tower)):
        labels[max(0, foot - tall) : foot, begin:end] = BRICK
        tooth = max(1, thick // 4)
        for battlement in range(begin, end, 2 * tooth):
            labels[max(0, foot - tall - tooth) : foot, battlement : min(end, battlement + tooth)] = BRICK


def doodle(chance: Random, height: int, width: int) -> np.ndarray:
    """Smooth areas of a few classes, anywhere."""
    several = chance.choice(len(CLASSES), size=chance.integers(2, 6), replace=False)
    strength = np.stack([noise(chance, height, width, cells=3) for _ in several])
    return several[strength.argmax(axis=0)].astype(np.uint8)


def curve(chance: Random, width: int, bends: int) -> np.ndarray:
    """A smooth line, one value from -1 to 1 for each column."""
    return 2 * noise(chance, 1, width, cells=bends)[0] - 1


def noise(chance: Random, height: int, width: int, *, cells: float, cells_down: float | None = None) -> np.ndarray:
    """Random values on a grid of `cells` across (and as many down), smooth between them: 0 to 1, (height, width)."""
    down = (np.arange(height) + 0.5) / height * (cells if cells_down is None else cells_down)
    across = (np.arange(width) + 0.5) / width * cells
    grid = chance.random((int(down[-1]) + 2, int(across[-1]) + 2))
    row, column = down.astype(int), across.astype(int)
    y, x = (place - cell for place, cell in ((down, row), (across, column)))
    y, x = (part * part * (3 - 2 * part) for part in (y, x))
    lines = grid[:, column] * (1 - x) + grid[:, column + 1] * x
    return lines[row] * (1 - y)[:, None] + lines[row + 1] * y[:, None]


def grain(chance: Random, height: int, width: int, *, pixels: float, pixels_down: float | None = None) -> np.ndarray:
    """Noise whose spots have that size: -1 to 1, (height, width)."""
    down = pixels if pixels_down is None else pixels_down
    return 2 * noise(chance, height, width, cells=width / pixels, cells_down=height / down) - 1


def mix(first: tuple[int, int, int], second: tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    """From the first colour (share 0) to the second (1)."""
    share = np.clip(share, 0, 1)[..., None]
    return np.asarray(first, float) * (1 - share) + np.asarray(second, float) * share


def sky(chance: Random, height: int, width: int) -> np.ndarray:
    """Deep above, pale below."""
    fall = np.linspace(0, 1, height)[:, None] + 0.08 * grain(chance, height, width, pixels=24)
    return mix((78, 138, 216), (176, 208, 238), fall)


def cloud(chance: Random, height: int, width: int) -> np.ndarray:
    """White, with soft grey."""
    return mix((206, 209, 216), (252, 250, 247), 0.6 + 0.6 * grain(chance, height, width, pixels=9))


def mountain(chance: Random, height: int, width: int) -> np.ndarray:
    """Grey rock with slanting creases."""
    rows, columns = np.mgrid[:height, :width]
    bent = 3 * grain(chance, height, width, pixels=12)
    creases = np.sin((columns + 0.7 * rows) / 2.2 + bent)
    return mix((84, 80, 86), (156, 148, 144), 0.5 + 0.35 * creases + 0.2 * grain(chance, height, width, pixels=3))


def forest(chance: Random, height: int, width: int) -> np.ndarray:
    """Dark crowns, each with a lit side."""
    crowns = grain(chance, height, width, pixels=5) + 0.5 * grain(chance, height, width, pixels=2)
    return mix((12, 48, 26), (58, 108, 50), 0.45 + 0.5 * crowns)


def meadow(chance: Random, height: int, width: int) -> np.ndarray:
    """Upright blades, and a few flowers."""
    blades = grain(chance, height, width, pixels=1.5, pixels_down=6)
    colours = mix((96, 158, 52), (168, 210, 88), 0.5 + 0.6 * blades)
    colours[chance.random((height, width)) < 0.015] = (250, 232, 120)
    return colours


def water(chance: Random, height: int, width: int) -> np.ndarray:
    """Level ripples on a deep blue."""
    ripples = grain(chance, height, width, pixels=14, pixels_down=2)
    return mix((16, 66, 122), (70, 136, 176), 0.4 + 0.6 * ripples)


def sand(chance: Random, height: int, width: int) -> np.ndarray:
    """Low waves, and grains."""
    rows = np.arange(height)[:, None]
    waves = np.sin(rows / 1.6 + 2.5 * grain(chance, height, width, pixels=16))
    return mix((204, 178, 120), (242, 222, 172), 0.5 + 0.3 * waves + 0.25 * grain(chance, height, width, pixels=1))


def brick(chance: Random, height: int, width: int) -> np.ndarray:
    """Courses of red bricks, each a little different, with pale joints."""
    rows, columns = np.mgrid[:height, :width]
    course = rows // 4
    place = columns + 4 * (course % 2)
    tone = chance.random((height // 4 + 1, width // 8 + 2))[course, place // 8]
    colours = mix((138, 52, 40), (188, 88, 62), tone)
    colours[(rows % 4 == 3) | (place % 8 == 7)] = (196, 176, 160)
    return colours


TEXTURES: tuple[Callable[[Random, int, int], np.ndarray], ...] = (
    sky, cloud, mountain, forest, meadow, water, sand, brick,
)  # fmt: skip
