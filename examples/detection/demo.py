"""Train the detector, have it find shapes in pictures of many sizes at once, and draw what it finds.

    make example NAME=detection                 (or: python -m examples detection)

A model that examples/detection/train.py has left in build/detection/model is taken as it is. Writes
build/detection/boxes.png: three pictures with the boxes that were found.
"""

import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.detection.scoring import pairs, precision_and_recall
from examples.detection.shapes import Shapes, shapes
from examples.narration import table
from examples.serving import Server

FIRST = 2_000_001  # no picture of this seed or one after it was seen in training
PICTURES = 40
DRAWN = 3
AT_ONCE = 8
MIN_SHARE = 0.85
MAX_DIFFERENCE = 1e-3  # of a pixel: float32 sums are taken in another order
SCALE = 2


def main() -> int:
    """Run the demonstration; return the exit status."""
    parser = arguments("detection", __doc__ or "")
    parser.add_argument("--build-dir", type=Path, default="build/detection", help="default: %(default)s")
    return run(demonstrate, parser, steps=6)


def demonstrate(show: Demonstration) -> None:
    """From the training to the boxes."""
    with show.step("Train: examples/detection/train.py, on pictures that it makes up"):
        model_dir = show.trained(show.options.build_dir, "examples/detection/train.py")
    with show.step("Check: tidegate check"):
        show.check(model_dir)
    unseen = [shapes(FIRST + number) for number in range(PICTURES)]
    with show.serving(model_dir, TIDEGATE_MAX_BATCH_SIZE=str(AT_ONCE)) as server:
        with show.step(f"Ask: {PICTURES} unseen pictures of any size, one after the other"):
            alone = [ask(server, each) for each in unseen]
            show.say(told(alone[0], unseen[0]))
            precision, recall = precision_and_recall(alone, unseen)
            show.say(
                f"of all boxes {precision:.0%} are right, of all shapes {recall:.0%} are found (IoU of 0.5 or more)"
            )
            if min(precision, recall) < MIN_SHARE:
                raise DemoFailed(f"At least {MIN_SHARE:.0%} of both were expected.")
        with show.step(f"Ask for all of them at once: up to {AT_ONCE} share a call, padded to the largest"):
            calls = calls_of(server)
            with ThreadPoolExecutor(AT_ONCE) as clients:
                together = list(clients.map(lambda each: ask(server, each), unseen))
            worst = max(difference(one, other) for one, other in zip(alone, together, strict=True))
            calls = calls_of(server) - calls
            show.say(f"{PICTURES} answers from {calls:.0f} calls: the same boxes, within {worst:.0e} of a pixel")
    with show.step("Draw the boxes"):
        show.options.build_dir.mkdir(parents=True, exist_ok=True)
        picture = show.options.build_dir / "boxes.png"
        fullest = sorted(range(PICTURES), key=lambda place: -len(unseen[place].labels))[:DRAWN]
        sheet = drawn([unseen[place] for place in fullest], [alone[place] for place in fullest])
        sheet.quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)
        show.say(str(picture))


def ask(server: Server, picture: Shapes) -> dict[str, Any]:
    """Have the shapes in a picture found."""
    buffer = io.BytesIO()
    Image.fromarray(picture.picture).save(buffer, "PNG")
    answer: dict[str, Any] = server.ask(buffer.getvalue(), content_type="image/png").json()
    return answer


def told(answer: dict[str, Any], true: Shapes) -> str:
    """An answer as a table, with how well each box fits a true one."""
    fits = {place: overlap for place, _, overlap in pairs(answer, true)}
    rows = [
        (
            each["label"],
            f"{each['score']:.2f}",
            " ".join(f"{edge:5.1f}" for edge in each["box"]),
            f"{fits.get(place, 0):.2f}",
        )
        for place, each in enumerate(answer["boxes"])
    ]
    size = f"{answer['width']} x {answer['height']} pixels with {len(true.labels)} shapes"
    return f"{size}\n" + table([("label", "score", " left   top right bottom", "IoU"), *rows])


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """By how many pixels the boxes of two answers are apart at most; they must be about the same things."""
    labels = [[each["label"] for each in answer["boxes"]] for answer in (one, other)]
    if labels[0] != labels[1]:
        raise DemoFailed(f"A picture has {labels[0]} alone, and {labels[1]} among others.")
    edges = [np.array([each["box"] for each in answer["boxes"]]).reshape(-1, 4) for answer in (one, other)]
    worst = float(np.abs(edges[0] - edges[1]).max(initial=0.0))
    if worst > MAX_DIFFERENCE:
        raise DemoFailed(f"A box is {worst:.1e} pixels off among others, allowed is {MAX_DIFFERENCE:.0e}.")
    return worst


def calls_of(server: Server) -> float:
    """How many calls the network has had."""
    found = re.search(r"^tidegate_batch_size_count\S* (\S+)$", server.metrics(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def drawn(pictures: list[Shapes], answers: list[dict[str, Any]]) -> Image.Image:
    """The pictures side by side, with the boxes that were found."""
    sizes = [(SCALE * each.picture.shape[1], SCALE * each.picture.shape[0]) for each in pictures]
    gap = 8
    sheet = Image.new("RGB", (sum(wide + gap for wide, _ in sizes) - gap, max(high for _, high in sizes)), "white")
    left = 0
    for each, answer, size in zip(pictures, answers, sizes, strict=True):
        large = Image.fromarray(each.picture).resize(size, Image.Resampling.NEAREST)
        brush = ImageDraw.Draw(large)
        for box in answer["boxes"]:
            edges = [SCALE * edge for edge in box["box"]]
            brush.rectangle(edges, outline="white", width=2)
            text = f"{box['label']} {box['score']:.2f}"
            place = (min(edges[0], size[0] - brush.textlength(text)), max(0, edges[1] - 12))
            brush.rectangle(brush.textbbox(place, text), fill="white")
            brush.text(place, text, fill="black")
        sheet.paste(large, (left, 0))
        left += size[0] + gap
    return sheet


if __name__ == "__main__":
    sys.exit(main())
