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
OURS, BATCHED, BESIDE = "tidegate", ", batches of ", "fastapi"
BLUE, GREY, INK = "#1f6feb", "#c3c9d2", "#24292f"
CONNECTIONS = 32


def rate(cells: list[dict], label: str, work: str) -> float | None:
    """The median of requests per second."""
    found = [each["per_s"] for each in cells if (each["label"], each["work"]) == (label, work)]
    return statistics.median(found) if found else None


def rows_of(cells: list[dict]) -> list[tuple[str, str] | None]:
    """(label, what the chart calls it), those that batch below the others after a gap; the fastest no-op first."""
    labels = [each for each in {cell["label"] for cell in cells} if not each.endswith(", again")]
    labels.sort(key=lambda label: (label.split(",")[0] != OURS, -(rate(cells, label, "W0") or 0.0), label))
    alone = [(label, label) for label in labels if BATCHED not in label]
    batched = [(label, label.split(",")[0]) for label in labels if BATCHED in label]
    return [*alone, None, *batched] if batched else list(alone)


def draw(results: dict, target: Path) -> None:
    cells = [each for each in results["cells"] if each["connections"] == CONNECTIONS]
    works = [work for work in TITLES if any(each["work"] == work for each in cells)]
    rows = rows_of(cells)
    plt.rcParams.update({"font.size": 13, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK})
    figure, axes = plt.subplots(
        1, len(works), figsize=(4.6 * len(works) + 1.8, 0.44 * len(rows) + 1.7), sharey=True, squeeze=False
    )
    for axis, work in zip(axes[0], works, strict=True):
        beside = rate(cells, BESIDE, work)
        for at, row in enumerate(rows):
            found = rate(cells, row[0], work) if row else None
            if row is None or found is None:
                continue
            value = found / (beside or 1.0)
            ours = row[1] == OURS
            axis.barh(at, value, color=BLUE if ours else GREY, height=0.78)
            words = f"{value:.2f} x" if beside else f"{value:,.0f}"
            axis.text(value, at, f" {words}", va="center", color=INK, fontweight="bold" if ours else "normal")
        if beside:
            axis.axvline(1.0, color=INK, linewidth=1.0, linestyle=(0, (2, 2)))
        axis.set_title(TITLES[work], fontweight="bold", loc="left")
        axis.set_xlim(0, 1.3 * axis.get_xlim()[1] / 1.05)
        axis.set_xticks([])
        axis.tick_params(axis="y", length=0)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
    first = axes[0][0]
    named = [(at, row[1]) for at, row in enumerate(rows) if row]
    first.set_yticks([at for at, _ in named], [name for _, name in named])
    for text in first.get_yticklabels():
        if text.get_text() == OURS:
            text.set(color=BLUE, fontweight="bold")
    if None in rows:
        first.text(-0.02, rows.index(None), "in batches of 8:", ha="right", va="center", style="italic",
                   transform=first.get_yaxis_transform())  # fmt: skip
    first.invert_yaxis()
    beside_words = ", as multiples of FastAPI's" if rate(cells, BESIDE, works[0]) else ""
    figure.suptitle(
        f"Requests per second with {CONNECTIONS} connections{beside_words} (longer is better)",
        x=0.01, ha="left", fontsize=15,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 0.99))
    figure.savefig(target, dpi=110, facecolor="white")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
