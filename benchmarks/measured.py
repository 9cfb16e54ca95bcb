"""Everything that one run measured, and how numbers of one repetition are set beside each other. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.footprint import BareStart, Footprint
from benchmarks.frontend import Carried
from benchmarks.grid import Cell, Failure, Limit
from benchmarks.trials import Trial

WORK_NAMES = {"W0": "no-op", "W1": "MLP", "W2": "ResNet-18"}
Rounds = Mapping[int, float]
"""A figure of each repetition."""


@dataclass(slots=True, kw_only=True)
class Measured:
    """The records, in the order in which they came."""

    cells: list[Cell] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    bare_starts: list[BareStart] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    shape_cells: list[Cell] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def parts(self) -> set[str]:
        """The parts of the benchmark that these records are from."""
        found = {"grid": self.cells, "frontend": self.carried, "shapes": self.shape_cells}
        return {part for part, records in found.items() if records} | {each.kind for each in self.trials}

    def cell(self, label: str, work: str, connections: int, what: str = "per_s") -> Rounds:
        """A field of a server's cells."""
        return rounds(
            (each.repetition, getattr(each, what))
            for each in self.cells
            if (each.label, each.work, each.connections) == (label, work, connections)
        )

    def limit(self, work: str, batch: int) -> Rounds:
        """Predictions of the bare loop in a second."""
        return rounds((each.repetition, each.per_s) for each in self.limits if (each.work, each.batch) == (work, batch))

    def footprint(self, label: str, what: str) -> Rounds:
        """A field of a server's footprints."""
        return rounds((each.repetition, getattr(each, what)) for each in self.footprints if each.label == label)

    def bare_start(self) -> Rounds:
        """Seconds that a start takes without a server."""
        return rounds((each.repetition, each.import_and_load_s) for each in self.bare_starts)

    def trial(self, kind: str, label: str) -> dict[str, Any] | None:
        """The values of a trial; None where it was not made, or failed."""
        return next((each.values for each in self.trials if (each.kind, each.label) == (kind, label)), None)


def rounds(found: Iterable[tuple[int, float]]) -> Rounds:
    """By repetition; what is not a number was not measured."""
    return {repetition: value for repetition, value in found if not math.isnan(value)}


def quotients(ours: Rounds, theirs: Rounds) -> list[float]:
    """Of the repetitions that have both; a peer without a good answer gives none."""
    return [ours[each] / theirs[each] for each in sorted(ours.keys() & theirs.keys()) if theirs[each] > 0]


def differences(ours: Rounds, theirs: Rounds) -> list[float]:
    """Of the repetitions that have both."""
    return [ours[each] - theirs[each] for each in sorted(ours.keys() & theirs.keys())]


def median(values: Sequence[float] | Rounds) -> float | None:
    """None of nothing."""
    found = list(values.values()) if isinstance(values, Mapping) else values
    return statistics.median(found) if found else None
