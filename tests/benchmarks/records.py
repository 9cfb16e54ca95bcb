"""Made-up records for the pure parts of the benchmark."""

from __future__ import annotations

from benchmarks.footprint import Footprint
from benchmarks.frontend import Carried
from benchmarks.grid import Cell
from benchmarks.trials import Trial


def cell(
    label: str,
    work: str = "W0",
    connections: int = 32,
    *,
    per_s: float = 100.0,
    repetition: int = 0,
    shape: str = "2x1 b8",
    outcomes: dict[str, int] | None = None,
    **values: float,
) -> Cell:
    fields = {"p50_ms": 1.0, "p99_ms": 1.2, "cpu_us": 40.0, "foreign_cores": 0.0, "stolen_cores": 0.0} | values
    return Cell(
        label=label,
        shape=shape,
        work=work,
        connections=connections,
        repetition=repetition,
        per_s=per_s,
        answered=100,
        failed=0,
        outcomes=outcomes or {},
        **fields,
    )


def footprint(label: str, *, repetition: int = 0, **values: float) -> Footprint:
    fields = {"health_s": 1.0, "answer_s": 1.1, "rest_mib": 400.0, "loaded_mib": 500.0} | values
    return Footprint(label=label, shape="2x1 b8", repetition=repetition, processes=4, **fields)


def carried(label: str, *, frontend_us: float, workers: int = 2, repetition: int = 0) -> Carried:
    return Carried(
        label=label,
        workers=workers,
        connections=64,
        repetition=repetition,
        per_s=9_000.0,
        p99_ms=9.0,
        frontend_us=frontend_us,
        workers_us=60.0,
        failed=0,
        foreign_cores=0.0,
    )


def trial(kind: str, label: str = "tidegate", **values: object) -> Trial:
    return Trial(kind=kind, label=label, values=dict(values))
