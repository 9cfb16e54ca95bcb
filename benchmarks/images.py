"""`python -m benchmarks.images`: palettes and data URIs beside what numpy and the standard library take at least.

A palette of 182 colours on maps of 1024 x 1024 pixels. The control is one look-up in a numpy table, `table[packed]`,
whose index has been made of the pixels already; it is measured twice in each round, and the ratio of the two is what
noise alone makes. Each round takes all in random order; a ratio is formed within a round, and the median counts.
"""

from __future__ import annotations

import argparse
import base64
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks import machine
from tidegate.inference.images import data_uri, reading, writing
from tidegate.inference.images.palette import Palette

RESULTS = Path(__file__).parent / "results" / "images.md"
CLASSES, SIDE = 182, 1024
CONTROL, AGAIN = "`table[packed]`", "`table[packed]`, again"
GOAL = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One thing that was done: the median of its times, and of its ratios to the control of the same round."""

    name: str
    milliseconds: float
    ratio: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    described = machine.describe()
    palettes = judge(measure(palette_work(), options.rounds), CONTROL)
    files = judge(measure(file_work(), options.rounds), FILE_CONTROL)
    options.output.write_text(report(described, palettes, files), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))


def measure(work: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each, by round."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for name in work:
        work[name]()  # what is made at the first call
    for _ in range(rounds):
        for name in random.sample(list(work), len(work)):
            started_s = time.perf_counter()
            work[name]()
            times[name].append(time.perf_counter() - started_s)
    return times


def judge(times: Mapping[str, Sequence[float]], control: str) -> list[Measured]:
    """The medians, in the order of the work."""
    return [
        Measured(
            name=name,
            milliseconds=statistics.median(seconds) * 1000,
            ratio=statistics.median(each / base for each, base in zip(seconds, times[control], strict=True)),
        )
        for name, seconds in times.items()
    ]


def palette_work() -> dict[str, Callable[[], Any]]:
    """The same map by every way: drawn cleanly, and with the blended edges of a drawing program."""
    numbers = np.random.default_rng(1)
    colours = np.unique(numbers.integers(0, 256, (4 * CLASSES, 3), dtype=np.uint8), axis=0)
    colours = numbers.permutation(colours)[:CLASSES]
    patches = numbers.integers(0, CLASSES, (SIDE // 16, SIDE // 16))
    pixels = colours[patches.repeat(16, 0).repeat(16, 1)]
    small = Image.fromarray(colours[patches.repeat(8, 0).repeat(8, 1)])
    blended = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    strict, nearest = Palette(colours.tolist()), Palette(colours.tolist(), unknown="nearest")
    table = np.zeros(1 << 24, np.uint8)
    table[_packed(colours[np.newaxis])[0]] = np.arange(CLASSES)
    packed = _packed(pixels)
    labels = strict.labels(pixels)
    if not (labels == table[packed]).all() or not (nearest.labels(pixels) == labels).all():
        raise RuntimeError("the ways do not agree about the labels: nothing is worth measuring")

    def new_to_the_palette() -> npt.NDArray[Any]:
        return Palette(colours.tolist(), unknown="nearest").labels(blended)

    return {
        CONTROL: lambda: table[packed],
        AGAIN: lambda: table[packed],
        "`table[pack(pixels)]`, with the index made": lambda: table[_packed(pixels)],
        '`Palette(unknown="error").labels`': lambda: strict.labels(pixels),
        '`Palette(unknown="nearest").labels`, all known': lambda: nearest.labels(pixels),
        '`Palette(unknown="nearest").labels`, blended edges': lambda: nearest.labels(blended),
        "the same, the first time for a palette": new_to_the_palette,
        "`Palette.paint`": lambda: strict.paint(labels),
    }


def _packed(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    wide = pixels.astype(np.uint32)
    packed: npt.NDArray[np.uint32] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


FILE_CONTROL = "`base64.b64decode`"


def file_work() -> dict[str, Callable[[], Any]]:
    """A picture of a megabyte as a data URI, and the ways from and to its pixels."""
    noise = np.random.default_rng(2).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC))
    floats = smooth.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    data = writing.image(noise)
    uri = data_uri.write(data, "image/png")
    payload = uri.partition(",")[2]
    png = writing.image(smooth)
    return {
        FILE_CONTROL: lambda: base64.b64decode(payload),
        FILE_CONTROL + ", again": lambda: base64.b64decode(payload),
        f"`data_uri.read` of {len(data) / 1e6:.1f} MB": lambda: data_uri.read(uri, max_bytes=1 << 30),
        f"`data_uri.write` of {len(data) / 1e6:.1f} MB": lambda: data_uri.write(data, "image/png"),
        "`reading.pixels` of a PNG of 256 x 256": lambda: reading.pixels(png, max_decoded_bytes=1 << 30),
        "`writing.image` of float32 (3, 256, 256) as PNG": lambda: writing.image(floats, value_range=(-1, 1)),
    }


def report(described: Mapping[str, str], palettes: Sequence[Measured], files: Sequence[Measured]) -> str:
    """The page."""
    ours = next(each for each in palettes if "error" in each.name)
    verdict = "reached" if ours.ratio <= GOAL else "not reached"
    facts = "\n".join(f"* {key}: {value}" for key, value in described.items() if key not in ("load", "Java"))
    return f"""# Pictures

`python -m benchmarks.images`: a palette of {CLASSES} colours on a map of {SIDE} x {SIDE} pixels, and data URIs. Times
and ratios are medians over the rounds; a ratio is formed in a round, and that of the control to itself is the noise.

{facts}

Goal: labels in at most {GOAL:g} x one look-up in a numpy table: {ours.ratio:.2f} x, {verdict}.

{_table("a palette", palettes)}

{_table("data URIs and files", files)}
"""


def _table(head: str, measured: Sequence[Measured]) -> str:
    rows = [f"| {each.name} | {each.milliseconds:.2f} ms | {each.ratio:.2f} |" for each in measured]
    return "\n".join([f"| {head} | time | to the control |", "| --- | --- | --- |", *rows])


if __name__ == "__main__":
    main()
