"""The command: which cases, how long, and the page that they make."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from benchmarks import machine, processes
from benchmarks.open_streams import Figure
from benchmarks.repository import cold, faults, many, scan, switching, warm

RESULTS = Path(__file__).parents[1] / "results"
CASES: Mapping[str, tuple[str, Callable[..., list[Figure]]]] = {
    "switching": ("Switches of versions", switching.run),
    "scan": ("Limits", scan.run),
    "warm": ("Warm requests", warm.run),
    "many": ("Ten thousand models", many.run),
    "cold": ("Cold loads", cold.run),
    "faults": ("Faults", faults.run),
}


def main() -> int:
    """Measure what is asked for; other cases stay in the page as they were measured last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repository", description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES, help="one of them, again for another; default: all")
    parser.add_argument("--quick", action="store_true", help="seconds: to see that all works, not to quote")
    parser.add_argument("--output", type=Path, default=RESULTS / "repository.json", help="the page is beside it")
    options = parser.parse_args()
    processes.adopt_orphans()
    resource_tracker.ensure_running()  # before any server, with whose processes it would be ended
    results: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    missed = 0
    for case in options.case or CASES:
        described = {name: value for name, value in machine.describe().items() if name != "Java"}
        started = time.monotonic()
        figures = CASES[case][1](quick=options.quick)
        described["quick"] = str(options.quick)
        described["taken"] = f"{time.monotonic() - started:.0f} s"
        missed += sum(figure.reached is False for figure in figures)
        results[case] = {"machine": described, "figures": [dataclasses.asdict(figure) for figure in figures]}
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(page(results), encoding="utf-8")
        print(section(case, results[case]), file=sys.stderr)
    return int(missed > 0)


def page(results: Mapping[str, Any]) -> str:
    """The page benchmarks/results/repository.md."""
    sections = [section(case, results[case]) for case in CASES if case in results]
    made = "Made by `python -m benchmarks.repository`: all of it, or one `--case` after another."
    return "\n".join(["# Model repository", "", made, "", *sections])


def section(case: str, result: Mapping[str, Any]) -> str:
    """One case."""
    verdicts = {None: "", True: "reached", False: "**missed**"}
    rows = [
        f"| {each['measure']} | {each['goal']} | {each['found']} | {verdicts[each['reached']]} |"
        for each in result["figures"]
    ]
    told = ", ".join(f"{name}: {value}" for name, value in result["machine"].items())
    head = ["| measure | goal | found | verdict |", "| --- | --- | --- | --- |"]
    return "\n".join([f"## {CASES[case][0]} (`--case {case}`)", "", *head, *rows, "", f"{told}.", ""])
