"""How well the painter keeps to maps that it has not seen, asked as a program asks: ModelLoader, data URIs, no server.

    python -m examples.paint.measure [MODEL_DIR]

Paints 20 maps of seeds that neither the training nor its validation used, and prints how many of their regions have a
mean colour that is nearest to that of their own class. Beside it stands the same for the true pictures of these maps
(no painter does better), for the pictures of other maps (chance), and the roughness, which a flat colour has none of.
Exit status 0 where nine in ten regions are right, 1 where not.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from examples.paint.regions import roughness, tally
from examples.paint.scenes import CLASSES, Scene, scene
from tidegate.inference.images import data_uri, reading, writing
from tidegate.model_loader import ModelLoader

FIRST_UNSEEN = 2_000_000
WANTED = 0.9
MAX_BYTES = 1 << 26


def main() -> int:
    """Paint and count; return the exit status."""
    parser = argparse.ArgumentParser(description="Count the regions that have the colour of their class.")
    parser.add_argument("model_dir", metavar="MODEL_DIR", nargs="?", default="build/paint/model", type=Path)
    parser.add_argument("--maps", type=int, default=20, help="how many (default: %(default)s)")
    parser.add_argument("--side", type=int, default=64, help="of a map, in pixels (default: %(default)s)")
    options = parser.parse_args()
    constants = json.loads((options.model_dir / "preprocessing.json").read_text(encoding="utf-8"))
    colours = np.array([constants["mean_colours"][name] for name in CLASSES])
    loader = ModelLoader("paint", configurations=options.model_dir / "code" / "models.yaml")

    seeds = range(FIRST_UNSEEN, FIRST_UNSEEN + options.maps)
    scenes = [scene(seed, height=options.side, width=options.side) for seed in seeds]
    painted = [paint(loader, each) for each in tqdm(scenes, desc="maps", leave=False, disable=None)]
    true = [each.picture for each in scenes]
    right = {
        name: tally(pairs(scenes, pictures), colours)
        for name, pictures in (("painted", painted), ("true", true), ("of other maps", [*true[1:], true[0]]))
    }
    for name, found in right.items():
        print(f"{name + ' pictures:':<24}{found.right} of {found.regions} regions are right: {found.share:.1%}")
    ratio = roughness(pairs(scenes, painted), len(CLASSES)) / roughness(pairs(scenes, true), len(CLASSES))
    print(
        "roughness of the true:  " + ", ".join(f"{name} {part:.0%}" for name, part in zip(CLASSES, ratio, strict=True))
    )
    return 0 if right["painted"].share >= WANTED else 1


def paint(loader: ModelLoader, asked: Scene) -> np.ndarray:
    """The picture of a scene's map, uint8 of shape (height, width, 3), by data URIs in both directions."""
    drawn = writing.image(loader.palette.paint(asked.labels))
    answer = loader.get_prediction(data_uri.write(drawn, "image/png"))
    return reading.pixels(data_uri.read(answer, max_bytes=MAX_BYTES).data, max_decoded_bytes=MAX_BYTES)


def pairs(scenes: list[Scene], pictures: list[np.ndarray]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Each map with its picture."""
    return zip((each.labels for each in scenes), pictures, strict=True)


if __name__ == "__main__":
    sys.exit(main())
