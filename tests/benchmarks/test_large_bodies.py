"""What the report on large bodies makes of its samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import large_bodies
from benchmarks.large_bodies import Held, Trip, Watch, Way


def trip(way: Way, own: float, mapped: float = 0.0) -> Trip:
    return Trip(
        way=way,
        body_mib=100.0,
        peak=Held(own=own, mapped=mapped),
        seconds=1.0,
        samples=10,
        longest_gap_s=0.02,
    )


def test_the_peak_is_that_of_the_sum_and_is_counted_from_what_is_held_at_rest() -> None:
    watch = Watch(samples=[Held(own=50, mapped=10), Held(own=60, mapped=30), Held(own=80, mapped=5)])
    assert watch.peak(Held(own=40, mapped=4)) == Held(own=20, mapped=26)


@pytest.mark.parametrize(
    ("way", "own", "mapped", "reached"),
    [
        (Way(name="a", script="a", max_bodies=2.2), 219.0, 0.0, True),
        (Way(name="a", script="a", max_bodies=2.2), 121.0, 100.0, False),
        (Way(name="a", script="a", max_mib=64.0), 64.0, 0.0, True),
        (Way(name="a", script="a", max_mib=64.0), 60.0, 5.0, False),
    ],
)
def test_mapped_pages_count_against_the_goal_and_are_named_apart(way, own, mapped, reached) -> None:
    found = trip(way, own, mapped)
    assert found.reached is reached
    assert f"| {own:,.0f} MiB | {mapped:,.0f} MiB |" in large_bodies.page([found], {"CPU": "one"})


def test_the_body_is_an_npy_file_of_the_size_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_bodies, "BUILD", tmp_path)
    path = large_bodies.make_body(3)
    assert path.stat().st_size == 3 * 1024 * 1024
    assert np.load(path)[-1] == len(np.load(path)) - 1
