"""Train the painter, ask it as a library, then ask it behind a server, and keep the pictures.

    make example NAME=paint                     (or: python -m examples paint)
    python -m examples paint --full             the whole training, some minutes

A model that examples/paint/train.py has left in build/paint/model is taken as it is. Writes build/paint/map.png, which
is as a browser would draw it, with soft edges, and build/paint/picture.png.
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.paint import measure
from examples.paint.scenes import scene
from tidegate.inference.images import data_uri, reading
from tidegate.model_loader import ModelLoader

SEED = 3_000_004
SIDE = 256
PNG = "image/png"
MAX_LEVELS = 2  # of 255, between two processes: sums are taken in another order


def main() -> int:
    """Run the demonstration; return the exit status."""
    parser = arguments("paint", __doc__ or "")
    parser.add_argument("--full", action="store_true", help="the whole training, in place of half a minute of it")
    parser.add_argument("--build-dir", type=Path, default="build/paint", help="default: %(default)s")
    return run(demonstrate, parser, steps=4)


def demonstrate(show: Demonstration) -> None:
    """From the training to the picture."""
    build_dir: Path = show.options.build_dir
    quick = [] if show.options.full else ["--quick", "--threads", "1"]
    with show.step(" ".join(["Train: examples/paint/train.py", *quick])):
        model_dir = show.trained(build_dir, "examples/paint/train.py", *quick)
    with show.step("Ask the library, without a server"):
        loader = ModelLoader("paint", configurations=model_dir / "code" / "models.yaml")
        drawn = drawn_map(loader)
        began = time.perf_counter()
        answer = loader.get_prediction(data_uri.write(drawn, PNG))
        show.say(f"{answer[:34]}… of {len(answer):,} characters in {time.perf_counter() - began:.2f} s")
        picture = data_uri.read(answer, max_bytes=measure.MAX_BYTES).data

    with show.serving(model_dir) as server, show.step("Ask the server for the same picture"):
        uri = server.ask({"segmap": data_uri.write(drawn, PNG)}).json()["image"]
        served = {
            "as a data URI": data_uri.read(uri, max_bytes=measure.MAX_BYTES).data,
            "as PNG in and out": server.ask(drawn, content_type=PNG, accept=PNG).body,
        }
        for how, other in served.items():
            show.say(f"{how}: the library's picture, no value is off by more than {difference(picture, other)} of 255")
    build_dir.mkdir(parents=True, exist_ok=True)
    for name, content in (("map.png", drawn), ("picture.png", picture)):
        (build_dir / name).write_bytes(content)
    print(f"\nThe map is {build_dir / 'map.png'}, the picture is {build_dir / 'picture.png'}.")


def drawn_map(loader: ModelLoader) -> bytes:
    """An unseen map as PNG, drawn four times as large as the scene and smoothed, so that edges mix two colours."""
    small = loader.palette.paint(scene(SEED).labels)
    large = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    return buffer.getvalue()


def difference(picture: bytes, other: bytes) -> int:
    """By how many levels of 255 two pictures differ at most, which must be next to nothing."""
    one, two = (reading.pixels(each, max_decoded_bytes=measure.MAX_BYTES).astype(int) for each in (picture, other))
    if one.shape != two.shape or (worst := int(np.abs(one - two).max())) > MAX_LEVELS:
        raise DemoFailed("The server's picture is another than the library's.")
    return worst


if __name__ == "__main__":
    sys.exit(main())
