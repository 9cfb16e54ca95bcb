"""Draws requests per second beside FastAPI's from a results file. Runs in the environment `plot` (matplotlib)."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

TITLES = {"W0": "no-op", "W1": "MLP", "W2": "ResNet-18"}
NAMES = {"fastapi": "FastAPI", "litserve": "LitServe", "torchserve": "AWS TorchServe"}
OURS, BATCHED, BESIDE = "tidegate", ", batches of ", "fastapi"
BLUE, GREY, INK = "#1f6feb", "#c3c9d2", "#24292f"
CONNECTIONS = 32


def rate(cells: list[dict], label: str, work: str) -> float | None:
    """The median of requests per second."""
    found = [each["per_s"] for each in cells if (each["label"], each["work"]) == (label, work)]
    return statistics.median(found) if found else None


def rows_of(cells: list[dict]) -> list[tuple[str, str]]:
    """(label, what the chart calls it), with a heading (no label) above those that batch and above those that do not.

    Ours comes first, then the fastest no-op.
    """
    labels = [each for each in {cell["label"] for cell in cells} if not each.endswith(", again")]
    labels.sort(key=lambda label: (label.split(",")[0] != OURS, -(rate(cells, label, "W0") or 0.0), label))
    rows = []
    for heading, batched in (("no batching", False), ("batches of 8", True)):
        chosen = [label for label in labels if (BATCHED in label) == batched]
        names = [label.split(",")[0] for label in chosen]
        if chosen:
            rows += [
                ("", heading),
                *((label, NAMES.get(name, name)) for label, name in zip(chosen, names, strict=True)),
            ]
    return rows


def draw(results: dict, target: Path) -> None:
    cells = [each for each in results["cells"] if each["connections"] == CONNECTIONS]
    works = [work for work in TITLES if any(each["work"] == work for each in cells)]
    rows = rows_of(cells)
    plt.rcParams.update({"font.size": 13, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK})
    figure, axes = plt.subplots(
        1, len(works), figsize=(max(11, 4.6 * len(works) + 1.8), 0.44 * len(rows) + 1.5), sharey=True, squeeze=False
    )
    for axis, work in zip(axes[0], works, strict=True):
        beside = rate(cells, BESIDE, work)
        for at, (label, name) in enumerate(rows):
            found = rate(cells, label, work)
            if found is None:
                continue
            value = found / (beside or 1.0)
            ours = name == OURS
            axis.barh(at, value, color=BLUE if ours else GREY, height=0.78)
            words = f"{value:.2f} x" if beside else f"{value:,.0f}"
            axis.annotate(
                words, (value, at), xytext=(6, 0), textcoords="offset points", va="center", color=INK,
                fontweight="bold" if ours else "normal", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        if beside:
            axis.axvline(1.0, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
        axis.set_title(TITLES[work], fontweight="bold", loc="left")
        axis.set_xlim(0, 1.3 * axis.get_xlim()[1] / 1.05)
        axis.set_xticks([])
        axis.tick_params(axis="y", length=0)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
    first = axes[0][0]
    first.set_yticks(range(len(rows)), [name for _, name in rows])
    for text, (label, name) in zip(first.get_yticklabels(), rows, strict=True):
        if not label:
            text.set(style="italic")
        elif name == OURS:
            text.set(color=BLUE, fontweight="bold")
    first.set_ylim(len(rows) - 0.4, -0.6)
    beside_words = ", as multiples of FastAPI's" if rate(cells, BESIDE, works[0]) else ""
    figure.suptitle(
        f"Requests per second with {CONNECTIONS} connections{beside_words} (longer is better)",
        x=0.01, ha="left", fontsize=15,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    figure.savefig(target, dpi=110, facecolor="white")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
