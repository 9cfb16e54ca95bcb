"""Draws requests per second and CPU per request from a results file. Runs in the environment `plot` (matplotlib)."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

TITLES = {"W0": "no-op JSON", "W1": "npy → MLP", "W2": "JPEG → ResNet-18"}


def median(cells: list[dict], label: str, work: str, connections: int, field: str) -> float:
    found = [
        cell[field]
        for cell in cells
        if (cell["label"], cell["work"], cell["connections"]) == (label, work, connections)
    ]
    return statistics.median(found) if found else 0.0


def draw(results: dict, target: Path) -> None:
    cells = results["cells"]
    works = sorted({cell["work"] for cell in cells})
    labels = list(dict.fromkeys(cell["label"] for cell in sorted(cells, key=lambda cell: cell["label"])))
    counts = sorted({cell["connections"] for cell in cells})
    figure, axes = plt.subplots(2, len(works), figsize=(5 * len(works), 8), squeeze=False)
    for column, work in enumerate(works):
        rates, cpu = axes[0][column], axes[1][column]
        for label in labels:
            ours = label.startswith("tidegate")
            rates.plot(
                range(len(counts)),
                [median(cells, label, work, count, "per_s") or float("nan") for count in counts],
                marker="o",
                label=label,
                linewidth=2.5 if ours else 1.2,
                linestyle="--" if "again" in label else "-",
            )
        loop = [limit["per_s"] for limit in results["limits"] if limit["work"] == work]
        if loop:
            rates.axhline(max(loop), color="black", linestyle=":", label="bare loop, best")
        rates.set_xticks(range(len(counts)), [str(count) for count in counts])
        rates.set(title=TITLES[work], xlabel="connections", ylabel="requests/s", yscale="log")
        values = [median(cells, label, work, counts[-1], "cpu_us") for label in labels]
        bars = cpu.barh(
            labels, values, color=["tab:blue" if label.startswith("tidegate") else "0.7" for label in labels]
        )
        cpu.bar_label(bars, fmt="%.0f", padding=3)
        cpu.set(xlabel=f"server CPU µs per request at {counts[-1]} connections", xmargin=0.2)
        cpu.invert_yaxis()
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", ncols=len(names), fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
