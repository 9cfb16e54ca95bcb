"""Write the tables of the walk-through: patients with diabetes, out of scikit-learn.

    python examples/tabular/data.py build/pipeline/data

442 patients with ten measurements each, and how far the disease had progressed a year later (Efron, Hastie, Johnstone
and Tibshirani, "Least Angle Regression", 2004). Four of five are there to train on; of the others only the
measurements are told, as of patients who come in:

    training/patients.csv     with names: the ten measurements and `progression`
    incoming/monday.csv       without names: an id and the ten measurements
    incoming/tuesday.csv      the same, of others
    one.csv                   the measurements of the first of them, without id
    outcome.csv               id and progression of those who came in, to see how good the model is
"""

import argparse
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes

HELD_OUT = 88
SEED = 7


def main() -> None:
    """Write the five files."""
    parser = argparse.ArgumentParser(description="Write the tables of docs/guides/pipeline.md.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    directory = parser.parse_args().directory
    bundled = load_diabetes(scaled=False)
    order = np.random.default_rng(SEED).permutation(len(bundled.target))
    rows, progression = bundled.data[order].tolist(), bundled.target[order].tolist()
    training = [[*row, outcome] for row, outcome in zip(rows[HELD_OUT:], progression[HELD_OUT:], strict=True)]
    write(directory / "training" / "patients.csv", [[*bundled.feature_names, "progression"], *training])
    incoming = [[f"p{number:03d}", *row] for number, row in enumerate(rows[:HELD_OUT])]
    write(directory / "incoming" / "monday.csv", incoming[: HELD_OUT // 2])
    write(directory / "incoming" / "tuesday.csv", incoming[HELD_OUT // 2 :])
    write(directory / "one.csv", [rows[0]])
    write(directory / "outcome.csv", [[row[0], outcome] for row, outcome in zip(incoming, progression, strict=False)])
    print(f"{directory}: {len(training)} patients to train on, {len(incoming)} who come in")


def write(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, its lines ending with a newline alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
