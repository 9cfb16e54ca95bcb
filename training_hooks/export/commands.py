"""The command export, and what it prints: lines of progress, a table, the notes; or one JSON object."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from ..errors import ArtifactError
from .candidates import CANDIDATES
from .choosing import Trial
from .exporting import Exported, export

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_commands(commands: Commands) -> None:
    """Add the command, which sets `run`."""
    exporting = commands.add_parser(
        "export",
        help="give a model forms that run faster on this machine",
        description="Build other forms of an artifact's model (ONNX, a compiled package, bfloat16), check each against "
        "the eager network on the artifact's example, measure both on this machine, and keep what is faster.",
    )
    exporting.add_argument("model_dir", metavar="MODEL_DIR", help="what save_model wrote, with an example")
    exporting.add_argument(
        "--to", metavar="FORM", required=True, help=f"{', '.join(CANDIDATES)}; several with commas; or auto, the best"
    )
    exporting.add_argument("--batch-sizes", metavar="N,…", help="rows that are timed; default: 1,8")
    exporting.add_argument(
        "--rtol", type=float, metavar="R", help="|form - eager| ≤ A + R·|eager|; default: the example's"
    )
    exporting.add_argument("--atol", type=float, metavar="A", help="absolute tolerance, see --rtol")
    exporting.add_argument("--latency-budget-ms", type=float, metavar="MS", help="limit for the largest batch")
    exporting.add_argument(
        "--dynamic",
        metavar="NAME:AXIS[=MAX]",
        action="append",
        default=[],
        help="an axis whose size may differ from the example; may be repeated; the batch axis always may",
    )
    exporting.add_argument(
        "--max-batch", type=int, metavar="N", default=1024, help="the most rows in a batch of a form"
    )
    exporting.add_argument(
        "--threads", type=int, metavar="N", help="threads of both networks; default: the cores of this machine"
    )
    exporting.add_argument(
        "--processor",
        metavar="LEVEL",
        default="native",
        help="instructions in compiled code: native, all of this processor (default), or x86-64-v3 for mixed fleets",
    )
    exporting.add_argument("--force", action="store_true", help="also keep forms that are not faster")
    exporting.add_argument("--timeout-s", type=_seconds, metavar="S", default=1800.0, help="limit for each candidate")
    exporting.add_argument("--json", action="store_true", help="print one JSON object")
    exporting.set_defaults(run=_export)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0; write one like 600")
    return value


def _export(chosen: argparse.Namespace) -> None:
    to = [name.strip() for name in chosen.to.split(",")]
    done = export(
        chosen.model_dir,
        to=to[0] if len(to) == 1 else to,
        batch_sizes=None if chosen.batch_sizes is None else _numbers(chosen.batch_sizes),
        rtol=chosen.rtol,
        atol=chosen.atol,
        latency_budget_ms=chosen.latency_budget_ms,
        dynamic=chosen.dynamic,
        max_batch=chosen.max_batch,
        threads=chosen.threads,
        processor=chosen.processor,
        force=chosen.force,
        timeout_s=chosen.timeout_s,
        on_progress=lambda line: print(f"export: {line}", file=sys.stderr, flush=True),  # noqa: T201 - as it goes
    )
    print(json.dumps(as_json(done), ensure_ascii=False, indent=2) if chosen.json else as_text(done))  # noqa: T201
    if to != ["auto"] and not any(trial.refused is None for trial in done.trials):
        raise ArtifactError(f"no form was kept: {'; '.join(f'{each.name}: {each.refused}' for each in done.trials)}")


def as_json(done: Exported) -> dict[str, Any]:
    """Return what was done, as `--json` prints it."""
    return {
        "model_dir": str(done.model_dir),
        "network": done.network,
        "kept": [form["name"] for form in done.kept],
        "forms": [_measured(trial) for trial in done.trials],
        "notes": list(done.notes),
    }


def as_text(done: Exported) -> str:
    """Return what was done as a table, best first, and the notes below it."""
    rows = [("form", "batch", "eager", "form", "ratio", "differs by", "")]
    for trial in done.trials:
        verdict = trial.refused or "kept"
        if trial.form is None:
            rows.append((trial.name, "", "", "", "", "", verdict))
            continue
        for rows_of, each in trial.form["measured"]["batches"].items():
            first = rows[-1][0] != trial.name
            rows.append(
                (
                    trial.name,
                    rows_of,
                    f"{each['eager_latency_ms']:.2f} ms",
                    f"{each['latency_ms']:.2f} ms",
                    f"{each['ratio']:.2f}",
                    f"{trial.form['parity']['largest_difference']:.2g}",
                    verdict if first else "",
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not done.kept:
        lines.append(f"{done.network} stays eager: nothing was kept.")
    return "\n".join([*lines, *(f"note: {note}" for note in done.notes)])


def _measured(trial: Trial) -> dict[str, Any]:
    form = trial.form or {}
    return {
        "name": trial.name,
        "kept": trial.refused is None,
        "refused": trial.refused,
        **{key: form[key] for key in ("kind", "settings", "requires", "parity", "measured") if key in form},
    }


def _numbers(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise ArtifactError(f"--batch-sizes is {text!r}; give numbers of rows, such as 1,8") from None
