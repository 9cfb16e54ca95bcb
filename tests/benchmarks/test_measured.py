"""Numbers of one repetition beside each other."""

from __future__ import annotations

import math

import pytest

from benchmarks.measured import Measured, differences, median, quotients
from tests.benchmarks.records import cell


def test_a_ratio_is_formed_within_a_repetition_and_never_across() -> None:
    """The machine was three times slower in repetition 1: the ratio does not notice."""
    run = Measured(
        cells=[
            cell("tidegate", per_s=300.0, repetition=0),
            cell("mosec", per_s=200.0, repetition=0),
            cell("tidegate", per_s=100.0, repetition=1),
            cell("mosec", per_s=66.0, repetition=1),
            cell("mosec", per_s=1.0, repetition=2),  # ours was not measured in this one
        ]
    )
    ratios = quotients(run.cell("tidegate", "W0", 32), run.cell("mosec", "W0", 32))
    assert ratios == pytest.approx([1.5, 100 / 66])
    assert median(ratios) == pytest.approx((1.5 + 100 / 66) / 2)


def test_a_peer_without_a_good_answer_gives_no_ratio() -> None:
    assert quotients({0: 1.0}, {0: 0.0}) == []
    assert median([]) is None


def test_what_is_no_number_was_not_measured() -> None:
    run = Measured(cells=[cell("mosec", p50_ms=math.nan, repetition=0), cell("mosec", p50_ms=2.0, repetition=1)])
    assert run.cell("mosec", "W0", 32, "p50_ms") == {1: 2.0}


def test_a_difference_is_one_of_the_same_repetition() -> None:
    assert differences({0: 3.0, 1: 9.0}, {0: 1.0, 2: 1.0}) == [2.0]
