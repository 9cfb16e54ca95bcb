"""Train a regression, give it a form of ONNX, and ask it with CSV for patients that it has not seen.

make example NAME=tabular                   (or: python -m examples tabular)
"""

import csv
import math
import sys
from pathlib import Path

from examples.demonstration import DemoFailed, Demonstration, arguments, run
from examples.narration import table

CSV = "text/csv"
SHOWN = 5


def main() -> int:
    """Run the demonstration; return the exit status."""
    return run(demonstrate, arguments("tabular", __doc__ or ""), steps=6)


def demonstrate(show: Demonstration) -> None:
    """From the tables to the estimates."""
    data = show.work / "data"
    with show.step("Write the tables: examples/tabular/data.py"):
        show.say(show.python("data", "examples/tabular/data.py", str(data)).strip().rpartition(": ")[2])
    with show.step("Train: examples/tabular/train.py"):
        show.train("examples/tabular/train.py", "--training", str(data / "training"))
    with show.step("Export: a form of ONNX, which is kept only where it answers as torch does"):
        exporting = ["-m", "tidegate", "export", str(show.model_dir), "--to", "onnx"]
        show.python("export", *exporting, echo="")
    with show.step("Check: tidegate check"):
        show.check(show.model_dir)
    with show.serving(show.model_dir) as server, show.step("Ask: all who come in, as CSV"):
        incoming = rows(data / "incoming" / "monday.csv") + rows(data / "incoming" / "tuesday.csv")
        body = "".join(",".join(measured) + "\n" for _, *measured in incoming)
        answer = server.ask(body.encode(), content_type=CSV, accept=CSV)
        estimates = [float(line) for line in answer.text.splitlines()]
        outcomes = [float(outcome) for _, outcome in rows(data / "outcome.csv")]
        people = zip(incoming, estimates, outcomes, strict=True)
        lines = [(patient, f"{estimate:.0f}", f"{outcome:.0f}") for (patient, *_), estimate, outcome in people]
        show.say(table([("patient", "estimate", "a year later"), *lines[:SHOWN]]))
        error = rmse(estimates, outcomes)
        usual = rmse([sum(outcomes) / len(outcomes)] * len(outcomes), outcomes)
        show.say(
            f"{len(lines)} patients: off by {error:.1f} (root mean square); their mean would be off by {usual:.1f}"
        )
        if error > 0.8 * usual:
            raise DemoFailed(f"The estimates are off by {error:.1f}, hardly better than the mean of all.")


def rows(path: Path) -> list[list[str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def rmse(estimates: list[float], outcomes: list[float]) -> float:
    """The root of the mean square of the differences."""
    return math.sqrt(sum((one - other) ** 2 for one, other in zip(estimates, outcomes, strict=True)) / len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
