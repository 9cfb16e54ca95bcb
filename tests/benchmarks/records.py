"""Made-up records for the pure parts of the benchmark."""

from __future__ import annotations

from benchmarks.grid import Cell
from benchmarks.trials import Trial


def cell(
    label: str, work: str = "W0", connections: int = 32, *, per_s: float = 100.0, repetition: int = 0, **values: float
) -> Cell:
    fields = {"p50_ms": 1.0, "p99_ms": 1.2, "cpu_us": 40.0, "foreign_cores": 0.0, "stolen_cores": 0.0} | values
    return Cell(
        label=label,
        shape="2x1 b8",
        work=work,
        connections=connections,
        repetition=repetition,
        per_s=per_s,
        answered=100,
        failed=0,
        outcomes={},
        **fields,
    )


def trial(kind: str, label: str = "tidegate", **values: object) -> Trial:
    return Trial(kind=kind, label=label, values=dict(values))
