"""The benchmark of the start: differences are formed within a round, and its archives are served."""

from __future__ import annotations

from pathlib import Path

from benchmarks import start
from benchmarks.start import BARE, CONTROL, SERVER, Times, beyond_s, measure, prepare, rows


def test_a_difference_is_the_median_of_the_rounds_own_differences() -> None:
    """A slow round slows the bare start too, and says nothing about the server."""
    rounds = [
        {BARE: Times(1.0, 1.5), start.AGAIN: Times(1.0, 1.5), SERVER: Times(1.5, 1.75), CONTROL: Times(1.5, 2.0)},
        {BARE: Times(9.0, 9.5), start.AGAIN: Times(9.0, 9.5), SERVER: Times(9.0, 9.75), CONTROL: Times(9.5, 10.0)},
        {BARE: Times(2.0, 2.5), start.AGAIN: Times(2.0, 2.5), SERVER: Times(2.5, 9.0), CONTROL: Times(2.5, 3.0)},
    ]
    assert beyond_s(SERVER, rounds) == 0.25
    assert beyond_s(CONTROL, rounds) == 0.5
    assert rows("5 MB", start.COLD, rounds)[2] == "| 5 MB | cold | the server |  | 2.50 | 9.00 | +0.25 |"


def test_its_archive_is_served_with_reading_ahead_and_without(tmp_path: Path) -> None:
    archive = prepare("tiny", tmp_path, layers=1, width=4)
    for way in (SERVER, CONTROL):
        start.set_cache(archive, start.COLD)
        times = measure(way, archive)
        assert 0 < times.first_s <= times.last_s
    assert measure(BARE, archive).first_s > 0
