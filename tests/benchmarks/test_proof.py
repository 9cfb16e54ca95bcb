"""The benchmark of what a proof costs."""

from __future__ import annotations

import pytest

from benchmarks.proof import KINDS, measure, summary


def test_ratios_are_formed_within_a_round_and_the_control_is_shown() -> None:
    rounds = [dict(zip(KINDS, (1e-3, 2e-3, 0.5e-3, 1.1e-3), strict=True))] * 3
    rounds.append({kind: 10 * seconds for kind, seconds in rounds[0].items()})  # a slower machine, for a while
    *lines, repeated = summary("W1", rounds).splitlines()
    assert [line.split()[-2] for line in lines] == ["1.000", "2.000", "0.500", "1.100"]
    assert repeated == "W1 repeated once in 1000 batches: 0.30% of the joined ones"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_measured_on_batches_that_are_of_that_kind(kind: str) -> None:
    assert measure(kind, "W1", seconds=0) > 0
